"""What figures share: a grid of panels, a row a condition and a column an evaluation set, and intervals of two widths."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.measures.keys import CONDITION, sort_by_words
from lm_eval_tasks.contracts.style import INK, find_look
from lm_eval_tasks.contracts.vocabulary import BASE, EVALUATION_SETS, name_condition, name_set

# What captions say of `plot_seeds` and of `plot_intervals`.
SEEDS = "Small open marks: single seeds, where there are several."
ARROW = "An arrow: the interval goes on beyond the axis, which the thin ones do not stretch."
BARS = "Thick bars: 95% intervals over questions; thin, light ones: over questions, and over seeds where there are several"
LIGHT = 0.45  # how much ink the intervals over seeds get: two seeds make them so wide that they would hide the rest


def make_axes(
    table: pl.DataFrame, rows: int, title: str, room: float = 0.3, counted: str = "seed"
) -> tuple[Figure, np.ndarray, list[tuple[str, float | None]], list[str]]:
    """A grid of panels with the conditions named at the left, and the evaluation sets with n and seeds at the top.

    Args:
        table: the columns `condition`, `ratio`, `split`, `n` and `seeds`.
        rows: of panels.
        title: of the figure.
        room: the height of a condition, in inches.
        counted: what the column `seeds` counts.

    Returns:
        The figure, its axes (rows, evaluation sets), the conditions from the top, and the evaluation sets from the left.
    """
    tuned = table.filter(pl.col("condition") != BASE).select(CONDITION).unique()
    conditions, evaluations = sort_by_words(tuned).rows(), list_evaluations(table)
    height = room * len(conditions) + 0.55
    figure = Figure(figsize=(1.6 + 2.45 * len(evaluations), rows * height + 1.35), layout="constrained")
    axes = figure.subplots(rows, len(evaluations), sharey=True, squeeze=False)
    write_title(figure, title)
    for axis, name in zip(axes[0], evaluations, strict=True):
        write_head(axis, name, count_panel(table.filter(split=name), counted))
    axes[0, 0].set_ylim(len(conditions) - 0.4, -0.6)
    axes[0, 0].set_yticks(range(len(conditions)), [name_condition(*row) for row in conditions])
    show_names_once(axes)
    return figure, axes, conditions, evaluations


def show_names_once(axes: np.ndarray) -> None:
    """Have rows named at the left of the first panels alone; ticks that nobody sees would take their time everywhere.

    `axes`: (rows, evaluation sets), with one vertical axis.
    """
    for axis in axes[:, 0]:
        axis.tick_params(axis="y", length=0)
    for axis in axes[:, 1:].flat:
        axis.yaxis.set_visible(False)


def list_evaluations(table: pl.DataFrame) -> list[str]:
    """The evaluation sets that a table holds, in their order."""
    held = set(table["split"])
    return [name for name in EVALUATION_SETS if name in held]


def write_title(figure: Figure, title: str) -> None:
    """The title above all panels."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")


def write_head(axis: Axes, evaluation: str, counts: str) -> None:
    """Above a column of panels: its evaluation set, what that is, and how much was asked."""
    axis.set_title(name_set(evaluation), fontweight="bold", pad=27)
    words = f"{EVALUATION_SETS[evaluation]}\n{counts}"
    near = {"xycoords": "axes fraction", "xytext": (0, 3), "textcoords": "offset points"}
    axis.annotate(words, (0, 1), **near, fontsize=8, linespacing=1.35)


def write_beside(axis: Axes, y: float, text: str) -> None:
    """A number at the right of a panel's row."""
    axis.text(1.03, y, text, transform=axis.get_yaxis_transform(), va="center", fontsize=8)


def get_row(table: pl.DataFrame, **where: str | float | None) -> Mapping[str, float] | None:
    """The row of a summary or of contrasts with these values, or None."""
    found = table.filter(*(pl.col(name).eq_missing(value) for name, value in where.items()))
    return found.row(0, named=True) if found.height else None


