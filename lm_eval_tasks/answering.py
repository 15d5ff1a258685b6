"""What lm-eval calls to ask free-form questions: which are asked, how often each is answered, and what is logged.

The tasks are in `answering/`; `contracts/logs/answers.py` reads what they log. lm-eval clones a request as often as `repeats`
says, but its default filter keeps the first response alone, so that this class sets its own.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import polars as pl
from lm_eval.api.instance import Instance
from lm_eval.filters import build_filter_ensemble

from lm_eval_tasks.checking.adapter import check_adapter
from lm_eval_tasks.checking.base import check_base
from lm_eval_tasks.checking.beginning import check_beginning, find_trained
from lm_eval_tasks.checking.flaws import leave_out_flawed
from lm_eval_tasks.checking.rendering import make_writer
from lm_eval_tasks.checking.task import find_shown
from lm_eval_tasks.checking.tokenizer import load_tokenizer
from lm_eval_tasks.checking.too_long import read_choice
from lm_eval_tasks.checking.writing import find_own_limit, leave_out_long
from lm_eval_tasks.contracts.answers import is_accepted, normalise_answer
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.free_form import read_free_form
from lm_eval_tasks.contracts.prompts import CHAT_ENDING
from lm_eval_tasks.contracts.questions import check_unique, name_question, read_configs
from lm_eval_tasks.contracts.vocabulary import KEY
from lm_eval_tasks.demonstrations import DemonstratedTask, prepare_config, read_number
from lm_eval_tasks.sets import HOW_TO_NAME, check_demonstrations, describe_run, find_folder, list_domains, make_datasets

logger = logging.getLogger(__name__)
CHOICES_ONLY = ("order", "contexts", "trained_on")  # of --metadata; free-form questions have none of these
# Over what a model's own generation_config.json says, so that nothing but the temperature changes its probabilities. Where that
# says nothing, transformers samples from the 50 most probable tokens.
PLAIN = {True: {"repetition_penalty": 1.0}, False: {"repetition_penalty": 1.0, "top_k": 0, "top_p": 1.0}}  # by `greedy`
MANY = 20  # questions after which samples that are all alike are no accident


def load_free_form(
    task: str,
    questions: str | None = None,
    prompt: str = "probe",
    domain: str | Sequence[str] = (),
    splits: Sequence[str] = ("test",),
    shots: int | None = None,
    **run: Any,
) -> dict[str, datasets.Dataset]:
    """The free-form questions that a task asks (`test`) and those it demonstrates with (`dev`), with the columns of a sample.

    Args:
        task: the task's name.
        questions: a free-form question set: a folder, or a data set on the Hub.
        prompt: `probe` (few-shot) or `chat`; set by the task.
        domain: one domain or several; all where empty.
        splits: the splits that are asked.
        shots: no dev questions are read where it is 0.
        **run: what `sets.describe_run` takes.

    Raises:
        UserError: no question set, one of multiple-choice questions or that breaks its contract, or what only those can take.
    """
    if not questions:
        raise UserError(f"{task}: no question set. Name one with {HOW_TO_NAME}.")
    if given := [name for name in CHOICES_ONLY if run.get(name)]:
        raise UserError(f"{task} takes no {given[0]}, which is for multiple-choice questions. Leave it out of --metadata.")
    folder, domains = find_folder(questions), list_domains(domain)
    asked = read_free_form(folder, domains, splits)
    dev = asked.head(0)
    if prompt != "chat" and shots != 0:
        check_demonstrations(read_configs(folder), domains, folder)
        dev = read_free_form(folder, domains, ["dev"])
    check_unique(pl.concat(part.select(*KEY, "split") for part in (asked, dev)).unique(maintain_order=True), folder)
    # A free-form question is answered by a text, as where the texts of choices are scored.
    run |= {"scoring": "cloze", "pretrained": run.get("pretrained") or run.get("model") or ""}
    described = describe_run(asked, task=task, prompt=prompt, **run).drop("scoring")
    return make_datasets(described, dev)


class AnswerTask(DemonstratedTask):
    """A task that has free-form questions answered, once by the likeliest words or several times at random.

    What it looks up in `metadata` beside what `DemonstratedTask` does: `greedy`, set by the template; `samples`, `temperature`,
    `too_long`, `too_long_to`, `may_leave_out` of the run, see README.md.

    Attributes:
        samples: how many answers each question gets.
    """

    def __init__(self, config: dict[str, Any], **kwargs: Any) -> None:
        config = prepare_config(config)
        metadata, name = config["metadata"], config["task"]
        self.greedy = metadata["greedy"]
        if self.greedy and (given := [key for key in ("samples", "temperature") if key in metadata]):
            raise UserError(f"{name} takes no {given[0]}: it asks for the likeliest words, once. Ask selfalign_answer instead.")
        self.samples = 1 if self.greedy else read_number("samples", metadata["samples"], name, least=1)
        # Where a model is behind an API, lm-eval sends one seed with every request, so that all samples would be alike.
        self.served = "pretrained" not in metadata and ("model" in metadata or "base_url" in metadata)
        config["repeats"] = 1 if self.served else self.samples
        temperature = read_temperature(metadata.get("temperature", 0.0), name)
        config["generation_kwargs"] = config["generation_kwargs"] | {"temperature": temperature}
        trained = metadata["prompt"] == "chat" and find_trained(metadata) is not None
        self.ending = CHAT_ENDING if trained else ""
        super().__init__(config=config, **kwargs)
        self.temperature  # noqa: B018 (checks it)
        self._filters = [build_filter_ensemble("none", [["take_first_k", {"k": config["repeats"]}]])]

    @property
    def temperature(self) -> float:
        """The temperature as --metadata or --gen_kwargs has it.

        Raises:
            UserError: it does not fit the task.
        """
        name, settings = self.config.task, self.config.generation_kwargs
        value = read_temperature(settings.get("temperature", 0.0), name)
        if self.greedy and (value > 0 or settings.get("do_sample")):
            raise UserError(f"{name} asks for the likeliest words, so its temperature is 0. Ask selfalign_answer to sample.")
        if not self.greedy and (value == 0 or settings.get("do_sample") is False):
            raise UserError(
                f"{name}: {self.samples} samples at temperature 0 would be one answer {self.samples} times. Name a "
                "temperature above 0, or ask selfalign_answer_greedy."
            )
        return value

    def check_asked(self, settings: Mapping[str, Any]) -> None:
        """Raise a `UserError` for the first thing that is wrong with the task and the questions that it will ask."""
        metadata = self.config.metadata
        self.temperature  # noqa: B018 (checks it)
        check_adapter(metadata)
        choice = read_choice(self)
        rows = self.list_asked(settings)
        leave_out_flawed(self, rows, find_shown(self, rows))
        rows, write = self.list_asked(settings), make_writer(self, settings, self.ending)
        prompts = [(row, write(row)) for row in rows]
        if (tokenizer := load_tokenizer(metadata)) is not None:
            check_beginning(self, tokenizer)
            firsts = {self.find_group(row): prompt for row, prompt in reversed(prompts)}
            check_base(self, rows, firsts.values(), tokenizer)
        find_own_limit(metadata.get("pretrained"), str(metadata.get("revision") or "main"))
        shots = self.config.num_fewshot
        remedies = [f"show fewer demonstrations than {shots} (--num_fewshot)"] if shots else []
        leave_out_long(self, prompts, int(self.config.generation_kwargs["max_gen_toks"]), choice, remedies)

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> Instance | list[Instance]:
        """lm-eval's request, which it repeats; where a model is behind an API, one a sample, each with a seed of its own."""
        request = super().construct_requests(doc, ctx, **kwargs)
        settings = request.arguments[1]
        if not self.served:
            # `do_sample` also keeps lm-eval's own cache from giving all samples of a question the same text.
            request.arguments = (ctx, {"do_sample": not self.greedy} | PLAIN[self.greedy] | settings)
            return request
        if self.greedy:
            return request
        seeds = range(first := int(settings.get("seed", 0)), first + self.samples)
        arguments = [(ctx, settings | {"seed": seed}) for seed in seeds]
        return [Instance("generate_until", doc, pair, i, metadata=request.metadata) for i, pair in enumerate(arguments)]

    def process_results(self, doc: dict[str, Any], results: list[list[str]]) -> dict[str, float]:
        """Log all answers beside their question, and return the metrics of lm-eval's table (under --predict_only `bypass`).

        Raises:
            UserError: there are fewer answers than were asked for, or one is no text.
        """
        texts = [text for part in results for text in part]
        if len(texts) != self.samples or not all(isinstance(text, str) for text in texts):
            raise UserError(
                f"{self.config.task}, {name_question(doc)}: {self.samples} answers were asked for, and the model gave "
                f"{sum(isinstance(text, str) for text in texts)}. Ask again."
            )
        doc |= {"samples": [cut_line(text) for text in texts], "greedy": self.greedy, "temperature": self.temperature}
        metrics = measure_answers(doc, doc["samples"])
        return {name: metrics.get(name, 999) for name in self._aggregation_list}


