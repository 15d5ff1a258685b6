"""The class of the pack's multiple-choice tasks: all orders of the choices, option texts alone.

Every task is a short YAML file over `templates/_*.yaml`, which name this class, a loader (`sets.py`, `benchmarks.py`), the text
of the prompt (`contracts/prompts.py`) and the metrics (`metrics.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from transformers import PreTrainedTokenizerBase

from lm_eval_tasks.checking.task import check_task
from lm_eval_tasks.checking.tokenizer import load_tokenizer
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import BARE_CUE, CHAT_ENDING, LETTERS
from lm_eval_tasks.demonstrations import DemonstratedTask, prepare_config
from lm_eval_tasks.metrics import log_rotated_probe
from lm_eval_tasks.sets import load_questions


class QuestionTask(DemonstratedTask):
    """A multiple-choice task.

    What it looks up in `metadata` beside what `DemonstratedTask` does:

    - `scoring` (`letter`, `cloze`), set by the template;
    - `paper`: the token scored that the paper scores;
    - `order`, `too_long`, `too_long_to`, `may_leave_out`: of the run, see README.md.
    """

    def __init__(self, config: dict[str, Any], **kwargs: Any) -> None:
        config = prepare_config(config)
        metadata = config["metadata"]
        self.cyclic = metadata.get("order") == "cyclic"
        if self.cyclic != (config["process_results"] is log_rotated_probe):
            what = "only its cyclic variant asks" if self.cyclic else "it asks"
            raise UserError(f"{config['task']}: {what} every order of the choices. Leave `order` out of --metadata.")
        self.ending = CHAT_ENDING if metadata["prompt"] == "chat" else ""
        self._log = config["process_results"]
        super().__init__(config=config, **kwargs)
        if metadata.get("paper"):
            self.config.target_delimiter = self._find_delimiter()

    @property
    def own(self) -> bool:
        """Whether its questions are of a question set of one's own, and not a benchmark's."""
        return self.config.custom_dataset is load_questions

    @property
    def spares(self) -> bool:
        """Whether a question that is a dev question too is asked without itself: not in benchmarks, nor in the paper's way."""
        return self.own and not self.config.metadata.get("paper")

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
