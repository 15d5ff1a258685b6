"""A Love plot: how far each condition is from the reference, measure by measure, in standard deviations (Love 2004).

A band a measure, a line a condition with its interval, a panel a reference; conditions keep the colours and marks that
`analysis` gives them, and stand in the order of the key.
"""

import math
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from intervention.comparing.balance import AGREEMENT, IMBALANCE, MEASURES, is_letter
from lm_eval_tasks.contracts.style import COLOURS, INK, MARKERS, STYLE

OTHERS = "^<>ph8d"
BAND = "#f3f5f7"
WIDEST = 1.0  # what is farther is an arrow with its number
LINE, GAP = 0.125, 0.16  # inches: of a condition, and between two measures
PANELS = 3  # side by side


def plot_differences(differences: pl.DataFrame) -> Figure:
    """The Love plot of differences, without the single letters and without what conditions are made to differ in.

    Args:
        differences: `balance.measure_differences`' columns, and `reference`; a panel for each reference, and in it a line for
            each condition, named after the last "/" of its name.
    """
    shown = differences.filter(~is_letter(), ~pl.col("measure").is_in(AGREEMENT)).with_columns(
        name=pl.col("condition").str.split("/").list.last()
    )
    shown, same = _drop_same(shown)
    panels = shown.partition_by("reference", maintain_order=True)
    measures = sorted(set(shown["measure"]), key=lambda name: MEASURES.index(name.removesuffix(" letters")))
    names = shown["name"].unique(maintain_order=True).to_list()
    columns = min(PANELS, len(panels))
    lines = [
        max(p["condition"].n_unique() for p in panels[start : start + columns]) for start in range(0, len(panels), columns)
    ]
    steps = [many * LINE + GAP for many in lines]
    with mpl.rc_context(STYLE):
        height = sum(len(measures) * step + 0.9 for step in steps) + 0.85 + 0.2 * math.ceil(len(names) / (2 * columns + 1))
        figure = Figure(figsize=(1.9 + 3.9 * columns, height), layout="constrained")
        axes = figure.subplots(len(lines), columns, sharey="row", squeeze=False, height_ratios=steps).flat
        figure.suptitle("What differs between the conditions", x=0.01, ha="left", fontsize=12, fontweight="bold")
        limit = _find_limit(shown)
        for position, axis in enumerate(axes):
            if position < len(panels):
                _plot_panel(axis, panels[position], measures, steps[position // columns], limit, names)
            else:
                axis.set_visible(False)
        keys = [Line2D([], [], mec=INK, mew=0.5, label=_write_name(name), **_find_look(name, names)) for name in names]
        line = Line2D([], [], color=INK, ls="--", lw=1, label=f"{IMBALANCE:g}, commonly called an imbalance")
        legend = figure.legend(
            handles=[*keys, line], loc="outside lower left", ncols=2 * columns + 1, frameon=False, fontsize=8, alignment="left"
        )
        words = f"Nowhere any difference: {', '.join(same)}.\n" if same else ""
        legend.set_title(f"{words}In each band from top to bottom:", prop={"size": 8})
    return figure


def write_figure(figure: Figure, stem: Path) -> None:
    """Write a figure as PNG and SVG; equal figures give equal bytes."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": stem.name}):
        figure.savefig(stem.with_suffix(".png"), metadata={"Software": None})
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})


def _find_limit(shown: pl.DataFrame) -> float:
    """Where the axis ends: behind all that is nearer than `WIDEST`."""
    near = shown["smd"].abs().drop_nulls()
    largest = near.filter(near <= WIDEST).max() or 0.0
    return max(0.3, 1.12 * largest)


def _plot_panel(
    axis: Axes, panel: pl.DataFrame, measures: Sequence[str], step: float, limit: float, names: Sequence[str]
) -> None:
    """One band a measure, first on top."""
    conditions = panel["condition"].unique(maintain_order=True).to_list()
    for i in range(0, len(measures), 2):
        axis.axhspan(i * step, (i + 1) * step, color=BAND, lw=0, zorder=0)
    axis.axvline(IMBALANCE, color=INK, ls="--", lw=1, zorder=1.5)
    for row in panel.iter_rows(named=True):
        band = measures.index(row["measure"]) * step
        y = band + step / 2 + (conditions.index(row["condition"]) - (len(conditions) - 1) / 2) * LINE
        look = _find_look(row["name"], names)
        size = None if row["smd"] is None else abs(row["smd"])
        if size is None or size > limit:
            axis.plot(limit, y, marker=">", ms=4.5, color=look["mfc"], mec=INK, mew=0.4, clip_on=False, zorder=4)
            text = "n/a" if size is None else f"{size:.1f}"
            axis.text(limit * 1.025, y, text, va="center", fontsize=6.5, zorder=4)
            continue
        if row["low"] is not None and size:  # a difference of exactly 0 is one of the same rows, or was made
            ends = [0.0 if row["low"] < 0 < row["high"] else min(abs(row["low"]), abs(row["high"])), 0.0]
            ends[1] = min(limit, max(abs(row["low"]), abs(row["high"])))
            axis.plot(ends, [y, y], color=look["mfc"], lw=1.4, solid_capstyle="butt", zorder=2)
        axis.plot(size, y, mec=INK, mew=0.5, clip_on=False, zorder=3, **look)
    axis.set_xlim(0, limit)
    axis.set_ylim(len(measures) * step, 0)
    axis.set_yticks([(i + 0.5) * step for i in range(len(measures))], measures)
    axis.tick_params(axis="y", length=0, pad=7)
    axis.xaxis.set_tick_params(labelbottom=True)
    counts = pl.concat([panel["n"], panel["n_reference"]])
    questions = f"{counts.min():,}" if counts.min() == counts.max() else f"{counts.min():,} to {counts.max():,}"
    title = textwrap.fill(f"against {panel['reference'][0]}".replace("/", " / "), 46, break_on_hyphens=False)
    axis.set_title(title, fontweight="bold", pad=17)
    axis.text(0, 1, f"n = {questions} rows a condition", transform=axis.transAxes, fontsize=7.5, va="bottom")
    axis.set_xlabel("absolute standardised difference", fontsize=8)


def _drop_same(shown: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """The measures in which some condition differs, and the names of the others; all are kept where none does."""
    differs = (pl.col("smd") != 0).fill_null(True).any().over("measure")
    kept = shown.filter(differs)
    same = shown.filter(~differs)["measure"].unique(maintain_order=True).to_list()
    return (kept, same) if kept.height else (shown, [])


def _find_look(name: str, names: Sequence[str]) -> dict[str, Any]:
    """Colour and mark of a condition: a mix is the darker the greater its ratio, a name of one's own gets what is left."""
    kind, _, ratio = name.partition("-")
    if name in COLOURS or (kind == "mix" and re.fullmatch(r"[01](\.\d+)?", ratio)):
        shade = 0.4 + 0.6 * float(ratio or 1)
        colour = tuple(1 - shade * (1 - part) for part in to_rgb(COLOURS[kind]))
        return {"marker": MARKERS[kind], "ms": 8 if MARKERS[kind] == "*" else 5, "mfc": colour, "ls": ""}
    position = [other for other in names if other not in COLOURS].index(name)
    return {"marker": OTHERS[position % len(OTHERS)], "ms": 5, "mfc": mpl.colormaps["tab10"](position % 10), "ls": ""}


def _write_name(name: str) -> str:
    return name.replace("_", "-").replace("mix-", "mix ")
