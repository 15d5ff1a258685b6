"""What a report holds: all its numbers, by the files that hold them, and the tables and figures that are made of them.

A new table goes into `list_tables`, a new figure into `list_figures`; both then stand in the page, the markdown and the folder.
"""

import re
from dataclasses import dataclass, fields

import polars as pl

from analysis.chapters.calibration import CAPTION as CALIBRATION_CAPTION
from analysis.chapters.calibration import compute_calibration, draw_calibration, tabulate_calibration
from analysis.chapters.classes import compute_classes, tabulate_classes
from analysis.chapters.contrasts import CONTRAST_METRICS, compare_conditions
from analysis.chapters.curves import CAPTION as CURVES_CAPTION
from analysis.chapters.curves import compute_curves, draw_curves, tabulate_curves
from analysis.chapters.headline import tabulate_headline
from analysis.chapters.letter_priors import tabulate_prior_parts
from analysis.chapters.optimum import find_optima, tabulate_optima
from analysis.chapters.pairs import CAPTION as PAIRS_CAPTION
from analysis.chapters.pairs import compute_pairs, draw_pairs, tabulate_changes, tabulate_pairs
from analysis.chapters.partial import compute_partial, tabulate_partial
from analysis.chapters.transitions import CAPTION as TRANSITIONS_CAPTION
from analysis.chapters.transitions import compute_transitions, draw_transitions, tabulate_transitions
from analysis.chapters.units import compare_units, tabulate_units
from analysis.reading.study import Study, summarise_results
from analysis.showing.figures import Sketch, draw_figures
from analysis.showing.labels import BASE, METRICS
from analysis.showing.tables import Table, tabulate_contrasts, tabulate_metric, tabulate_summary

RESULTS = "Results by condition and split"
BELIEFS, EACH = "What became of beliefs", "Each measure"
BESIDE = (BELIEFS, EACH)  # headings whose tables are too long for the markdown, which links them
TUNED = ("tuned_chat", "tuned_probe")


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
    pairs: pl.DataFrame
    classes: pl.DataFrame
    prior_parts: pl.DataFrame


PARTS = tuple(field.name for field in fields(Chapter) if field.name not in ("model", "domain", "prefix"))


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
        "pairs": compute_pairs(study.measures, study.trained),
        "classes": compute_classes(study.measures),
        "prior_parts": study.prior_parts,
        "partial": compute_partial(results),
        "units": compare_units(contrasts),
    }


def list_chapters(study: Study, frames: dict[str, pl.DataFrame]) -> list[Chapter]:
    """The study's parts, one for each base model and trained domain."""
    pairs = study.runs.select("model", "domain").unique(maintain_order=True).rows()
    chapters = []
    for place, (model, domain) in enumerate(pairs, start=1):
        prefix = "" if len(pairs) == 1 else f"{place}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', domain)}-"
        parts = {name: frames[name].filter(model=model, domain=domain) for name in PARTS}
        chapters.append(Chapter(model, domain, prefix, **parts))
    return chapters


def list_tables(chapter: Chapter) -> dict[str, list[Table]]:
    """All tables by the heading they stand below: the compact one first, those without a row left out."""
    asked = set(chapter.summary.filter(pl.col("condition") != BASE)["phase"])
    phases = [phase for phase in TUNED if phase in asked]
    pairs = [tabulate_pairs(chapter.pairs), tabulate_changes(chapter.pairs), tabulate_prior_parts(chapter.prior_parts)]
    contrasts = [tabulate_contrasts(chapter.contrasts, metric, phase) for metric in CONTRAST_METRICS for phase in phases]
    beliefs = [tabulate_transitions(chapter.transitions, phase) for phase in phases]
    beliefs += [tabulate_classes(chapter.classes, part, phase) for part in ("belief", "domain") for phase in phases]
    sections = {
        RESULTS: [tabulate_summary(chapter.summary)],
        "Conditions against each other": [tabulate_headline(chapter.contrasts), *contrasts],
        "Over the consistency ratio": [tabulate_curves(chapter.curves), tabulate_optima(chapter.optima)],
        "Knowledge or format": pairs,
        BELIEFS: [*beliefs, *(tabulate_calibration(chapter.calibration, phase) for phase in phases)],
        EACH: [tabulate_metric(chapter.summary, metric, phase) for metric in METRICS for phase in phases],
    }
    held = {heading: [table for table in tables if table.rows] for heading, tables in sections.items()}
    return {heading: tables for heading, tables in held.items() if tables or heading == RESULTS}


def list_figures(chapter: Chapter) -> list[Sketch]:
    """All figures, in the order of the page; those without numbers left out."""
    figures = draw_figures(chapter.summary, chapter.contrasts, chapter.results)
    if chapter.curves["ratio"].n_unique() > 1:
        title = "Over the consistency ratio"
        figures.append(Sketch("curves", title, CURVES_CAPTION, draw_curves(chapter.curves, title)))
    if chapter.pairs.filter(pl.col("condition") != BASE).height:
        title = "What moved, few-shot and in the chat prompt"
        figures.append(Sketch("pairs", title, PAIRS_CAPTION, draw_pairs(chapter.pairs, title)))
    if chapter.transitions.filter(phase="tuned_chat").height:
        title = "What became of right, wrong and unsure answers"
        figure = draw_transitions(chapter.transitions, title)
        figures.append(Sketch("transitions", title, TRANSITIONS_CAPTION, figure))
    if chapter.calibration.filter(phase="tuned_chat").height:
        title = "As sure as right?"
        figures.append(Sketch("calibration", title, CALIBRATION_CAPTION, draw_calibration(chapter.calibration, title)))
    return figures


def list_common_tables(frames: dict[str, pl.DataFrame]) -> list[Table]:
    """The tables over runs, base models and domains; those without a row left out."""
    tables = [tabulate_partial(frames["partial"]), *(tabulate_units(frames["units"], m) for m in CONTRAST_METRICS)]
    if frames["contrasts"].select("model", "domain").n_unique() > 1:
        tables = [tabulate_headline(frames["contrasts"]), tabulate_optima(frames["optima"]), *tables]
    return [table for table in tables if table.rows]
