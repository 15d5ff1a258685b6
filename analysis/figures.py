"""Every figure, drawn from the summary and the contrasts: a row a condition, a panel a split, intervals on everything.

Conditions keep their colour and marker throughout, and are named beside their row, so that nothing hangs on colour.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.contrasts import REFERENCE
from analysis.labels import BASE, CONDITIONS, SPLITS, name_condition, name_split
from intervention.drawing import COLOURS, GRID, INK, MARKERS, STYLE

REFERENCES = (("base_probe", "-", "base model, few-shot"), ("base_chat", ":", "base model, chat prompt (untrained floor)"))


class Row(NamedTuple):
    """One row of panels."""

    metric: str
    title: str
    limits: tuple[float, float | None]


class Sketch(NamedTuple):
    """A figure and the words that go with it."""

    name: str
    title: str
    caption: str
    figure: Figure


INTERVALS = "Thick bars: 95% intervals over questions; thin ones: over questions and seeds; marks: single seeds."
CAPTIONS = {
    "accuracy": f"The tuned models asked in the chat prompt. Lines: the base model before any training. {INTERVALS}",
    "contrasts": (
        f"Accuracy minus that of {REFERENCE} training: the same seeds paired, and the same questions wherever they are the "
        "same. Thick bars: 95% intervals over questions, these seeds taken as given; thin ones: over questions and seeds (two "
        "seeds make them very wide). An arrow: the interval goes on beyond the axis."
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
        both = summary.filter(pl.col("phase").is_in(["tuned_chat", "tuned_probe"]), metric="accuracy")
        if both["phase"].n_unique() == 2:
            title = "Knowledge or format? The tuned models asked both ways"
            drawn["knowledge"] = title, draw_pairs(both, summary, title)
    return [Sketch(name, drawn[name][0], caption, drawn[name][1]) for name, caption in CAPTIONS.items() if name in drawn]


def write_figure(sketch: Sketch, stem: Path) -> str:
    """Write a figure as PNG and PDF at `stem`, and return it as SVG that takes its ink from the page it stands in."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": stem.name, "svg.fonttype": "none"}):
        sketch.figure.draw_without_rendering()
        sketch.figure.set_layout_engine("none")  # laid out once, for all three forms
        sketch.figure.savefig(stem.with_suffix(".png"), metadata={"Software": None})
        sketch.figure.savefig(stem.with_suffix(".pdf"), metadata={"CreationDate": None})
        scratch = stem.with_suffix(".svg")
        sketch.figure.savefig(scratch, metadata={"Date": None}, transparent=True)
        text = scratch.read_text()
        scratch.unlink()
    svg = text[text.index("<svg") :].replace(INK, "currentColor").replace(GRID, "var(--line)").replace("#ffffff", "var(--card)")
    # Two figures in one page must not share the names of their shapes.
    for old, new in (('id="', f'id="{stem.name}-'), ('"#', f'"#{stem.name}-'), ("url(#", f"url(#{stem.name}-")):
        svg = svg.replace(old, new)
    return svg


def _list_rows(table: pl.DataFrame) -> list[tuple[str, float | None]]:
    """The conditions that a table holds, top row first."""
    have = set(table.filter(pl.col("condition") != BASE).select("condition", "ratio").iter_rows())
    order = list(CONDITIONS)
    place = {name: i for i, name in enumerate(order)}
    return sorted(have, key=lambda row: (place.get(row[0], len(order)), -(row[1] or 0), row[0]))


