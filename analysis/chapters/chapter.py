"""The form of a chapter: by what a report knows its numbers, its tables and its figures (`reporting/contents.py` lists all)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from analysis.reading.study import Study
from analysis.showing.figures import Sketch
from analysis.showing.tables import Table
from lm_eval_tasks.contracts.vocabulary import BASE

Frames = Mapping[str, pl.DataFrame]  # numbers, by the names of the files that hold them


class Computed(NamedTuple):
    """What a chapter computes."""

    frames: Frames
    gaps: Sequence[str] = ()  # what its numbers lack, in sentences


class Whole(NamedTuple):
    """A whole study."""

    study: Study
    frames: Frames  # those of all chapters before


@dataclass(frozen=True)
class Part:
    """What tables and figures are made of: one base model and one trained domain of a study."""

    model: str
    domain: str
    prefix: str  # of its files' names; none where it is the only part
    frames: Frames  # rows of this part alone

    @property
    def phases(self) -> list[str]:
        """The phases of tables: those in which tuned models were asked."""
        asked = set(self.frames["summary"].filter(pl.col("condition") != BASE)["phase"])
        return [phase for phase in ("tuned_chat", "tuned_probe") if phase in asked]


@dataclass(frozen=True)
class Heading:
    """A heading of the page, below which several chapters may put tables."""

    title: str
    linked: bool = False  # its tables are too long for the markdown, which links them


RESULTS = Heading("Results by condition and split")
AGAINST = Heading("Conditions against each other")
RATIO = Heading("Over the consistency ratio")
PROMPTS = Heading("Knowledge or format")
WORDS = Heading("Free-form answers")
BELIEFS = Heading("What became of beliefs", linked=True)
EACH = Heading("Each measure", linked=True)


@dataclass(frozen=True)
class Chapter:
    """One chapter of a report. Each of its fields may be left out; tables and figures without numbers are.

    Attributes:
        compute: its numbers, of the study and of the numbers of chapters before it; each becomes a parquet and a CSV file.
        heading: below which its tables stand on the page.
        tables: of one part of the study.
        figures: of one part of the study.
        shown: the names of the numbers that its figures are plotted from, which is done as soon as these are there.
        across: its tables over all parts of the study.
        figures_across: its figures over all parts, of the numbers that are `shown`; None where it has none.
    """

    compute: Callable[[Whole], Computed] = lambda _: Computed({})
    heading: Heading | None = None
    tables: Callable[[Part], list[Table]] = lambda _: []
    figures: Callable[[Part], list[Sketch]] = lambda _: []
    shown: Sequence[str] = ()
    across: Callable[[Frames], list[Table]] = lambda _: []
    figures_across: Callable[[Frames], list[Sketch]] | None = None
