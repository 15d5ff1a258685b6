"""Every figure, drawn from the summary and the contrasts: a row a condition, a panel a split, intervals on everything.

Conditions keep their colour and marker throughout, and are named beside their row, so that nothing hangs on colour.
"""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.chapters.contrasts import REFERENCE
from analysis.showing.labels import BASE
from analysis.showing.panels import draw_intervals, find_limits, get_row, make_axes
from analysis.showing.tables import format_number
from lm_eval_tasks.contracts.style import COLOURS, GRID, INK, MARKERS, STYLE

REFERENCES = (("base_probe", "-", "base model, few-shot"), ("base_chat", ":", "base model, chat prompt (untrained floor)"))


class Row(NamedTuple):
    """One row of panels."""

    metric: str
    title: str
    limits: tuple[float, float | None]  # of the axis, which goes beyond them where a value does; None: as far as the values


class Sketch(NamedTuple):
    """A figure and the words that go with it."""

    name: str
    title: str
    caption: str
    figure: Figure


INTERVALS = (
    "Thick bars: 95% intervals over questions; thin ones: over questions, and over seeds where there are several; marks: "
    "single seeds. An arrow: the interval goes on beyond the axis."
)
CAPTIONS = {
    "accuracy": f"The tuned models asked in the chat prompt. Lines: the base model before any training. {INTERVALS}",
    "contrasts": (
        f"Accuracy minus that of {REFERENCE} training: the same seeds paired, and the same questions wherever they are the "
        "same. Thick bars: 95% intervals over questions, these seeds taken as given; thin ones: over questions, and over "
        "seeds where there are several (two make them very wide). An arrow: the interval goes on beyond the axis."
    ),
    "consistency": (
        "The tuned models in the chat prompt, compared question by question with the base model's few-shot probe. Low KL, high "
        f"rank correlation and many same answers mean that little moved. {INTERVALS}"
    ),
    "knowledge": (
        "Filled: asked in the chat prompt they were trained on. Open: asked few-shot, as the base model was. What is lost in "
        "both is knowledge, what is lost in one is format. Bars: 95% intervals over questions."
    ),
    "format": (
        "The tuned models asked in the chat prompt: how much of their probability is on any choice, and how much of that on "
        f"the first. {INTERVALS}"
    ),
}
GRIDS = {
    "accuracy": ("Accuracy by training condition", [Row("accuracy", "accuracy", (0, 1))]),
    "consistency": (
        "How much of the base model's beliefs is left",
        [
            Row("kl_nats", "KL(before || after), nats", (0, None)),
            Row("rank_pearson", "correlation of choice ranks", (0, 1)),
            Row("top1_agreement", "same first choice as before", (0, 1)),
        ],
    ),
    "format": (
        "Format and confidence",
        [Row("choice_mass", "probability on any choice", (0, 1)), Row("confidence", "confidence in the first choice", (0, 1))],
    ),
}


def draw_figures(summary: pl.DataFrame, contrasts: pl.DataFrame, results: pl.DataFrame) -> list[Sketch]:
    """The figures of one base model and one trained domain, in the order of `CAPTIONS`; those without numbers are left out."""
    drawn: dict[str, tuple[str, Figure]] = {}
    with mpl.rc_context(STYLE):
        for name, (title, rows) in GRIDS.items():
            rows = [row for row in rows if summary.filter(phase="tuned_chat", metric=row.metric).height]
            if rows:
                drawn[name] = title, draw_grid(summary, results, rows, title)
        headline = contrasts.filter(phase="tuned_chat", metric="accuracy")
        if headline.height:
            title = f"Accuracy against {REFERENCE} training"
            drawn["contrasts"] = title, draw_contrasts(headline, title)
        asked = pl.col("phase").is_in(["tuned_chat", "tuned_probe"]) & (pl.col("split") != "seen")
        both = summary.filter(asked, metric="accuracy")
        if both["phase"].n_unique() == 2:
            title = "Knowledge or format? The tuned models asked both ways"
            drawn["knowledge"] = title, draw_both_ways(both, summary, title)
    return [Sketch(name, drawn[name][0], caption, drawn[name][1]) for name, caption in CAPTIONS.items() if name in drawn]


