"""The report: every table and figure of a folder of runs (see `contents`), and one page that holds them all."""

import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.chapters.chapter import RESULTS, Part
from analysis.chapters.headline import list_findings, write_headline
from analysis.measures.intervals import SEED
from analysis.measures.keys import QUESTION, RUN_KEY
from analysis.measures.metrics import METRICS
from analysis.measures.states import add_states
from analysis.reading.study import Study, read_study
from analysis.reporting import plotting
from analysis.reporting.contents import compute_frames, list_parts, list_tables, list_tables_across
from analysis.reporting.explorer import list_moved
from analysis.reporting.page import collect_words, render, write_page
from analysis.reporting.plotting import Plotter
from analysis.reporting.provenance import collect_provenance, count_study, name_inputs
from analysis.reporting.workers import Workers, relax_garbage
from analysis.showing.latex import write_latex
from analysis.showing.tables import Table, write_markdown, write_text
from lm_eval_tasks.contracts.files import write_folder, write_parquet
from lm_eval_tasks.contracts.manifest import write_manifest
from lm_eval_tasks.contracts.vocabulary import read_primary, write_primary

QUESTION_COLUMNS = (
    *(*RUN_KEY[:2], "run", *RUN_KEY[2:], "phase", "split", *QUESTION),
    *("question_hash", "question", "choices", "answer", *METRICS, "rank_undefined", "probs_before", "probs"),
    *("prediction_before", "prediction", "confidence_before", "state_before", "state", "threshold"),
)


def write_report(runs: str | Path, output: str | Path, primary: str | None = None, workers: Workers | None = None) -> str:
    """Read a study and write its whole report.

    Args:
        runs: the folder that holds the runs and their logs.
        output: the folder to write, which replaces one that is there.
        primary: the contrast that was named beforehand, as `vocabulary.read_primary` reads it.
        workers: processes that help to plot; by default some of its own.

    Returns:
        The compact result tables as text.

    Raises:
        UserError: the study cannot be read (see `study.read_study`), or the output cannot be written.
    """
    named = None if primary is None else read_primary(primary)
    with relax_garbage(), nullcontext(workers) if workers else Workers(plotting.__name__) as helping:
        study = read_study(runs, named)
        with write_folder(output) as folder, Plotter(study, folder / "figures", helping) as plotter:
            return _fill_folder(study, plotter, folder)


def _fill_folder(study: Study, plotter: Plotter, folder: Path) -> str:
    for name in ("tables", "figures"):
        (folder / name).mkdir()
    frames, gaps = compute_frames(study, plotter.begin)
    for name, frame in frames.items():
        write_parquet(frame, folder / f"{name}.parquet")
        (folder / f"{name}.csv").write_text(frame.write_csv())
    write_parquet(add_states(study.measures).select(QUESTION_COLUMNS), folder / "questions.parquet")
    provenance = collect_provenance(study)
    context = {
        "parts": [
            write_part(part, folder) | {"counts": count_study(study, part.model, part.domain)}
            for part in list_parts(study, frames)
        ],
        "across": write_tables(list_tables_across(frames), folder),
        "gaps": [*study.gaps, *gaps],
        "files": list(frames),
        "provenance": provenance,
        "words": collect_words(study),
    }
    moved = list_moved(study.measures)
    figures = plotter.finish()
    context["figures_across"] = figures.pop(plotting.ACROSS, [])
    for i, own in figures.items():
        context["parts"][i]["figures"] = own
    (folder / "report.html").write_text(write_page(context, *moved))
    (folder / "report.md").write_text(render("report.md.jinja", context))
    write_manifest(
        folder,
        "report",
        sys.argv,
        {"primary": study.primary and write_primary(study.primary)},
        name_inputs(provenance),
        {"bootstrap": SEED},
    )
    return "\n".join(write_text(part["sections"][RESULTS][0]) for part in context["parts"])


def write_tables(tables: list[Table], folder: Path) -> list[Table]:
    """Write tables below `folder`, as markdown and LaTeX; returns them."""
    for table in tables:
        (folder / "tables" / f"{table.name}.md").write_text(write_markdown(table))
        (folder / "tables" / f"{table.name}.tex").write_text(write_latex(table))
    return tables


def write_part(part: Part, folder: Path) -> dict[str, Any]:
    """Write a part's tables below `folder`; returns what the page shows of it, but for its figures."""
    sections = {
        heading: write_tables([replace(table, name=f"{part.prefix}{table.name}") for table in tables], folder)
        for heading, tables in list_tables(part).items()
    }
    headline, sentence = write_headline(part.frames["contrasts"])
    return {
        "model": part.model,
        "domain": part.domain,
        "prefix": part.prefix,
        "headline": headline,
        "sentence": sentence,
        "findings": list_findings(part.frames["contrasts"]),
        "sections": sections,
    }