def find_rows(table: pl.DataFrame, conditions: Sequence[tuple[str, float | None]]) -> dict[int, Mapping[str, float]]:
    """The rows of conditions, one each, by their position among `conditions`; of those that the table holds."""
    rows = {(row["condition"], row["ratio"]): row for row in table.iter_rows(named=True)}
    return {y: rows[condition] for y, condition in enumerate(conditions) if condition in rows}


def find_limits(held: pl.Series, least: float, most: float | None) -> tuple[float, float]:
    """Limits of an axis that holds all these values: `least` and `most`, and further with some room where a value lies beyond.

    Without `most` the axis goes as far as the values do.

    >>> find_limits(pl.Series([0.2, 0.7]), 0, 1), find_limits(pl.Series([0.0, 5.0]), 0, None)
    ((0, 1), (0, 5.4))
    """
    low, high = held.min(), held.max()
    room = 0.08 * (max(high, most or least) - min(low, least))
    close = 1e-9  # a mean of ones can pass 1 by rounding
    bottom = least if low > least - close else low - room
    top = most if most is not None and high < most + close else high + room
    return bottom, top if top > bottom else bottom + 1


def plot_intervals(
    axis: Axes, rows: Mapping[float, Mapping[str, float]], limits: tuple[float, float], upright: bool = False
) -> None:
    """Both intervals of all rows, those over seeds thin and light behind; an arrow where one goes on beyond the axis.

    Args:
        axis: the panel.
        rows: of a summary or of contrasts, by where their intervals lie on the other axis.
        limits: of the axis along which they go.
        upright: that is the vertical one.
    """
    for suffix, look in (("", {"lw": 0.9, "alpha": LIGHT, "zorder": 2.8}), ("_questions", {"lw": 3, "zorder": 3})):
        # One line, which gaps cut: an artist each would take several times as long.
        ends = [end for row in rows.values() for end in (row[f"low{suffix}"], row[f"high{suffix}"], None)]
        _plot_along(axis, ends, [at for at in rows for _ in range(3)], upright, **look)
    beyond = ([at for at in rows if rows[at]["low"] < limits[0]], [at for at in rows if rows[at]["high"] > limits[1]])
    for end, mark, across in zip(limits, "v^" if upright else "<>", beyond, strict=True):
        if across:
            look = {"ls": "", "marker": mark, "ms": 4, "mew": 0, "alpha": LIGHT, "clip_on": False, "zorder": 2.8}
            _plot_along(axis, [end] * len(across), across, upright, **look)


def plot_seeds(
    axis: Axes, values: pl.Series, at: float, condition: str, edge: str | None = None, upright: bool = False
) -> None:
    """What single seeds gave, where there are several, as small open marks of their condition before all else.

    Args:
        axis: the panel.
        values: a seed each.
        at: where the marks lie on the other axis.
        condition: whose marker they have.
        edge: their colour; the condition's where None.
        upright: the values go along the vertical axis.
    """
    if len(values) > 1:
        colour, marker = find_look(condition)
        look = {"mfc": "white", "mec": edge or colour, "mew": 0.7, "clip_on": False}
        _plot_along(axis, values.to_list(), [at] * len(values), upright, ls="", marker=marker, ms=4.5, zorder=5, **look)


def _plot_along(axis: Axes, values: Sequence[float | None], across: Sequence[float], upright: bool, **look: object) -> None:
    axis.plot(*((across, values) if upright else (values, across)), **{"color": INK, "solid_capstyle": "butt"} | look)


def count_panel(part: pl.DataFrame, counted: str = "seed") -> str:
    """Questions and seeds, or what is counted in their place, of the tuned models of a panel: "n = 420, 2 seeds"."""
    tuned = part.filter(pl.col("condition") != BASE)
    return f"n = {name_range(tuned['n'])}, {count_seeds(tuned, counted)}"


def count_seeds(part: pl.DataFrame, counted: str = "seed") -> str:
    """How many seeds there are at most: "2 seeds"."""
    seeds = part["seeds"].max()
    return f"{seeds} {counted}{'s' if seeds != 1 else ''}"


def name_range(numbers: pl.Series) -> str:
    """The least and the greatest of some counts: "420", or "420 to 1,040"."""
    least, most = numbers.min(), numbers.max()
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"
