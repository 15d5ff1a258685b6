"""The terms under which questions, general instructions and generated texts may be used and passed on."""

from collections.abc import Sequence
from dataclasses import dataclass

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Terms:
    """What one part of a data set is under."""

    part: str  # `questions`, `general instructions`, `explanations` or `contexts`
    source: str  # who wrote it: the name of a question source, a data set on the Hub, a model
    licence: str  # the Hub's name of the licence (`cc-by-nc-sa-4.0`), or `unknown`
    note: str = ""  # what else its terms ask, in words


LICENCES: dict[str, tuple[str, str]] = {
    "medmcqa": ("apache-2.0", ""),
    "xiezhi": ("cc-by-nc-sa-4.0", ""),
    "mmlu": ("mit", ""),
    "cmmlu": ("cc-by-nc-4.0", ""),
    "ceval": ("cc-by-nc-sa-4.0", ""),
    "miniworld": ("apache-2.0", "Made up for selfalign."),
    "vicgalle/alpaca-gpt4": ("cc-by-nc-4.0", ""),
}


def find_terms(part: str, source: str, given: str | None = None) -> Terms:
    """The terms of a source: those that its user gave, else those that are known of it."""
    licence, note = LICENCES.get(source, (UNKNOWN, ""))
    return Terms(part, source, given or licence, "" if given else note)


def choose_strictest(terms: Sequence[Terms]) -> str:
    """The licence of a data set that is made of all these parts: the most restrictive of theirs."""
    raise NotImplementedError