def write_figure(sketch: Sketch, stem: Path) -> str:
    """Write a figure as PNG and PDF at `stem`, and return it as SVG that takes its ink from the page it stands in."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": stem.name, "svg.fonttype": "none"}):
        sketch.figure.draw_without_rendering()
        sketch.figure.set_layout_engine("none")  # laid out once, for all three forms
        sketch.figure.savefig(f"{stem}.png", metadata={"Software": None})
        sketch.figure.savefig(f"{stem}.pdf", metadata={"CreationDate": None})
        scratch = io.StringIO()
        sketch.figure.savefig(scratch, format="svg", metadata={"Date": None}, transparent=True)
    text = scratch.getvalue()
    return re.sub(r"<[^>]+>", lambda tag: _fit_tag(tag[0], stem.name), text[text.index("<svg") :])


def _fit_tag(tag: str, name: str) -> str:
    """A tag of an SVG with the page's colours, and with ids and what refers to them that no other figure of the page has."""
    tag = tag.replace(INK, "currentColor").replace(GRID, "var(--line)").replace("#ffffff", "var(--card)")
    return re.sub(r"""(\bid="|\bhref="#|url\(#)""", lambda found: f"{found[0]}{name}-", tag)


def _draw_references(axis: Axes, base: pl.DataFrame, metric: str, split: str) -> None:
    for phase, line, _ in REFERENCES:
        if row := get_row(base, phase=phase, metric=metric, split=split):
            axis.axvline(row["value"], color=INK, ls=line, lw=1.3, zorder=2.5)


def _add_key(figure: Figure, base: pl.DataFrame, more: Sequence[Line2D] = ()) -> None:
    """Name the base model's lines, those that are drawn."""
    drawn = set(base["phase"])
    lines = [Line2D([], [], color=INK, ls=line, lw=1.3, label=label) for phase, line, label in REFERENCES if phase in drawn]
    if lines or more:
        figure.legend(handles=[*more, *lines], loc="outside lower left", ncols=4, frameon=False, fontsize=8)


def draw_grid(summary: pl.DataFrame, results: pl.DataFrame, rows: Sequence[Row], title: str) -> Figure:
    """Bars from 0: a row of panels a metric, a column a split; the base model as vertical lines.

    The panels of a row have one axis. It holds all that is drawn but the wider intervals, which get arrows.
    """
    measured = pl.col("metric").is_in([row.metric for row in rows])
    tuned = summary.filter(measured, phase="tuned_chat")
    key = ("condition", "ratio", "split", "metric")
    single = results.filter(phase="tuned_chat").join(tuned, on=key, how="semi", nulls_equal=True)
    figure, axes, conditions, splits = make_axes(tuned, len(rows), title)
    base = summary.filter(measured, pl.col("split").is_in(splits), condition=BASE)
    for i, (metric, label, limits) in enumerate(rows):
        part = tuned.filter(metric=metric)
        held = [part[name] for name in ("value", "low_questions", "high_questions")]
        held += [table.filter(metric=metric)["value"] for table in (single, base)]
        bottom, top = find_limits(pl.concat(held), *limits)
        for j, split in enumerate(splits):
            axis = axes[i, j]
            for y, (condition, ratio) in enumerate(conditions):
                if not (row := get_row(part, condition=condition, ratio=ratio, split=split)):
                    continue
                axis.barh(y, row["value"], height=0.66, color=COLOURS.get(condition, "#999999"), alpha=0.85, zorder=2)
                draw_intervals(axis, y, row, (bottom, top))
                own = single.filter(pl.col("ratio").eq_missing(ratio), condition=condition, split=split, metric=metric)
                places = np.full(own.height, y + 0.2)
                axis.plot(own["value"], places, "o", ms=3, mfc="white", mec=INK, mew=0.6, zorder=4, clip_on=False)
                axis.text(
                    1.02, y, format_number(row["value"], 2), transform=axis.get_yaxis_transform(), va="center", fontsize=8
                )
            _draw_references(axis, base, metric, split)
            axis.set_xlim(bottom, top)
            axis.set_xlabel(label, fontsize=8)
    _add_key(figure, base)
    return figure


