"""What a report holds: its chapters in the order of the page, and what they compute and show of a study.

A new chapter is a file in `analysis/chapters/` and its name in `CHAPTERS`; its numbers, tables and figures then stand in the
folder, the page and the markdown.
"""

import re
from collections.abc import Callable, Iterator

import polars as pl

from analysis.chapters import (
    again,
    agreement,
    answered,
    arms,
    calibration,
    choice_mass,
    claims,
    classes,
    consistency,
    contrasts,
    curves,
    each,
    fit,
    headline,
    knowledge,
    letter_priors,
    optimum,
    pairs,
    partial,
    settings,
    summary,
    transitions,
    units,
)
from analysis.chapters.chapter import RESULTS, Chapter, Computed, Frames, Heading, Part, Whole
from analysis.measures.keys import PART
from analysis.reading.study import Study
from analysis.showing.tables import Table

# What a chapter computes, the chapters after it may use.
CHAPTERS: tuple[Chapter, ...] = tuple(
    chapter.CHAPTER
    for chapter in (
        summary,
        headline,
        contrasts,
        fit,
        consistency,
        knowledge,
        choice_mass,
        curves,
        optimum,
        pairs,
        letter_priors,
        again,
        answered,
        agreement,
        transitions,
        classes,
        calibration,
        each,
        partial,
        units,
        claims,
        arms,
        settings,
    )
)
# Computed before all others: its figure is plotted while they are computed, which takes longer.
FIRST = transitions.CHAPTER


def compute_frames(study: Study, tell: Callable[[Frames], None] = lambda _: None) -> Computed:
    """All numbers of the report, by the names of the files that hold them, and what they lack.

    Args:
        study: as `study.read_study` gives it.
        tell: called with the numbers so far after every chapter.
    """
    frames: dict[str, pl.DataFrame] = {}
    computed: dict[Chapter, Computed] = {}
    for chapter in sorted(CHAPTERS, key=lambda chapter: chapter != FIRST):
        computed[chapter] = chapter.compute(Whole(study, frames))
        frames |= computed[chapter].frames
        tell(frames)
    found = [computed[chapter] for chapter in CHAPTERS]
    ordered = {name: frame for part in found for name, frame in part.frames.items()}
    return Computed(ordered, [gap for part in found for gap in part.gaps])


def list_parts(study: Study, frames: Frames) -> Iterator[Part]:
    """The study's parts, one for each base model and trained domain."""
    pairs = study.runs.select(PART).unique(maintain_order=True).rows()
    for number, (model, domain) in enumerate(pairs, start=1):
        prefix = "" if len(pairs) == 1 else f"{number}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', domain)}-"
        own = {name: frame.filter(model=model, domain=domain) for name, frame in frames.items() if {*PART} <= {*frame.columns}}
        yield Part(model, domain, prefix, own)


def list_tables(part: Part) -> dict[Heading, list[Table]]:
    """All tables of a part by their headings: the compact one first and always, of the others those that have a row."""
    sections: dict[Heading, list[Table]] = {}
    for chapter in CHAPTERS:
        tables = [table for table in chapter.tables(part) if table.rows or chapter.heading == RESULTS]
        if tables:
            sections.setdefault(chapter.heading, []).extend(tables)
    return sections


def list_tables_across(frames: Frames) -> list[Table]:
    """The tables over runs, base models and domains; those without a row left out."""
    return [table for chapter in CHAPTERS for table in chapter.across(frames) if table.rows]
