"""What became of beliefs that were right, wrong or unsure before training: the share of each state after, as table and figure.

Before is always the base model's few-shot probe of the same question; `states.add_states` says what the states are.
"""

from collections.abc import Sequence
from itertools import accumulate

import matplotlib as mpl
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.chapters.chapter import BELIEFS, Chapter, Computed, Part
from analysis.measures.keys import GROUP, QUESTION, sort_by_words
from analysis.measures.states import STATES, add_states, name_thresholds, rank_state
from analysis.showing.figures import Sketch
from analysis.showing.formats import DASH, format_count, format_interval, format_number
from analysis.showing.labels import choose_rows, name_row
from analysis.showing.panels import count_seeds, list_evaluations, show_names_once, write_head, write_title
from analysis.showing.tables import Table, gather_cells
from lm_eval_tasks.contracts.logs.scores import compute_wilson
from lm_eval_tasks.contracts.style import INK, STYLE
from lm_eval_tasks.contracts.vocabulary import PHASES, name_set

TRANSITION_SCHEMA = pl.Schema(
    dict.fromkeys(GROUP, pl.String)
    | {"ratio": pl.Float64, "before": pl.String, "after": pl.String}
    | dict.fromkeys(("share", "low", "high"), pl.Float64)
    | {"n": pl.Int64, "seeds": pl.Int64, "threshold": pl.Float64}
)
# From the left of a bar: what is right, what is open, what is wrong. Dark, light and middling, so that greys tell them apart.
FILLS = {"right": "#2f5d8a", "unsure": "#eceff2", "wrong": "#e39a57"}
CAPTION = (
    "Of the answers that were right, wrong or unsure (no choice above {thresholds}) in the base model's few-shot probe, the "
    "share that is right, unsure or wrong in the chat prompt after training, mean over seeds. Bars at the two borders of "
    "the fills: 95% intervals (Wilson's, over questions, these seeds taken as given) of the share that is right, and of the "
    "share that is wrong. n: questions. A row without a bar: no question was in that state before."
)


def compute_transitions(measures: pl.DataFrame) -> pl.DataFrame:
    """How the answers of each state before training are spread over the states after it.

    A share is the mean over seeds of each seed's own share. Its interval is Wilson's at `n`, the number of different questions:
    answers of several seeds to one question are not counted as several questions. It takes the seeds as given.

    Args:
        measures: as in `study.Study`; answers of which the base model was not asked are left out.

    Returns:
        `TRANSITION_SCHEMA`: for each condition, phase, evaluation set and state before that some question was in, one row a
        state after. `seeds` is 0 for the base model. `threshold`: of confidence, above which a prediction is right or wrong.
    """
    asked = add_states(measures).filter(pl.col("state_before").is_not_null(), pl.col("state").is_not_null())
    group = [*GROUP, "state_before"]
    counts = asked.group_by(group, maintain_order=True).agg(
        pl.col("threshold").first(), n=pl.struct(QUESTION).n_unique(), seeds=pl.col("seed").drop_nulls().n_unique()
    )
    own = asked.group_by(*group, "run", maintain_order=True).agg(
        (pl.col("state") == state).mean().alias(state) for state in STATES
    )
    shares = own.group_by(group, maintain_order=True).agg(pl.col(state).mean() for state in STATES)
    table = shares.join(counts, on=group, nulls_equal=True).unpivot(
        STATES, index=[*group, "n", "seeds", "threshold"], variable_name="after", value_name="share"
    )
    share, n = table["share"].to_numpy(), table["n"].to_numpy()
    low, high = compute_wilson(share, n)
    table = table.with_columns(low=low, high=high).rename({"state_before": "before"})
    return sort_by_words(table.sort(rank_state("before"), rank_state("after"))).select(
        pl.col(name).cast(kind) for name, kind in TRANSITION_SCHEMA.items()
    )


def tabulate_transitions(transitions: pl.DataFrame, phase: str = "tuned_chat") -> Table:
    """The transitions of one part in one phase: a row a condition, evaluation set and state before."""
    cells = gather_cells(choose_rows(transitions, phase), ("condition", "ratio", "phase", "split", "before"), "after")
    body = []
    for (condition, ratio, row_phase, split, before), by in cells.items():
        shares = [f"{format_number(by[state]['share'])} {format_interval(by[state])}" for state in STATES]
        counts = [f"{by[before]['n']:,}", format_count(by[before]["seeds"])]
        body.append([name_row(condition, ratio, row_phase), name_set(split), before, *shares, *counts])
    note = (
        f"Right or wrong: the first choice has a probability above {name_thresholds(transitions['threshold'])}; unsure: no "
        "choice has. Before: the base model's few-shot probe of the same question. Shares of the questions in that state "
        "before, mean over seeds, with 95% Wilson intervals over questions (seeds taken as given). n: different questions in "
        "that state before; none: no row."
    )
    title = f"What became of right, wrong and unsure answers, {PHASES[phase]}"
    header = ["trained on", "split", "before", *(f"{state} after" for state in STATES), "n", "seeds"]
    return Table(f"transitions-{phase}", title, header, body, note, left=3)


