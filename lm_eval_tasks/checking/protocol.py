"""What a task offers to the checks. Tasks import the checks, and these know tasks by this alone."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lm_eval.api.task import TaskConfig

Question = dict[str, Any]  # as a sample carries it
Group = tuple[str, ...]  # the values that a question shares with its demonstrations


class Asking(Protocol):
    """A task of the pack."""

    config: TaskConfig
    left_out: frozenset[Group]  # the keys of the questions that are not asked, because they are flawed or too long


class Demonstrating(Asking, Protocol):
    """A task of the pack that shows demonstrations, as `demonstrations.DemonstratedTask` is one."""

    dataset: dict[str, Any]
    chat: bool
    own: bool  # whether its questions are of a question set of one's own, and not a benchmark's
    spares: bool  # whether a question that is a dev question too is asked without itself
    grouped_by: Sequence[str]  # the columns that a question shares with its demonstrations

    def list_asked(self, settings: Mapping[str, Any]) -> Sequence[Question]:
        """The questions that these settings (`limit`, `samples`) ask."""

    def find_group(self, row: Question) -> Group:
        """The group of a question."""

    def find_others(self, row: Question) -> Sequence[Question]:
        """The dev questions that may be shown before a question: those of its group that are not the question itself."""


class Checkable(Demonstrating, Protocol):
    """A task of the pack that asks multiple-choice questions, as `tasks.QuestionTask` is one."""

    def doc_to_text(self, doc: Question) -> str:
        """What is asked."""

    def choices_of(self, doc: Question) -> list[str]:
        """The continuations that are scored, one a choice."""

    def fewshot_context(self, doc: Question, num_fewshot: int, **kwargs: Any) -> Any:
        """The prompt."""
