"""A report is its chapters: each file is listed, once, and what one computes those after it may use."""

from importlib import import_module
from pathlib import Path

import pytest
from studies import write_study

from analysis import chapters
from analysis.chapters.chapter import BELIEFS, EACH, RESULTS
from analysis.reading.study import read_study
from analysis.reporting.contents import (
    CHAPTERS,
    compute_frames,
    list_parts,
    list_tables,
    list_tables_across,
)

FILES = ["results", "summary", "contrasts", "fit", "curves", "optima", "pairs", "prior_parts", "again", "agreement"]
FILES += ["transitions", "classes", "calibration", "partial", "units", "claims", "arms", "settings"]
FIGURES = ["accuracy", "contrasts", "consistency", "knowledge", "format", "curves", "pairs", "transitions", "calibration"]
HEADINGS = [
    "Results by condition and split",
    "Conditions against each other",
    "Over the consistency ratio",
    "Knowledge or format",
    "What became of beliefs",
    "Each measure",
]


def test_every_chapter_is_listed_once():
    files = {file.stem for file in Path(chapters.__file__).parent.glob("*.py")} - {"__init__", "chapter"}
    own = [import_module(f"analysis.chapters.{name}").CHAPTER for name in files]
    assert sorted(map(id, own)) == sorted(map(id, CHAPTERS))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_with_tables_has_a_heading(chapter):
    assert (chapter.heading is None) == (chapter.tables is type(chapter).tables)


def test_the_order_of_files_headings_and_figures(tmp_path: Path):
    conditions = [("self_aligning", None, 0.9), ("mix", 0.4, 0.7), ("incompatible", None, 0.5)]
    write_study(tmp_path / "runs", n=12, conditions=conditions)
    study = read_study(tmp_path / "runs")
    frames, gaps = compute_frames(study)
    assert [*frames] == FILES
    assert [gap.split(",")[0] for gap in gaps] == [
        "No run says how far it fitted its rows (fit.json): all are of an earlier version.",
        "The base model of base was not asked again",
    ]
    (part,) = list_parts(study, frames)
    assert (part.model, part.domain, part.prefix, part.phases) == ("base", "herbs", "", ["tuned_chat", "tuned_probe"])
    tables = list_tables(part)
    assert [heading.title for heading in tables] == HEADINGS
    assert [heading for heading in tables if heading.linked] == [BELIEFS, EACH]
    assert [sketch.name for chapter in CHAPTERS for sketch in chapter.figures(part)] == FIGURES
    names = [table.name for section in tables.values() for table in section]
    assert len(names) == len(set(names)) > 20
    assert [table.name for table in list_tables_across(frames)] == ["partial"]
    # The compact table stands there even without a row, and nothing else does.
    empty = {name: frame.clear() for name, frame in part.frames.items()}
    nothing = list_tables(type(part)("base", "herbs", "", empty))
    assert [table.name for table in nothing[RESULTS]] == ["summary"]


def test_figures_need_no_numbers_but_those_that_their_chapter_names(tmp_path: Path):
    conditions = [("self_aligning", None, 0.9), ("mix", 0.4, 0.7), ("incompatible", None, 0.5)]
    write_study(tmp_path / "runs", n=12, conditions=conditions)
    study = read_study(tmp_path / "runs")
    told: list[set[str]] = []
    frames, _ = compute_frames(study, lambda so_far: told.append({*so_far}))
    assert told[-1] == {*frames}
    assert len(told) == len(CHAPTERS)
    names = []
    for chapter in CHAPTERS:
        (part,) = list_parts(study, {name: frames[name] for name in chapter.shown})
        names += [sketch.name for sketch in chapter.figures(part)]
    assert names == FIGURES