@mpl.rc_context(STYLE | {"axes.grid": False})
def plot_transitions(transitions: pl.DataFrame, title: str, phase: str = "tuned_chat") -> Figure:
    """The transitions of one part: a panel an evaluation set, a stacked bar a condition and state before."""
    shown = choose_rows(transitions, phase)
    kinds = ("condition", "ratio", "phase")
    rows = list(shown.select(kinds).unique(maintain_order=True).iter_rows())
    evaluations = list_evaluations(shown)
    figure = Figure(figsize=(2.3 + 2.5 * len(evaluations), 1.3 + 0.62 * len(rows)), layout="constrained")
    axes = figure.subplots(1, len(evaluations), sharey=True, squeeze=False)[0]
    write_title(figure, title)
    for axis, evaluation in zip(axes, evaluations, strict=True):
        write_head(axis, evaluation, count_seeds(shown.filter(split=evaluation)))
        axis.text(1.03, 1.01, "n", transform=axis.transAxes, fontsize=8, va="bottom")
        for i, names in enumerate(rows):
            where = (pl.col(name).eq_missing(value) for name, value in zip(kinds, names, strict=True))
            _plot_condition(axis, 4 * i, shown.filter(*where, split=evaluation))
        axis.set_xlim(0, 1)
        axis.set_xlabel("share after", fontsize=8)
    show_names_once(axes[None])
    _name_rows(axes[0], rows)
    handles = [Patch(facecolor=FILLS[state], edgecolor=INK, lw=0.5, label=f"{state} after") for state in FILLS]
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles), frameon=False, fontsize=8)
    return figure


def _plot_condition(axis: Axes, top: float, part: pl.DataFrame) -> None:
    """Three stacked bars, one a state before, from `top` down."""
    ends, heights = [], []  # of the intervals, which gaps cut
    for y, before in enumerate(STATES, start=top):
        by = {row["after"]: row for row in part.filter(before=before).iter_rows(named=True)}
        count = f"{by[before]['n']:,}" if by else DASH
        axis.text(1.03, y, count, transform=axis.get_yaxis_transform(), va="center", fontsize=6.5)
        if not by:
            continue
        shares = [by[state]["share"] for state in FILLS]
        lefts = [0.0, *accumulate(shares[:-1])]
        axis.barh(y, shares, left=lefts, height=0.86, facecolor=[*FILLS.values()], edgecolor=INK, lw=0.4, zorder=2)
        right, wrong = by["right"], by["wrong"]
        ends += [right["low"], right["high"], None, 1 - wrong["high"], 1 - wrong["low"], None]
        heights += [y - 0.17] * 3 + [y + 0.17] * 3
    # A white rim keeps them visible on every fill.
    for width, colour in ((3.2, "white"), (1.4, INK)):
        axis.plot(ends, heights, color=colour, lw=width, solid_capstyle="butt", zorder=3)


def _name_rows(axis: Axes, rows: Sequence[tuple[str, float | None, str]]) -> None:
    """Name each condition above its bars' states, at the left of the first panel."""
    heights = [4 * row + i for row in range(len(rows)) for i in range(len(STATES))]
    axis.set_yticks(heights, [f"{state} before" for _ in rows for state in STATES], fontsize=7)
    axis.set_ylim(4 * len(rows) - 1.4, -0.9)
    label = {"ha": "right", "va": "center", "fontweight": "bold", "fontsize": 8}
    for i, names in enumerate(rows):
        name = name_row(*names).replace(", ", ",\n", 1)
        axis.text(-0.44, 4 * i + 1, name, transform=axis.get_yaxis_transform(), **label)


def sketch_transitions(part: Part) -> list[Sketch]:
    """What became of answers in the chat prompt."""
    transitions, title = part.frames["transitions"], "What became of right, wrong and unsure answers"
    if not transitions.filter(phase="tuned_chat").height:
        return []
    caption = CAPTION.format(thresholds=name_thresholds(transitions["threshold"]))
    return [Sketch("transitions", title, caption, plot_transitions(transitions, title))]


CHAPTER = Chapter(
    compute=lambda whole: Computed({"transitions": compute_transitions(whole.study.measures)}),
    heading=BELIEFS,
    tables=lambda part: [tabulate_transitions(part.frames["transitions"], phase) for phase in part.phases],
    figures=sketch_transitions,
    shown=("transitions",),
)
