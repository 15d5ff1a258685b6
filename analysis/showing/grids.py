"""A figure of bars: a row of panels a metric and a column an evaluation set, with single seeds and the base model's lines."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.measures.keys import CONDITION
from analysis.showing.figures import Sketch
from analysis.showing.formats import format_number
from analysis.showing.panels import ARROW, BARS, SEEDS, find_limits, find_rows, get_row, make_axes, plot_intervals, plot_seeds
from lm_eval_tasks.contracts.style import INK, STYLE, find_look
from lm_eval_tasks.contracts.vocabulary import BASE, PHASES

# The base model's lines, by phase.
LINES = {"base_probe": "-", "base_again": "--", "base_chat": ":"}
LINE_LABELS = {name: PHASES[name] for name in LINES} | {"base_chat": f"{PHASES['base_chat']} (untrained floor)"}
INTERVALS = f"{SEEDS} {BARS}. {ARROW}"


class Panel(NamedTuple):
    """One row of panels."""

    metric: str
    title: str
    limits: tuple[float, float | None]  # of the axis, which goes beyond them where a value does; None: as far as the values


def sketch_grid(
    name: str, title: str, words: str, summary: pl.DataFrame, results: pl.DataFrame, panels: Sequence[Panel]
) -> list[Sketch]:
    """The grid of one base model and trained domain with its caption; nothing where no metric of its panels was measured.

    Args:
        name: of its files.
        title: of the figure.
        words: what the caption says before it explains the intervals.
        summary: means over seeds.
        results: of single runs.
        panels: those without numbers are left out.
    """
    held = [panel for panel in panels if summary.filter(phase="tuned_chat", metric=panel.metric).height]
    return [Sketch(name, title, f"{words} {INTERVALS}", plot_grid(summary, results, held, title))] if held else []


@mpl.rc_context(STYLE)
def plot_grid(
    summary: pl.DataFrame, results: pl.DataFrame, panels: Sequence[Panel], title: str, counted: str = "seed"
) -> Figure:
    """Bars from 0: a row of panels a metric, a column an evaluation set; the base model as vertical lines.

    The panels of a row have one axis. It holds all that is plotted but the wider intervals, which get arrows. `counted`: what
    the column `seeds` counts, of which `results` has a row each.
    """
    measured = pl.col("metric").is_in([panel.metric for panel in panels])
    tuned = summary.filter(measured, phase="tuned_chat")
    key = (*CONDITION, "split", "metric")
    single = results.filter(phase="tuned_chat").join(tuned, on=key, how="semi", nulls_equal=True)
    marks = single.partition_by(key, as_dict=True)
    figure, axes, conditions, evaluations = make_axes(tuned, len(panels), title, counted=counted)
    base = summary.filter(measured, pl.col("split").is_in(evaluations), condition=BASE)
    for i, (metric, label, limits) in enumerate(panels):
        part = tuned.filter(metric=metric)
        held = [part[name] for name in ("value", "low_questions", "high_questions")]
        held += [table.filter(metric=metric)["value"] for table in (single, base)]
        bottom, top = find_limits(pl.concat(held), *limits)
        for axis, name in zip(axes[i], evaluations, strict=True):
            rows = find_rows(part.filter(split=name), conditions)
            plot_intervals(axis, rows, (bottom, top))
            values, colours = [row["value"] for row in rows.values()], [find_look(conditions[y][0])[0] for y in rows]
            axis.barh([*rows], values, height=0.66, color=colours, alpha=0.85, zorder=2)
            for y, row in rows.items():
                if (own := marks.get((*conditions[y], name, metric))) is not None:
                    plot_seeds(axis, own["value"], y + 0.2, conditions[y][0], edge=INK)  # a bar has the colour already
                text = format_number(row["value"], 2)
                axis.text(1.02, y, text, transform=axis.get_yaxis_transform(), va="center", fontsize=8)
            plot_base(axis, base, metric, name)
            axis.set_xlim(bottom, top)
            axis.set_xlabel(label, fontsize=8)
    add_key(figure, base)
    return figure


def plot_base(axis: Axes, base: pl.DataFrame, metric: str, evaluation: str) -> None:
    """The base model's means of one metric as vertical lines."""
    for phase, line in LINES.items():
        if row := get_row(base, phase=phase, metric=metric, split=evaluation):
            axis.axvline(row["value"], color=INK, ls=line, lw=1.3, zorder=2.5)


def add_key(figure: Figure, base: pl.DataFrame, more: Sequence[Line2D] = ()) -> None:
    """Name the base model's lines, those that are plotted, after what else there is to name."""
    plotted = set(base["phase"])
    lines = [Line2D([], [], color=INK, ls=line, lw=1.3, label=LINE_LABELS[p]) for p, line in LINES.items() if p in plotted]
    if lines or more:
        figure.legend(handles=[*more, *lines], loc="outside lower left", ncols=4, frameon=False, fontsize=8)
