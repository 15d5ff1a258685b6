"""The class of tasks that show demonstrations: dev questions of the question's own group, in an order that a draw decides."""

import random
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import Template
from lm_eval import utils
from lm_eval.api.samplers import FirstNSampler

from lm_eval_tasks.checking.beginning import find_asked
from lm_eval_tasks.checking.checked import CheckedTask
from lm_eval_tasks.checking.keys import check_typos
from lm_eval_tasks.checking.protocol import Group
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import normalise

PAPER_SEED = 42  # of the paper's shuffle of the dev questions


class DemonstratedTask(CheckedTask):
    """A task whose demonstrations come from the dev questions of the question's own group.

    What it looks up in `metadata`, where a template's values, `--model_args` and `--metadata` come together:

    - `prompt` (`probe`, `context`, `chat`), set by the template;
    - `demonstrations_by`: the columns that a question and its demonstrations share (source and domain);
    - `paper`: demonstrations in the paper's order;
    - `draw`, `shots`: of the run, see README.md.

    Attributes:
        ending: what a prompt has to end in; empty for anything.
        own: whether its questions are of a question set of one's own, and not a benchmark's.
        spares: whether a question that is a dev question too is asked without itself.
    """

    ending: str = ""
    own: bool = True
    spares: bool = True

    def __init__(self, config: dict[str, Any], **kwargs: Any) -> None:
        metadata = config["metadata"]
        check_typos(metadata, config["task"])
        self.chat = metadata["prompt"] == "chat"
        if metadata.get("shots") is not None and not self.chat:
            config["num_fewshot"] = read_number("shots", metadata["shots"], config["task"])
        self.grouped_by = tuple(metadata.get("demonstrations_by", ("source", "domain")))
        super().__init__(config=config, **kwargs)
        self.samplers = self._group_demonstrations(read_number("draw", metadata.get("draw", 0), config["task"]))

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
        if self.ending and not prompt.endswith(self.ending):
            raise UserError(
                f"{self.config.task}: its chat template ends in {prompt[-20:]!r}, but training ends in {self.ending!r}. "
                "Give the tokenizer the template that training uses, lm_eval_tasks/templates/vicuna.jinja."
            )
        return prompt

    @staticmethod
    def resolve_field(doc: dict[str, Any], field: str | None = None) -> Any:
        """lm-eval's, which compiles the template of the description anew for every question: most of the time it takes."""
        return field and (doc[field] if field in doc else _compile(field).render(**doc))

    def check(self, settings: Mapping[str, Any] | None = None) -> None:
        """Raise a `UserError` for the first thing that is wrong with the task, asked as it needs where nothing else is said."""
        super().check({"apply_chat_template": self.chat} if settings is None else settings)


def prepare_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a task as its class needs it: without the class, and with the task's name in its metadata."""
    config = {key: value for key, value in config.items() if key != "class"}
    return config | {"metadata": config["metadata"] | {"task": config["task"]}}


def read_number(name: str, value: Any, task: str, least: int = 0) -> int:
    """A whole number of `--metadata`; a `UserError` where it is none, or less than `least`."""
    if type(value) is not int or value < least:
        raise UserError(f"{task}: {name} {value!r} is not a whole number from {least} on. Mend it in --metadata.")
    return value


@lru_cache
def _compile(template: str) -> Template:
    return utils.env.from_string(template)
