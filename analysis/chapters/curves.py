"""Curves over the consistency ratio: from 0 (incompatible) over the mixes to 1 (self-aligning)."""

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.chapters.chapter import RATIO, Chapter, Computed, Part
from analysis.measures.keys import BLOCK, sort_by_words
from analysis.measures.metrics import BOUNDS, CONSISTENCY, CONTRASTED, METRICS
from analysis.showing.figures import Sketch
from analysis.showing.formats import DASH, format_mean
from analysis.showing.grids import LINES
from analysis.showing.panels import (
    ARROW,
    BARS,
    SEEDS,
    list_evaluations,
    name_range,
    plot_intervals,
    plot_seeds,
    write_head,
    write_title,
)
from analysis.showing.tables import Table, gather_cells
from lm_eval_tasks.contracts.style import COLOURS, INK, STYLE, find_look
from lm_eval_tasks.contracts.vocabulary import BASE, CONDITIONS, EVALUATION_SETS, name_condition, name_set

# The ends of the curve by their ratio, then what lies between.
ENDS = {c.name: c.end for c in sorted((c for c in CONDITIONS.values() if c.end is not None), key=lambda c: c.end)}
ON_CURVE = (*ENDS, *(c.name for c in CONDITIONS.values() if c.on_curve and c.name not in ENDS))
PHASE = "tuned_chat"
ASIDE = 0.05  # how far beside its ratio a curve has its seeds
CAPTION = (
    "The tuned models in the chat prompt, over the share of the answers that are the model's own wrong ones: 0 is incompatible "
    f"training, 1 self-aligning. {SEEDS} Large marks: their means. Bands, which only lead the eye from one ratio to the next: "
    f"the intervals over questions. {BARS} (two make them very wide). {ARROW} KL, rank correlation and same answer compare "
    "with the base model's few-shot probe; broken lines: the base model itself, asked with other demonstrations. An axis that "
    "shows less than all possible values says so; that of KL, which has no greatest value, starts at 0."
)


def compute_curves(summary: pl.DataFrame) -> pl.DataFrame:
    """The points of all curves: the rows of the summary that have a consistency ratio, in the chat prompt.

    Args:
        summary: as `contrasts.compare_conditions` gives it.

    Returns:
        Its columns, with `ratio` 0 for incompatible and 1 for self-aligning; each curve's points follow each other by ratio.
    """
    ends = pl.col("condition").replace_strict(ENDS, default=None, return_dtype=pl.Float64)
    points = summary.filter(pl.col("metric").is_in(CONTRASTED), pl.col("condition").is_in(ON_CURVE), phase=PHASE)
    points = points.with_columns(ratio=pl.coalesce("ratio", ends)).sort("ratio", maintain_order=True)
    # Sorted by all but the condition, whose order is not that of the ratio.
    return sort_by_words(points.rename({"condition": "_", "ratio": "__"})).rename({"_": "condition", "__": "ratio"})


def tabulate_curves(curves: pl.DataFrame) -> Table:
    """The points of one part's curves: a row an evaluation set and ratio, a column a metric with its interval."""
    metrics, cells = list_metrics(curves), gather_cells(curves, ("split", "ratio", "condition"))
    order = [*EVALUATION_SETS]
    rows = []
    for (split, ratio, condition), by in sorted(cells.items(), key=lambda item: (order.index(item[0][0]), item[0][1])):
        numbers = [format_mean(by[m]) if m in by else DASH for m in metrics]
        counts = [f"{min(row['n'] for row in by.values()):,}", str(max(row["seeds"] for row in by.values()))]
        rows.append([name_set(split), f"{ratio:g}", name_condition(condition), *numbers, *counts])
    note = (
        "Mean over seeds with its 95% interval over questions, and over seeds where there are several. Ratio: the share of "
        "answers that are the model's own wrong ones. n: questions, the fewest of the metrics."
    )
    header = ["split", "ratio", "trained on", *(METRICS[metric].label for metric in metrics), "n", "seeds"]
    return Table("curves", "Results by consistency ratio, tuned models in the chat prompt", header, rows, note, left=3)


def list_metrics(curves: pl.DataFrame) -> list[str]:
    """The metrics of which there are curves."""
    held = set(curves["metric"])
    return [metric for metric in CONTRASTED if metric in held]


