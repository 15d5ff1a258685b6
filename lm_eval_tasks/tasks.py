"""The class of the pack's multiple-choice tasks: demonstrations by group, all orders of the choices, option texts alone.

Every task is a short YAML file over `templates/_*.yaml`, which name this class, a loader (`sets.py`, `benchmarks.py`), the text
of the prompt (`contracts/prompts.py`) and the metrics (`metrics.py`).
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import Template
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.samplers import FirstNSampler
from transformers import PreTrainedTokenizerBase

from lm_eval_tasks.checking.beginning import find_asked
from lm_eval_tasks.checking.checked import CheckedTask
from lm_eval_tasks.checking.keys import check_typos
from lm_eval_tasks.checking.protocol import Group
from lm_eval_tasks.checking.task import check_task
from lm_eval_tasks.checking.tokenizer import load_tokenizer
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import BARE_CUE, CHAT_ENDING, LETTERS
from lm_eval_tasks.contracts.questions import normalise
from lm_eval_tasks.metrics import log_rotated_probe
from lm_eval_tasks.sets import load_questions

PAPER_SEED = 42  # of the paper's shuffle of the dev questions


class QuestionTask(CheckedTask):
    """A multiple-choice task whose demonstrations come from the dev questions of the question's own group.

    What it looks up in `metadata`, where a template's values, `--model_args` and `--metadata` come together:

    - `prompt` (`probe`, `context`, `chat`), `scoring` (`letter`, `cloze`), set by the template;
    - `demonstrations_by`: the columns that a question and its demonstrations share (source and domain);
    - `paper`: demonstrations in the paper's order, and the token scored that the paper scores;
    - `draw`, `shots`, `order`, `too_long`, `too_long_to`, `may_leave_out`: of the run, see README.md.
    """

    def __init__(self, config: dict[str, Any], **kwargs: Any) -> None:
        config = {key: value for key, value in config.items() if key != "class"}
        metadata = config["metadata"] = config["metadata"] | {"task": config["task"]}
        check_typos(metadata, config["task"])
        self.cyclic = metadata.get("order") == "cyclic"
        if self.cyclic != (config["process_results"] is log_rotated_probe):
            what = "only its cyclic variant asks" if self.cyclic else "it asks"
            raise UserError(f"{config['task']}: {what} every order of the choices. Leave `order` out of --metadata.")
        self.chat = metadata["prompt"] == "chat"
        if metadata.get("shots") is not None and not self.chat:
            config["num_fewshot"] = self._read_number("shots", metadata["shots"], config["task"])
        self._log = config["process_results"]
        self.grouped_by = tuple(metadata.get("demonstrations_by", ("source", "domain")))
        super().__init__(config=config, **kwargs)
        draw = self._read_number("draw", metadata.get("draw", 0), config["task"])
        self.samplers = self._group_demonstrations(draw)
        if metadata.get("paper"):
            self.config.target_delimiter = self._find_delimiter()

    @staticmethod
    def _read_number(name: str, value: Any, task: str) -> int:
        if type(value) is not int or value < 0:
            raise UserError(f"{task}: {name} {value!r} is not a whole number from 0 on. Mend it in --metadata.")
        return value

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **_: Any) -> None:
        """Load the questions: the template's loader gets the metadata, and what the task's own file fixes over it."""
        fixed = dataset_kwargs or {}
        given = self.config.metadata
        for name, value in fixed.items():
            if given.get(name) not in (None, value, [value]):
                raise UserError(
                    f"{self.config.task} has the {name} {value!r}, not {given[name]!r}. Leave it out of --metadata."
                )
        self.dataset = self.config.custom_dataset(**given | fixed | {"begins": find_asked(given)})

    # --- demonstrations

    def find_group(self, row: dict[str, Any]) -> Group:
        """The values that a question shares with its demonstrations."""
        return tuple(row[name] for name in self.grouped_by)

    def _group_demonstrations(self, draw: int) -> dict[Group, FirstNSampler]:
        groups: dict[Group, list[dict[str, Any]]] = defaultdict(list)
        for row in self.dataset["dev"]:
            groups[self.find_group(row)].append(row)
        for group, rows in groups.items():
            if self.config.metadata.get("paper"):
                random.Random(PAPER_SEED + draw).shuffle(rows)  # as random.seed, and random.shuffle of the row numbers
            elif draw:
                random.Random(f"{draw} {group}").shuffle(rows)
        self._prints = defaultdict(set, {group: {normalise(row) for row in rows} for group, rows in groups.items()})
        return {group: FirstNSampler(rows) for group, rows in groups.items()}

    @property
    def spares(self) -> bool:
        """Whether a question that is a dev question too is asked without itself: not in benchmarks, nor in the paper's way."""
        return self.config.custom_dataset is load_questions and not self.config.metadata.get("paper")

    def find_others(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """The dev questions that may be shown before a question: those of its group that are not the question itself."""
        shown, own = self.samplers.get(self.find_group(row), FirstNSampler([])), normalise(row)
        return [dev for dev in shown.df if normalise(dev) != own]

    def fewshot_context(self, doc: dict[str, Any], num_fewshot: int, **kwargs: Any) -> Any:
        """The prompt of one question; as lm-eval's, with the demonstrations of the question's own group."""
        if self.chat != bool(kwargs.get("apply_chat_template")):
            remedy = "add --apply_chat_template" if self.chat else "leave out --apply_chat_template"
            raise UserError(f"{self.config.task} is a {'chat' if self.chat else 'few-shot'} task: {remedy}.")
        if num_fewshot:
            group = self.find_group(doc)
            self.sampler = self.samplers.get(group, FirstNSampler([]))
            if self.spares and normalise(doc) in self._prints[group]:
                self.sampler = FirstNSampler(self.find_others(doc))
            if len(self.sampler.df) < num_fewshot:
                raise UserError(
                    f"{self.config.task}: {num_fewshot} demonstrations wanted for {'/'.join(group)}, but its dev split has "
                    f"{len(self.sampler.df)} questions. Add dev questions, or set --num_fewshot."
                )
        prompt = super().fewshot_context(doc, num_fewshot, **kwargs)
        if self.chat and not prompt.endswith(CHAT_ENDING):
            raise UserError(
                f"{self.config.task}: its chat template ends in {prompt[-20:]!r}, but training ends in {CHAT_ENDING!r}. "
                "Give the tokenizer the template that training uses, lm_eval_tasks/templates/vicuna.jinja."
            )
        return prompt

    @staticmethod
    def resolve_field(doc: dict[str, Any], field: str | None = None) -> Any:
        """lm-eval's, which compiles the template of the description anew for every question: most of the time it takes."""
        return field and (doc[field] if field in doc else _compile(field).render(**doc))

    # --- checks

    def check(self, settings: Mapping[str, Any] | None = None) -> None:
        """Raise a `UserError` for the first thing that is wrong with the task, asked as it needs where nothing else is said."""
        super().check({"apply_chat_template": self.chat} if settings is None else settings)

    def check_asked(self, settings: Mapping[str, Any]) -> None:
        """The checks themselves (see `checking.task.check_task`)."""
        check_task(self, settings)

    # --- requests

    def doc_iterator(
        self, *, rank: int = 0, limit: int | None = None, world_size: int = 1, samples: list[int] | None = None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """A limit ends after a whole question, and each process gets whole questions: all orders of one, whose stem `hf-prefix`
        then computes once.
        """
        apart = self.cyclic and not samples
        shares = {} if apart else {"rank": rank, "world_size": world_size}
        number = -1
        for doc_id, doc in super().doc_iterator(limit=self.round_limit(limit), samples=samples, **shares):
            number += apart and doc["order"] == 0
            if not apart or number % world_size == rank:
                yield doc_id, doc

    def round_limit(self, limit: int | None) -> int | None:
        """The limit, moved on to the next question's first row where a question has a row for each order."""
        if not limit or not self.cyclic:
            return limit
        orders = self.dataset["test"]["order"]
        return next((i for i in range(int(limit), len(orders)) if orders[i] == 0), len(orders))

    def choices_of(self, doc: dict[str, Any]) -> list[str]:
        """The continuations that are scored, one a choice, as lm-eval sends them (in a chat it adds no delimiter)."""
        delimiter = "" if self.chat else self.config.target_delimiter
        return [f"{delimiter}{choice}" for choice in self.doc_to_choice(doc)]

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """lm-eval's requests, one a choice; where option texts are scored, then the same after the bare cue."""
        requests = super().construct_requests(doc, ctx, **kwargs)
        if self.config.metadata["scoring"] == "cloze":
            cue = BARE_CUE[self.config.metadata["prompt"]]
            requests += [
                Instance("loglikelihood", doc, (cue, choice), number, metadata=kwargs["metadata"])
                for number, choice in enumerate(self.choices_of(doc), len(requests))
            ]
        return requests

    def process_results(self, doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, float]:
        """Log the probe, and return the metrics of lm-eval's table (under --predict_only its stand-in, `bypass`)."""
        metrics = self._log(doc, results)
        return {name: metrics.get(name, 999) for name in self._aggregation_list}

    def _find_delimiter(self) -> str:
        """What stands between "Answer:" and the letter so that the token scored is the paper's."""
        if (tokenizer := load_tokenizer(self.config.metadata)) is None:
            return " "
        letters = LETTERS[: max(map(len, self.dataset["test"]["choices"]))]
        if (delimiter := find_delimiter(tokenizer, letters)) is None:
            raise UserError(
                f"{self.config.task}: the paper scores the last token of tokenizer({letters[0]!r}), but in this tokenizer that "
                "is the token of neither ' A' nor 'A' after 'Answer:' for all letters. Ask with the task without `_paper`."
            )
        return delimiter


@lru_cache
def _compile(template: str) -> Template:
    return utils.env.from_string(template)


def find_delimiter(tokenizer: PreTrainedTokenizerBase, letters: Sequence[str]) -> str | None:
    """The delimiter after which each letter is the one token that the paper scores, `tokenizer(letter).input_ids[-1]`.

    Args:
        tokenizer: of the model that is asked.
        letters: the letters that are scored.

    Returns:
        A space (SentencePiece), nothing (byte-level tokenizers), or None where neither gives that token.
    """

    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    cue = f"\n{BARE_CUE['probe']}"
    for delimiter in (" ", ""):
        # lm-eval takes what is left of prompt and continuation after the tokens of the prompt.
        scored = [encode(f"{cue}{delimiter}{letter}")[len(encode(cue)) :] for letter in letters]
        if scored == [[tokenizer(letter)["input_ids"][-1]] for letter in letters]:
            return delimiter
    return None
