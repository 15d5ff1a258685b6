"""What the figures share: a grid of panels, a row a condition and a column a split, and intervals of two widths."""

from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.showing.labels import BASE, SPLITS, name_condition, name_split, sort_by_words
from lm_eval_tasks.contracts.style import INK


def make_axes(
    table: pl.DataFrame, rows: int, title: str, room: float = 0.3
) -> tuple[Figure, np.ndarray, list[tuple[str, float | None]], list[str]]:
    """A grid of panels with the conditions named at the left, and the splits with n and seeds at the top.

    Args:
        table: the columns `condition`, `ratio`, `split`, `n` and `seeds`.
        rows: of panels.
        title: of the figure.
        room: the height of a condition, in inches.

    Returns:
        The figure, its axes (rows, splits), the conditions from the top, and the splits from the left.
    """
    tuned = table.filter(pl.col("condition") != BASE).select("condition", "ratio").unique()
    conditions, splits = sort_by_words(tuned).rows(), [split for split in SPLITS if split in set(table["split"])]
    height = room * len(conditions) + 0.55
    figure = Figure(figsize=(1.6 + 2.45 * len(splits), rows * height + 1.35), layout="constrained")
    axes = figure.subplots(rows, len(splits), sharey=True, squeeze=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    for column, split in enumerate(splits):
        axis, words = axes[0, column], f"{SPLITS[split]}\n{count_panel(table.filter(split=split))}"
        axis.set_title(name_split(split), fontweight="bold", pad=27)
        axis.text(0, 1.03, words, transform=axis.transAxes, fontsize=8, linespacing=1.35)
    for axis in axes.flat:
        axis.set_ylim(len(conditions) - 0.4, -0.6)
        axis.set_yticks(range(len(conditions)), [name_condition(*row) for row in conditions])
        axis.tick_params(axis="y", length=0)
    return figure, axes, conditions, splits


def get_row(table: pl.DataFrame, **where: str | float | None) -> Mapping[str, float] | None:
    """The row of a summary or of contrasts with these values, or None."""
    found = table.filter(*(pl.col(name).eq_missing(value) for name, value in where.items()))
    return found.row(0, named=True) if found.height else None


def find_limits(held: pl.Series, least: float, most: float | None) -> tuple[float, float]:
    """Limits of an axis that holds all these values: `least` and `most`, and further with some room where a value lies beyond.

    Without `most` the axis goes as far as the values do.
    """
    low, high = held.min(), held.max()
    room = 0.08 * (max(high, most or least) - min(low, least))
    close = 1e-9  # a mean of ones can pass 1 by rounding
    bottom = least if low > least - close else low - room
    top = most if most is not None and high < most + close else high + room
    return bottom, top if top > bottom else bottom + 1


def draw_intervals(axis: Axes, y: float, row: Mapping[str, float], limits: tuple[float, float]) -> None:
    """Both intervals; an arrow where one goes on beyond the axis."""
    axis.plot([row["low"], row["high"]], [y, y], color=INK, lw=0.9, solid_capstyle="butt", zorder=3)
    axis.plot([row["low_questions"], row["high_questions"]], [y, y], color=INK, lw=3, solid_capstyle="butt", zorder=3)
    for end, mark, beyond in ((limits[0], "<", row["low"] < limits[0]), (limits[1], ">", row["high"] > limits[1])):
        if beyond:
            axis.plot(end, y, marker=mark, ms=4, color=INK, clip_on=False, zorder=3)


def count_panel(part: pl.DataFrame) -> str:
    """Questions and seeds of the tuned models of a panel: "n = 420, 2 seeds"."""
    n, seeds = (part.filter(pl.col("condition") != BASE)[name] for name in ("n", "seeds"))
    count = f"{n.min():,}" if n.min() == n.max() else f"{n.min():,} to {n.max():,}"
    return f"n = {count}, {seeds.max()} seed{'s' if seeds.max() != 1 else ''}"