@mpl.rc_context(STYLE)
def plot_curves(curves: pl.DataFrame, results: pl.DataFrame, title: str) -> Figure:
    """The curves of one base model and one trained domain: a row of panels a metric, a column an evaluation set.

    Of what compares with the base model's probe, the base model asked again is a broken line.
    """
    runs = list_seeds(curves, results)
    again = results.filter(pl.col("metric").is_in(CONSISTENCY), condition=BASE, phase="base_again")
    metrics, evaluations = list_metrics(curves), list_evaluations(curves)
    figure = Figure(figsize=(0.7 + 2.55 * len(evaluations), 1.2 + 1.75 * len(metrics)), layout="constrained")
    axes = figure.subplots(len(metrics), len(evaluations), sharex=True, squeeze=False)
    write_title(figure, title)
    for j, name in enumerate(evaluations):
        part = curves.filter(split=name)
        n, seeds = (name_range(part[column]) for column in ("n", "seeds"))
        write_head(axes[0, j], name, f"n = {n}, {seeds} seed{'' if seeds == '1' else 's'}")
        axes[-1, j].set_xlabel("share of own wrong answers", fontsize=8)
        for axis, metric in zip(axes[:, j], metrics, strict=True):
            points, single, floor = (table.filter(metric=metric) for table in (curves, runs, again))
            # The trained questions have a scale of their own.
            own = (pl.col("split") == "seen") == (name == "seen")
            held = [points.filter(own)[column] for column in ("value", "low_questions", "high_questions")]
            limits = choose_limits(pl.concat([*held, *(table.filter(own)["value"] for table in (single, floor))]), metric)
            for value in floor.filter(split=name)["value"]:
                axis.axhline(value, color=INK, ls=LINES["base_again"], lw=1.1, zorder=2)
            _plot_curve(axis, points.filter(split=name), single.filter(split=name), metric, limits)
    for axis, metric in zip(axes[:, 0], metrics, strict=True):
        axis.set_ylabel(METRICS[metric].label, fontsize=8)
    held = [name for name in ON_CURVE if name in set(curves["condition"])]
    looks = {name: dict(zip(("color", "marker"), find_look(name), strict=True)) for name in held}
    handles = [Line2D([], [], ls="", ms=6.5, mec=INK, mew=0.7, label=name_condition(n), **look) for n, look in looks.items()]
    figure.legend(handles=handles, loc="outside lower left", ncols=len(held), frameon=False, fontsize=8)
    return figure


def list_seeds(curves: pl.DataFrame, results: pl.DataFrame) -> pl.DataFrame:
    """What single seeds gave at the points of curves: `results`, with the curves' `ratio`."""
    key = (*BLOCK, "condition", "metric")
    points = curves.select(*key, "ratio", _ratio=pl.when(~pl.col("condition").is_in([*ENDS])).then("ratio"))
    return results.rename({"ratio": "_ratio"}).join(points, on=(*key, "_ratio"), nulls_equal=True)


def choose_limits(held: pl.Series, metric: str) -> tuple[float, float]:
    """Limits of an axis that holds these values: all possible ones, but where these leave most of them empty."""
    least, most = BOUNDS[metric]
    bottom, top = held.min() or 0.0, held.max() or 1.0
    room = max(0.12 * (top - bottom), 0.01)
    bottom, top = max(bottom - room, least), min(top + room, most)
    if np.isinf(most):
        return least, top
    return (bottom, top) if top - bottom < (most - least) / 2 else (least, most)


def _plot_curve(axis: Axes, points: pl.DataFrame, seeds: pl.DataFrame, metric: str, limits: tuple[float, float]) -> None:
    """One curve with its band, and at each ratio both intervals and the seeds."""
    axis.set_xlim(-0.04, 1.1)
    axis.set_xticks(np.linspace(0, 1, 6))
    axis.set_ylim(*limits)
    axis.grid(True, axis="y")
    if not points.height:
        axis.text(0.5, 0.5, "no samples", transform=axis.transAxes, ha="center", fontsize=8)
    x = points["ratio"].to_numpy()
    axis.fill_between(x, points["low_questions"], points["high_questions"], color=COLOURS["mix"], alpha=0.3, lw=0)
    axis.plot(x, points["value"], color=INK, lw=1.2, zorder=3)
    plot_intervals(axis, {row["ratio"]: row for row in points.iter_rows(named=True)}, limits, upright=True)
    single = seeds.partition_by("condition", "ratio", as_dict=True)
    for condition, ratio in points.select("condition", "ratio").iter_rows():
        if (own := single.get((condition, ratio))) is not None:
            plot_seeds(axis, own["value"], ratio + ASIDE, condition, upright=True)
    for (condition,), own in points.group_by("condition", maintain_order=True):
        look = dict(zip(("color", "marker"), find_look(condition), strict=True))
        axis.plot(own["ratio"], own["value"], ls="", ms=6.5, mec=INK, mew=0.7, zorder=4, clip_on=False, **look)
    if np.isfinite(BOUNDS[metric][1]) and limits != BOUNDS[metric]:
        words = f"axis from {limits[0]:.2f} to {limits[1]:.2f}".replace("-", "−")
        axis.text(0.99, 0.02, words, transform=axis.transAxes, ha="right", fontsize=7)


def sketch_curves(part: Part) -> list[Sketch]:
    """All curves, where there are several ratios."""
    curves = part.frames["curves"]
    return (
        [Sketch("curves", RATIO.title, CAPTION, plot_curves(curves, part.frames["results"], RATIO.title))]
        if curves["ratio"].n_unique() > 1
        else []
    )


CHAPTER = Chapter(
    compute=lambda whole: Computed({"curves": compute_curves(whole.frames["summary"])}),
    heading=RATIO,
    tables=lambda part: [tabulate_curves(part.frames["curves"])],
    figures=sketch_curves,
    shown=("curves", "results"),
)