def draw_contrasts(contrasts: pl.DataFrame, title: str) -> Figure:
    """Differences from the reference with both intervals; the axis holds every interval over questions, arrows go beyond."""
    figure, axes, conditions, splits = make_axes(contrasts, 1, title)
    ends = pl.max_horizontal(pl.col("difference", "low_questions", "high_questions").abs())
    for j, split in enumerate(splits):
        axis, seen = axes[0, j], split == "seen"
        # The trained questions have an axis of their own.
        held = contrasts.filter((pl.col("split") == "seen") == seen).select(ends).to_series()
        here = (1.15 if seen else 1.6) * max(held.max(), 0.05)
        axis.set_xlim(-here, here)
        axis.axvline(0, color=INK, lw=1)
        for y, (condition, ratio) in enumerate(conditions):
            if not (row := get_row(contrasts, condition=condition, ratio=ratio, split=split)):
                continue
            colour = COLOURS.get(condition, "#999999")
            draw_intervals(axis, y, row, (-here, here))
            axis.plot(row["difference"], y, marker=MARKERS.get(condition, "o"), ms=7, color=colour, mec=INK, mew=0.6, zorder=4)
            axis.text(1.03, y, _write_points(row["difference"]), transform=axis.get_yaxis_transform(), va="center", fontsize=8)
        axis.xaxis.set_major_formatter(lambda x, _: _write_points(x))
        axis.set_xlabel("points of accuracy", fontsize=8)
    return figure


def _write_points(share: float) -> str:
    points = round(100 * share)
    return f"{points:+d}".replace("-", "−") if points else "0"


def draw_both_ways(tuned: pl.DataFrame, summary: pl.DataFrame, title: str) -> Figure:
    """Each condition asked in the chat prompt (filled) and few-shot (open), joined by a line; `tuned` without split `seen`."""
    figure, axes, conditions, splits = make_axes(tuned, 1, title)
    base = summary.filter(pl.col("split").is_in(splits), condition=BASE, metric="accuracy")
    for j, split in enumerate(splits):
        axis = axes[0, j]
        for y, (condition, ratio) in enumerate(conditions):
            colour, marker = COLOURS.get(condition, "#999999"), MARKERS.get(condition, "o")
            where = {"condition": condition, "ratio": ratio, "split": split}
            chat, probe = (get_row(tuned, phase=phase, **where) for phase in ("tuned_chat", "tuned_probe"))
            if chat and probe:
                axis.plot([chat["value"], probe["value"]], [y - 0.17, y + 0.17], color=colour, lw=1.5, zorder=2)
            for row, fill, place in ((chat, colour, y - 0.17), (probe, "white", y + 0.17)):
                if row:
                    axis.plot([row["low_questions"], row["high_questions"]], [place, place], color=INK, lw=1.4, zorder=2)
                    axis.plot(row["value"], place, marker=marker, ms=6, mfc=fill, mec=INK, mew=0.8, zorder=4, clip_on=False)
        _draw_references(axis, base, "accuracy", split)
        axis.set_xlim(0, 1)
        axis.set_xlabel("accuracy", fontsize=8)
    filled = Line2D([], [], marker="o", ls="", color=INK, label="tuned, chat prompt")
    hollow = Line2D([], [], marker="o", ls="", mfc="white", mec=INK, label="tuned, few-shot")
    _add_key(figure, base, [filled, hollow])
    return figure