def _make_axes(table: pl.DataFrame, rows: int, title: str) -> tuple[Figure, np.ndarray, list, list[str]]:
    """A grid of panels with the conditions named at the left and the splits at the top."""
    conditions, splits = _list_rows(table), [split for split in SPLITS if split in set(table["split"])]
    height = 0.3 * len(conditions) + 0.55
    figure = Figure(figsize=(1.6 + 2.45 * len(splits), rows * height + 1.35), layout="constrained")
    axes = figure.subplots(rows, len(splits), sharey=True, squeeze=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    for column, split in enumerate(splits):
        n, seeds = (table.filter(pl.col("condition") != BASE, split=split)[name] for name in ("n", "seeds"))
        count = f"{n.min():,}" if n.min() == n.max() else f"{n.min():,} to {n.max():,}"
        many = f"{seeds.max()} seed{'s' if seeds.max() != 1 else ''}"
        axis, words = axes[0, column], f"{SPLITS[split]}\nn = {count}, {many}"
        axis.set_title(name_split(split), fontweight="bold", pad=27)
        axis.text(0, 1.03, words, transform=axis.transAxes, fontsize=8, linespacing=1.35)
    for axis in axes.flat:
        axis.set_ylim(len(conditions) - 0.4, -0.6)
        axis.set_yticks(range(len(conditions)), [name_condition(*row) for row in conditions])
        axis.tick_params(axis="y", length=0)
    return figure, axes, conditions, splits


def _get_row(table: pl.DataFrame, **where: str | float | None) -> Mapping[str, float] | None:
    """The row of a summary or of contrasts with these values, or None."""
    found = table.filter(*(pl.col(name).eq_missing(value) for name, value in where.items()))
    return found.row(0, named=True) if found.height else None


def _draw_intervals(axis: Axes, y: float, row: Mapping[str, float], limits: tuple[float, float]) -> None:
    """Both intervals; an arrow where one goes on beyond the axis."""
    axis.plot([row["low"], row["high"]], [y, y], color=INK, lw=0.9, solid_capstyle="butt", zorder=3)
    axis.plot([row["low_questions"], row["high_questions"]], [y, y], color=INK, lw=3, solid_capstyle="butt", zorder=3)
    for end, mark, beyond in ((limits[0], "<", row["low"] < limits[0]), (limits[1], ">", row["high"] > limits[1])):
        if beyond:
            axis.plot(end, y, marker=mark, ms=4, color=INK, clip_on=False, zorder=3)


def _draw_references(axis: Axes, summary: pl.DataFrame, metric: str, split: str) -> None:
    for phase, line, _ in REFERENCES:
        if row := _get_row(summary, condition=BASE, phase=phase, metric=metric, split=split):
            axis.axvline(row["value"], color=INK, ls=line, lw=1.3, zorder=2.5)


def _add_key(figure: Figure, summary: pl.DataFrame, metrics: Sequence[str], more: Sequence[Line2D] = ()) -> None:
    """Name the base model's lines, those that are drawn."""
    drawn = set(summary.filter(pl.col("metric").is_in(metrics), condition=BASE)["phase"])
    lines = [Line2D([], [], color=INK, ls=line, lw=1.3, label=label) for phase, line, label in REFERENCES if phase in drawn]
    if lines or more:
        figure.legend(handles=[*more, *lines], loc="outside lower left", ncols=4, frameon=False, fontsize=8)


def draw_grid(summary: pl.DataFrame, results: pl.DataFrame, rows: Sequence[Row], title: str) -> Figure:
    """Bars from 0: a row of panels a metric, a column a split; the base model as vertical lines."""
    tuned = summary.filter(pl.col("metric").is_in([row.metric for row in rows]), phase="tuned_chat")
    single = results.filter(phase="tuned_chat")
    figure, axes, conditions, splits = _make_axes(tuned, len(rows), title)
    for i, (metric, label, (least, most)) in enumerate(rows):
        part = tuned.filter(metric=metric)
        shown = summary.filter(pl.col("phase") != "tuned_probe", metric=metric)
        top = most or 1.08 * max(shown["value"].max(), shown["high_questions"].max())
        bottom = min(least, part["low_questions"].min() or 0)
        for j, split in enumerate(splits):
            axis = axes[i, j]
            for y, (condition, ratio) in enumerate(conditions):
                if not (row := _get_row(part, condition=condition, ratio=ratio, split=split)):
                    continue
                axis.barh(y, row["value"], height=0.66, color=COLOURS.get(condition, "#999999"), alpha=0.85, zorder=2)
                _draw_intervals(axis, y, row, (bottom, top))
                seeds = single.filter(pl.col("ratio").eq_missing(ratio), condition=condition, split=split, metric=metric)[
                    "value"
                ]
                axis.plot(seeds, np.full(len(seeds), y + 0.2), "o", ms=3, mfc="white", mec=INK, mew=0.6, zorder=4)
                axis.text(1.02, y, f"{row['value']:.2f}", transform=axis.get_yaxis_transform(), va="center", fontsize=8)
            _draw_references(axis, summary, metric, split)
            axis.set_xlim(bottom, top)
            axis.set_xlabel(label, fontsize=8)
    _add_key(figure, summary, [row.metric for row in rows])
    return figure


def draw_contrasts(contrasts: pl.DataFrame, title: str) -> Figure:
    """Differences from the reference with both intervals; the axis holds every interval over questions, arrows go beyond."""
    figure, axes, conditions, splits = _make_axes(contrasts, 1, title)
    part = contrasts.filter(pl.col("split") != "seen")
    part = part if part.height else contrasts
    reach = 1.6 * max(part["low_questions"].abs().max(), part["high_questions"].abs().max(), 0.05)
    for j, split in enumerate(splits):
        axis = axes[0, j]
        seen = contrasts.filter(split=split)
        here = (
            reach
            if split != "seen"
            else 1.15 * max(seen["low_questions"].abs().max(), seen["high_questions"].abs().max(), 0.05)
        )
        axis.set_xlim(-here, here)
        axis.axvline(0, color=INK, lw=1)
        for y, (condition, ratio) in enumerate(conditions):
            if not (row := _get_row(contrasts, condition=condition, ratio=ratio, split=split)):
                continue
            colour = COLOURS.get(condition, "#999999")
            _draw_intervals(axis, y, row, (-here, here))
            axis.plot(row["difference"], y, marker=MARKERS.get(condition, "o"), ms=7, color=colour, mec=INK, mew=0.6, zorder=4)
            axis.text(1.03, y, _write_points(row["difference"]), transform=axis.get_yaxis_transform(), va="center", fontsize=8)
        axis.xaxis.set_major_formatter(lambda x, _: _write_points(x))
        axis.set_xlabel("points of accuracy", fontsize=8)
    return figure


def _write_points(share: float) -> str:
    points = round(100 * share)
    return f"{points:+d}".replace("-", "−") if points else "0"


def draw_pairs(tuned: pl.DataFrame, summary: pl.DataFrame, title: str) -> Figure:
    """Each condition asked in the chat prompt (filled) and few-shot (open), joined by a line."""
    tuned = tuned.filter(pl.col("split") != "seen")
    figure, axes, conditions, splits = _make_axes(tuned, 1, title)
    for j, split in enumerate(splits):
        axis = axes[0, j]
        for y, (condition, ratio) in enumerate(conditions):
            colour, marker = COLOURS.get(condition, "#999999"), MARKERS.get(condition, "o")
            where = {"condition": condition, "ratio": ratio, "split": split}
            chat, probe = (_get_row(tuned, phase=phase, **where) for phase in ("tuned_chat", "tuned_probe"))
            if chat and probe:
                axis.plot([chat["value"], probe["value"]], [y - 0.17, y + 0.17], color=colour, lw=1.5, zorder=2)
            for row, fill, place in ((chat, colour, y - 0.17), (probe, "white", y + 0.17)):
                if row:
                    axis.plot([row["low_questions"], row["high_questions"]], [place, place], color=INK, lw=1.4, zorder=2)
                    axis.plot(row["value"], place, marker=marker, ms=6, mfc=fill, mec=INK, mew=0.8, zorder=4)
        _draw_references(axis, summary, "accuracy", split)
        axis.set_xlim(0, 1)
        axis.set_xlabel("accuracy", fontsize=8)
    filled = Line2D([], [], marker="o", ls="", color=INK, label="tuned, chat prompt")
    hollow = Line2D([], [], marker="o", ls="", mfc="white", mec=INK, label="tuned, few-shot")
    _add_key(figure, summary, ["accuracy"], [filled, hollow])
    return figure
