"""What the pack's tasks share: they are checked before they are asked, and what is too long may be left out of them."""

from collections.abc import Iterator, Mapping
from typing import Any

from datasets import Dataset
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator_utils import get_sample_size

from lm_eval_tasks.checking.lengths import find_key
from lm_eval_tasks.checking.protocol import Group, Question
from lm_eval_tasks.contracts.errors import UserError


class CheckedTask(ConfigurableTask):
    """A task with a method `check_asked`, which raises a `UserError` for what is wrong with it or with what it asks.

    Attributes:
        left_out: the keys of the questions that are not asked, because they are flawed or too long; the checks set it.
    """

    left_out: frozenset[Group] = frozenset()
    _checked: tuple[Any, ...] | None = None  # how it was to be asked when it was last checked

    _docs: list[Question] | None = None  # the questions, as soon as somebody goes through them

    @property
    def eval_docs(self) -> Dataset | list[Question]:
        """lm-eval's; once its data set was decoded, the rows of that, which else are decoded every time they are read."""
        return super().eval_docs if self._docs is None else self._docs

    def check(self, settings: Mapping[str, Any] | None = None) -> None:
        """Raise a `UserError` for the first thing that is wrong with the task; nothing is looked at twice.

        Args:
            settings: how it will be asked, as lm-eval's `simple_evaluate` and `build_all_requests` take it.
        """
        settings = dict(settings or {})
        if settings.get("cache_requests"):
            raise UserError(
                "--cache_requests keeps prompts under the task's name alone, so another question set would be asked with the "
                "prompts of the first. Leave it out."
            )
        settings["limit"] = get_sample_size(self, settings.get("limit"))
        if isinstance(samples := settings.get("samples"), Mapping):
            settings["samples"] = samples.get(self.config.task)
        n = len(self.dataset["test"])
        if outside := [number for number in settings.get("samples") or () if not 0 <= number < n]:
            raise UserError(f"--samples: {self.config.task} has no question {outside[0]}; it has {n}, numbered from 0.")
        told = (settings["limit"], tuple(settings.get("samples") or ()), settings.get("system_instruction"))
        asked = (self.config.num_fewshot, str(self.config.generation_kwargs), bool(settings.get("apply_chat_template")), *told)
        if self._checked != asked:  # else lm-eval is building what was checked before
            self.left_out = frozenset()
            self.check_asked(settings)
            self._checked = asked

    def check_asked(self, settings: Mapping[str, Any]) -> None:
        """The checks themselves, with a `limit` that is a number and the `samples` of this task."""
        raise NotImplementedError

    def list_asked(self, settings: Mapping[str, Any]) -> list[Question]:
        """The questions that these settings (`limit`, and `samples` of this task) ask, in all processes together."""
        return [doc for _, doc in self.doc_iterator(limit=settings.get("limit"), samples=settings.get("samples"))]

    def doc_iterator(self, **options: Any) -> Iterator[tuple[int, Question]]:
        """lm-eval's, without the questions that are left out; each a copy, since a log adds to it what a model said."""
        if self._docs is None:
            self._docs = self.eval_docs.to_list()
        return ((doc_id, {**doc}) for doc_id, doc in super().doc_iterator(**options) if find_key(doc) not in self.left_out)

    def round_limit(self, limit: int | None) -> int | None:
        """The limit that lm-eval is given."""
        return limit

    def build_all_requests(self, *, limit: int | None = None, **kwargs: Any) -> None:
        """lm-eval's, after a check of everything that can be found wrong with the task before it is asked."""
        self.check(kwargs | {"limit": limit})
        processes, asked = kwargs.get("world_size") or 1, {"limit": limit, "samples": kwargs.get("samples")}
        for rank in range(processes):
            if next(self.doc_iterator(rank=rank, world_size=processes, **asked), None) is None:
                raise UserError(
                    f"{self.config.task}: no question is left for process {rank + 1} of {processes}. "
                    + ("Launch fewer processes, or ask more questions." if processes > 1 else "Ask more questions.")
                )
        super().build_all_requests(limit=self.round_limit(limit), **kwargs)
