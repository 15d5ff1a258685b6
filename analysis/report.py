"""The report: every table and figure of a folder of runs, and one page that holds them all.

A new table goes into `list_tables`, a new figure into `list_figures`; both then stand in the page, the markdown and the folder.
"""

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup
from tqdm import tqdm

from analysis.calibration import compute_calibration, tabulate_calibration
from analysis.contrasts import CONTRAST_METRICS, compare_conditions
from analysis.curves import CAPTION as CURVES_CAPTION
from analysis.curves import compute_curves, draw_curves, tabulate_curves
from analysis.explorer import add_states, list_moved
from analysis.figures import Sketch, draw_figures, write_figure
from analysis.findings import list_findings, tabulate_headline, write_headline
from analysis.intervals import SEED
from analysis.labels import METRICS
from analysis.latex import write_latex
from analysis.movement import CAPTION as TRANSITIONS_CAPTION
from analysis.movement import compute_transitions, draw_transitions, tabulate_transitions
from analysis.optimum import find_optima, tabulate_optima
from analysis.page import collect_words, render, write_page
from analysis.partial import compute_partial, tabulate_partial
from analysis.provenance import collect_provenance, count_study, name_inputs
from analysis.results import Study, read_study, summarise_results
from analysis.tables import Table, tabulate_contrasts, tabulate_metric, tabulate_summary, write_markdown, write_text
from analysis.units import compare_units, tabulate_units
from lm_eval_tasks.manifest import write_folder, write_manifest

TUNED = ("tuned_chat", "tuned_probe")
QUESTION_COLUMNS = (
    *("model", "domain", "run", "condition", "ratio", "seed", "phase", "split", "source", "question_domain", "id"),
    *("question_hash", "question", "choices", "answer", *METRICS, "rank_undefined", "probs_before", "probs"),
    *("prediction_before", "prediction", "confidence_before", "state_before", "state"),
)


@dataclass(frozen=True)
class Chapter:
    """What tables and figures are made of: one base model and one trained domain."""

    model: str
    domain: str
    prefix: str  # of its files' names; none where there is but one chapter
    results: pl.DataFrame
    summary: pl.DataFrame
    contrasts: pl.DataFrame
    curves: pl.DataFrame
    optima: pl.DataFrame
    transitions: pl.DataFrame
    calibration: pl.DataFrame


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
    frames = compute_frames(study)
    with write_folder(output) as folder:
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
            "across": write_tables(list_common_tables(frames), folder),
            "gaps": study.gaps,
            "provenance": provenance,
            "words": collect_words(study),
        }
        (folder / "report.html").write_text(write_page(context, *list_moved(study.measures)))
        (folder / "report.md").write_text(render("report.md.jinja", context))
        write_manifest(folder, "report", sys.argv, {}, name_inputs(provenance), {"bootstrap": SEED})
    return "\n".join(write_text(chapter["summary"]) for chapter in context["chapters"])


def compute_frames(study: Study) -> dict[str, pl.DataFrame]:
    """All numbers of the report, by the names of the files that hold them."""
    results = summarise_results(study.measures)
    summary, contrasts = compare_conditions(study.measures)
    return {
        "results": results,
        "summary": summary,
        "contrasts": contrasts,
        "curves": compute_curves(summary),
        "optima": find_optima(study.measures),
        "transitions": compute_transitions(study.measures),
        "calibration": compute_calibration(study.measures),
        "partial": compute_partial(results),
        "units": compare_units(contrasts),
    }


def list_chapters(study: Study, frames: dict[str, pl.DataFrame]) -> list[Chapter]:
    """The study's parts, one for each base model and trained domain."""
    pairs = study.runs.select("model", "domain").unique(maintain_order=True).rows()
    chapters = []
    for place, (model, domain) in enumerate(pairs, start=1):
        prefix = "" if len(pairs) == 1 else f"{place}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', domain)}-"
        names = ("results", "summary", "contrasts", "curves", "optima", "transitions", "calibration")
        parts = {name: frames[name].filter(model=model, domain=domain) for name in names}
        chapters.append(Chapter(model, domain, prefix, **parts))
    return chapters


def list_tables(chapter: Chapter) -> list[Table]:
    """All tables: the compact one first, those without a row left out."""
    tables = [tabulate_summary(chapter.summary), tabulate_headline(chapter.contrasts)]
    tables += [tabulate_curves(chapter.curves), tabulate_optima(chapter.optima)]
    tables += [tabulate_transitions(chapter.transitions, phase) for phase in TUNED]
    tables += [tabulate_calibration(chapter.calibration, phase) for phase in TUNED]
    tables += [tabulate_contrasts(chapter.contrasts, metric, phase) for metric in CONTRAST_METRICS for phase in TUNED]
    tables += [tabulate_metric(chapter.summary, metric, phase) for metric in METRICS for phase in TUNED]
    return [tables[0], *(table for table in tables[1:] if table.rows)]


def list_figures(chapter: Chapter) -> list[Sketch]:
    """All figures, in the order of the page; those without numbers left out."""
    figures = draw_figures(chapter.summary, chapter.contrasts, chapter.results)
    if chapter.curves["ratio"].n_unique() > 1:
        title = "Over the consistency ratio"
        figures.append(Sketch("curves", title, CURVES_CAPTION, draw_curves(chapter.curves, title)))
    if chapter.transitions.filter(phase="tuned_chat").height:
        title = "What became of right, wrong and unsure answers"
        figure = draw_transitions(chapter.transitions, title)
        figures.append(Sketch("transitions", title, TRANSITIONS_CAPTION, figure))
    return figures


def list_common_tables(frames: dict[str, pl.DataFrame]) -> list[Table]:
    """The tables over runs, base models and domains; those without a row left out."""
    tables = [tabulate_partial(frames["partial"]), *(tabulate_units(frames["units"], m) for m in CONTRAST_METRICS)]
    return [table for table in tables if table.rows]


def write_tables(tables: list[Table], folder: Path) -> list[Table]:
    """Write tables below `folder`, as markdown and LaTeX; returns them."""
    for table in tables:
        (folder / "tables" / f"{table.name}.md").write_text(write_markdown(table))
        (folder / "tables" / f"{table.name}.tex").write_text(write_latex(table))
    return tables


def write_chapter(chapter: Chapter, folder: Path) -> dict[str, Any]:
    """Write a chapter's tables and figures below `folder`; returns what the page shows of it."""
    tables = write_tables([replace(t, name=f"{chapter.prefix}{t.name}") for t in list_tables(chapter)], folder)
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
        "summary": tables[0],
        "tables": tables[1:],
        "figures": figures,
    }
