"""What became of beliefs that were right, wrong or unsure before training: the share of each state after, as table and figure.

Before is always the base model's few-shot probe of the same question; `states.add_states` says what the states are.
"""

from collections.abc import Sequence

import matplotlib as mpl
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.measures.states import STATES, THRESHOLD, add_states
from analysis.showing.labels import BASE, GROUP, PHASES, QUESTION, SPLITS, name_condition, name_split, sort_by_words
from analysis.showing.tables import DASH, Table, format_count, format_interval, format_number
from lm_eval_tasks.contracts.logs.scores import compute_wilson
from lm_eval_tasks.contracts.style import INK, STYLE

TRANSITION_SCHEMA = pl.Schema(
    dict.fromkeys(GROUP, pl.String)
    | {"ratio": pl.Float64, "before": pl.String, "after": pl.String}
    | dict.fromkeys(("share", "low", "high"), pl.Float64)
    | dict.fromkeys(("n", "seeds"), pl.Int64)
)
# From the left of a bar: what is right, what is open, what is wrong. Dark, light and middling, so that greys tell them apart.
FILLS = {"right": "#2f5d8a", "unsure": "#eceff2", "wrong": "#e39a57"}
CAPTION = (
    f"Of the answers that were right, wrong or unsure (no choice above {THRESHOLD:g}) in the base model's few-shot probe, the "
    "share that is right, unsure or wrong in the chat prompt after training, mean over seeds. Bars at the two borders of "
    "the fills: 95% intervals (Wilson's, over questions, these seeds taken as given) of the share that is right, and of the "
    "share that is wrong. n: questions. A row without a bar: no question was in that state before."
)


def compute_transitions(measures: pl.DataFrame) -> pl.DataFrame:
    """How the answers of each state before training are spread over the states after it.

    A share is the mean over seeds of each seed's own share. Its interval is Wilson's at `n`, the number of different questions:
    answers of several seeds to one question are not counted as several questions. It takes the seeds as given.

    Args:
        measures: as in `results.Study`; answers of which the base model was not asked are left out.

    Returns:
        `TRANSITION_SCHEMA`: for each condition, phase, split and state before that some question was in, one row a state after.
        `seeds` is 0 for the base model.
    """
    asked = add_states(measures).filter(pl.col("state_before").is_not_null(), pl.col("state").is_not_null())
    group = [*GROUP, "state_before"]
    counts = asked.group_by(group).agg(n=pl.struct(QUESTION).n_unique(), seeds=pl.col("seed").drop_nulls().n_unique())
    own = asked.group_by(*group, "run").agg((pl.col("state") == state).mean().alias(state) for state in STATES)
    shares = own.group_by(group).agg(pl.col(state).mean() for state in STATES)
    table = shares.join(counts, on=group, nulls_equal=True).unpivot(
        STATES, index=[*group, "n", "seeds"], variable_name="after", value_name="share"
    )
    share, n = table["share"].to_numpy(), table["n"].to_numpy()
    low, high = compute_wilson(share, n)
    table = table.with_columns(low=low, high=high).rename({"state_before": "before"})
    place = [pl.col(name).replace_strict(STATES, range(len(STATES))) for name in ("before", "after")]
    return sort_by_words(table.sort(place)).select(pl.col(name).cast(kind) for name, kind in TRANSITION_SCHEMA.items())


def name_row(condition: str, ratio: float | None, phase: str) -> str:
    """What a row of the table and the figure is called: the base model by how it was asked."""
    return PHASES[phase] if condition == BASE else name_condition(condition, ratio)


def choose_rows(transitions: pl.DataFrame, phase: str) -> pl.DataFrame:
    """The tuned models in a phase, below the base model asked in the chat prompt."""
    base = transitions.filter(condition=BASE, phase="base_chat")
    return pl.concat([base, transitions.filter(pl.col("condition") != BASE, phase=phase)])