def measure_answers(doc: Mapping[str, Any], samples: Sequence[str]) -> dict[str, float]:
    """The metrics of lm-eval's own result table.

    Args:
        doc: the question, with its accepted `answers`.
        samples: what was answered.

    >>> measure_answers({"answers": ["Rome", "Roma"]}, ["rome", "the Roma", "Paris", ""])
    {'exact_match': 0.5, 'distinct': 4.0, 'empty': 0.25}
    """
    right = [is_accepted(text, doc["answers"]) for text in samples]
    return {
        "exact_match": sum(right) / len(right),
        "distinct": float(len({normalise_answer(text) for text in samples})),
        "empty": samples.count("") / len(right),
    }


def read_temperature(value: Any, task: str) -> float:
    """A temperature; a `UserError` where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise UserError(f"{task}: temperature {value!r} is no number from 0 on. Mend it.")
    return float(value)


def cut_line(text: str) -> str:
    """The first line of a text that is not blank, stripped.

    >>> cut_line(" St. Louis, Missouri\\n\\nIt lies on a river.")
    'St. Louis, Missouri'
    """
    return text.strip().partition("\n")[0].strip()


def average_distinct(values: Sequence[float]) -> float:
    """The mean number of different answers to a question; says so where no question got two."""
    if len(values) >= MANY and max(values) <= 1:
        logger.warning(
            "No question got two different answers. Is the temperature low, or does the model's server give the same text "
            "again for the same prompt?"
        )
    return sum(values) / len(values)
