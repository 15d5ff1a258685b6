"""The report: every table and figure of a folder of runs (see `contents`), and one page that holds them all."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup
from tqdm import tqdm

from analysis.chapters.headline import list_findings, write_headline
from analysis.measures.intervals import SEED
from analysis.measures.states import add_states
from analysis.reading.gaps import find_unsummarised
from analysis.reading.study import read_study
from analysis.reporting.contents import (
    BESIDE,
    RESULTS,
    Chapter,
    compute_frames,
    list_chapters,
    list_common_tables,
    list_figures,
    list_tables,
)
from analysis.reporting.explorer import list_moved
from analysis.reporting.page import collect_words, render, write_page
from analysis.reporting.provenance import collect_provenance, count_study, name_inputs
from analysis.showing.figures import write_figure
from analysis.showing.labels import METRICS
from analysis.showing.latex import write_latex
from analysis.showing.tables import Table, write_markdown, write_text
from lm_eval_tasks.contracts.files import write_folder
from lm_eval_tasks.contracts.manifest import write_manifest

QUESTION_COLUMNS = (
    *("model", "domain", "run", "condition", "ratio", "seed", "phase", "split", "source", "question_domain", "id"),
    *("question_hash", "question", "choices", "answer", *METRICS, "rank_undefined", "probs_before", "probs"),
    *("prediction_before", "prediction", "confidence_before", "state_before", "state"),
)


def write_report(runs: str | Path, output: str | Path) -> str:
    """Read a study and write its whole report.

    Args:
        runs: the folder that holds the runs and their logs.
        output: the folder to write, which replaces one that is there.

    Returns:
        The compact result tables as text.

    Raises:
        UserError: the study cannot be read (see `results.read_study`), or the output cannot be written.
    """
    study = read_study(runs)
    with write_folder(output) as folder:
        frames = compute_frames(study)
        for name in ("tables", "figures"):
            (folder / name).mkdir()
        for name, table in frames.items():
            table.write_parquet(folder / f"{name}.parquet")
            table.write_csv(folder / f"{name}.csv")
        add_states(study.measures).select(QUESTION_COLUMNS).write_parquet(folder / "questions.parquet")
        provenance = collect_provenance(study)
        context = {
            "chapters": [
                write_chapter(chapter, folder) | {"counts": count_study(study, chapter.model, chapter.domain)}
                for chapter in tqdm(list_chapters(study, frames), "Drawing", unit="study", leave=False, disable=None)
            ],
            "beside": BESIDE,
            "across": write_tables(list_common_tables(frames), folder),
            "gaps": study.gaps + find_unsummarised(frames["results"], frames["summary"]),
            "files": list(frames),
            "provenance": provenance,
            "words": collect_words(study),
        }
        (folder / "report.html").write_text(write_page(context, *list_moved(study.measures)))
        (folder / "report.md").write_text(render("report.md.jinja", context))
        write_manifest(folder, "report", sys.argv, {}, name_inputs(provenance), {"bootstrap": SEED})
    return "\n".join(write_text(chapter["sections"][RESULTS][0]) for chapter in context["chapters"])


def write_tables(tables: list[Table], folder: Path) -> list[Table]:
    """Write tables below `folder`, as markdown and LaTeX; returns them."""
    for table in tables:
        (folder / "tables" / f"{table.name}.md").write_text(write_markdown(table))
        (folder / "tables" / f"{table.name}.tex").write_text(write_latex(table))
    return tables


def write_chapter(chapter: Chapter, folder: Path) -> dict[str, Any]:
    """Write a chapter's tables and figures below `folder`; returns what the page shows of it."""
    sections = {
        heading: write_tables([replace(table, name=f"{chapter.prefix}{table.name}") for table in tables], folder)
        for heading, tables in list_tables(chapter).items()
    }
    figures = []
    for sketch in list_figures(chapter):
        name = f"{chapter.prefix}{sketch.name}"
        svg = Markup(write_figure(sketch, folder / "figures" / name))
        figures.append({"name": name, "title": sketch.title, "caption": sketch.caption, "svg": svg})
    headline, sentence = write_headline(chapter.contrasts)
    return {
        "model": chapter.model,
        "domain": chapter.domain,
        "prefix": chapter.prefix,
        "headline": headline,
        "sentence": sentence,
        "findings": list_findings(chapter.contrasts),
        "sections": sections,
        "figures": figures,
    }