def tabulate_transitions(transitions: pl.DataFrame, phase: str = "tuned_chat") -> Table:
    """The transitions of one base model and one trained domain in one phase: a row a condition, split and state before."""
    rows: dict[tuple, dict[str, dict]] = {}
    for row in choose_rows(transitions, phase).iter_rows(named=True):
        key = row["condition"], row["ratio"], row["phase"], row["split"], row["before"]
        rows.setdefault(key, {})[row["after"]] = row
    body = []
    for (condition, ratio, row_phase, split, before), by in rows.items():
        cells = [f"{format_number(by[state]['share'])} {format_interval(by[state])}" for state in STATES]
        counts = [f"{by[before]['n']:,}", format_count(by[before]["seeds"])]
        body.append([name_row(condition, ratio, row_phase), name_split(split), before, *cells, *counts])
    note = (
        f"Right or wrong: the first choice has a probability above {THRESHOLD:g}; unsure: no choice has. Before: the base "
        "model's few-shot probe of the same question. Shares of the questions in that state before, mean over seeds, with 95% "
        "Wilson intervals over questions (seeds taken as given). n: different questions in that state before; none: no row."
    )
    title = f"What became of right, wrong and unsure answers, {PHASES[phase]}"
    header = ["trained on", "split", "before", *(f"{state} after" for state in STATES), "n", "seeds"]
    return Table(f"transitions-{phase}", title, header, body, note, left=3)


def draw_transitions(transitions: pl.DataFrame, title: str, phase: str = "tuned_chat") -> Figure:
    """The transitions of one base model and one trained domain: a panel a split, a stacked bar a condition and state before."""
    shown = choose_rows(transitions, phase)
    kinds = ("condition", "ratio", "phase")
    rows = list(shown.select(kinds).unique(maintain_order=True).iter_rows())
    splits = [split for split in SPLITS if split in set(shown["split"])]
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(2.3 + 2.5 * len(splits), 1.3 + 0.62 * len(rows)), layout="constrained")
        axes = figure.subplots(1, len(splits), sharey=True, squeeze=False)[0]
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        for axis, split in zip(axes, splits, strict=True):
            axis.set_title(name_split(split), fontweight="bold", pad=16)
            seeds = shown.filter(split=split)["seeds"].max()
            words = f"{SPLITS[split]}, {seeds} seed{'s' if seeds != 1 else ''}"
            axis.text(0, 1.01, words, transform=axis.transAxes, fontsize=8, va="bottom")
            axis.text(1.03, 1.01, "n", transform=axis.transAxes, fontsize=8, va="bottom")
            for place, names in enumerate(rows):
                where = (pl.col(name).eq_missing(value) for name, value in zip(kinds, names, strict=True))
                _draw_condition(axis, 4 * place, shown.filter(*where, split=split))
            axis.tick_params(axis="y", length=0)
            axis.set_xlim(0, 1)
            axis.set_xlabel("share after", fontsize=8)
        _name_rows(axes[0], rows)
        handles = [Patch(facecolor=FILLS[state], edgecolor=INK, lw=0.5, label=f"{state} after") for state in FILLS]
        figure.legend(handles=handles, loc="outside lower left", ncols=len(handles), frameon=False, fontsize=8)
    return figure


def _draw_condition(axis: Axes, top: float, part: pl.DataFrame) -> None:
    """Three stacked bars, one a state before, from `top` down."""
    for y, before in enumerate(STATES, start=top):
        by = {row["after"]: row for row in part.filter(before=before).iter_rows(named=True)}
        count = f"{by[before]['n']:,}" if by else DASH
        axis.text(1.03, y, count, transform=axis.get_yaxis_transform(), va="center", fontsize=6.5)
        if not by:
            continue
        left = 0.0
        for state, fill in FILLS.items():
            axis.barh(y, by[state]["share"], left=left, height=0.86, facecolor=fill, edgecolor=INK, lw=0.4, zorder=2)
            left += by[state]["share"]
        right, wrong = by["right"], by["wrong"]
        # A white rim keeps them visible on every fill.
        for width, colour in ((3.2, "white"), (1.4, INK)):
            axis.plot([right["low"], right["high"]], [y - 0.17] * 2, color=colour, lw=width, solid_capstyle="butt", zorder=3)
            axis.plot(
                [1 - wrong["high"], 1 - wrong["low"]], [y + 0.17] * 2, color=colour, lw=width, solid_capstyle="butt", zorder=3
            )


def _name_rows(axis: Axes, rows: Sequence[tuple[str, float | None, str]]) -> None:
    """Name each condition above its bars' states, at the left of the first panel."""
    places = [4 * place + i for place in range(len(rows)) for i in range(len(STATES))]
    axis.set_yticks(places, [f"{state} before" for _ in rows for state in STATES], fontsize=7)
    axis.set_ylim(4 * len(rows) - 1.4, -0.9)
    for place, names in enumerate(rows):
        name = name_row(*names).replace(", ", ",\n", 1)
        axis.text(
            -0.36,
            4 * place + 1,
            name,
            transform=axis.get_yaxis_transform(),
            ha="right",
            va="center",
            fontweight="bold",
            fontsize=8,
        )
