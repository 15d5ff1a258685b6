"""Knowledge or format: what training moved where both sides were asked few-shot, where both were chatted with, and as used.

The rest of the report compares the base model's few-shot probe with the tuned models' chat answers, so a new prompt and what
was learnt come together there. Asked the same way on both sides, they come apart.
"""

from itertools import product

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.chapters.chapter import PROMPTS, Chapter, Computed, Part
from analysis.measures.blocks import Block, compute_floor, compute_skew, cut_blocks, group_runs
from analysis.measures.consistency import compare_probes, join_probes
from analysis.measures.intervals import Estimate, estimate_mean
from analysis.measures.keys import CONDITION, PART, QUESTION, RUN_KEY, sort_by_words
from analysis.measures.metrics import BOUNDS, CONSISTENCY, METRICS
from analysis.showing.figures import Sketch
from analysis.showing.formats import DASH, format_count, format_mean
from analysis.showing.grids import LINES
from analysis.showing.labels import name_row
from analysis.showing.panels import ARROW, BARS, make_axes, plot_intervals, plot_seeds
from analysis.showing.tables import Table, gather_cells
from lm_eval_tasks.contracts.style import GRID, INK, STYLE, find_look
from lm_eval_tasks.contracts.vocabulary import BASE, EVALUATION_SETS, KEY, name_condition, name_set

# Before and after.
PAIRS = {
    "few_shot": ("base_probe", "tuned_probe"),
    "chat": ("base_chat", "tuned_chat"),
    "as_used": ("base_probe", "tuned_chat"),
}
NAMES = {"few_shot": "few-shot", "chat": "chat prompt", "as_used": "few-shot to chat"}
CHANGES = tuple(f"{metric}{of}" for metric in ("accuracy", "choice_mass") for of in ("_before", "", "_change"))
MEASURED = (*CONSISTENCY, *CHANGES)
LIMITS = BOUNDS | {name: (-1.0 if name.endswith("change") else 0.0, 1.0) for name in CHANGES}
SHARES = ("top1_agreement", *CHANGES[:3])
PAIR_SCHEMA = pl.Schema(
    dict.fromkeys(("model", "domain", "condition"), pl.String)
    | {"ratio": pl.Float64}
    | dict.fromkeys(("pair", "split", "metric"), pl.String)
    | dict.fromkeys(("value", "low", "high", "low_questions", "high_questions", "least", "greatest"), pl.Float64)
    | dict.fromkeys(("n", "seeds", "infinite"), pl.Int64)
)
# In which phase the base model itself is compared with its probe, by pair.
OF_BASE = {"few_shot": "base_again", "chat": "base_chat", "as_used": "base_chat"}
LANES = dict(zip(PAIRS, (-0.27, 0.0, 0.27), strict=True))  # of a figure's row
GROUP = (*PART, *CONDITION, "pair", "split")
CAPTION = (
    "Above: KL(before || after). Open marks: both sides asked few-shot, what moved apart from the format. Filled: both in the "
    "chat prompt. Half filled: few-shot before and chat after, as in the rest of the report. Dotted line and band: the same of "
    "the base model before any training, what the prompt alone moves; broken: asked again few-shot, with other demonstrations. "
    "Small open marks: the least and the greatest seed. Where only the filled mark lies far out, the chat prompt "
    "now brings out what few-shot prompts did before; where only the half-filled one does, the prompt moved more than did "
    "training. Below: the probability on any choice, from the tick (before) to the mark (after); where a filled mark lies "
    f"right of its tick, the format was learnt (intervals of the ticks: see the table). {BARS} (two make them very wide). "
    f"{ARROW} n: questions asked of both sides; no mark: fewer than two. Infinite KLs are left out, and counted in the table."
)


def compare_chats(measures: pl.DataFrame, trained: pl.DataFrame | None = None) -> pl.DataFrame:
    """The tuned models' chat answers to what the base model was asked in the chat prompt too, compared with that.

    Args:
        measures: as in `study.Study`.
        trained: the base models' chat answers to train questions, as there.

    Returns:
        Rows of `measures` with its columns of before and of consistency, all of the base model's chat answers.
    """
    on = ("model", "trained_domain", *KEY)
    names = {"domain": "trained_domain", "question_domain": "domain"}
    both = [measures] if trained is None else [measures, trained.select(pl.exclude("question", "choices"))]
    asked = pl.concat([table.lazy() for table in both], how="diagonal").rename(names)
    columns = ("question_hash", "scoring", "loglikelihoods", "probs", "prediction", "choice_mass")
    kept = (*on, "run", "condition", "ratio", "seed", "split", "answer", "accuracy", *columns)
    before, after = (asked.filter(phase=phase).select(kept).collect() for phase in PAIRS["chat"])
    table = join_probes(before, after, on=on).table
    if not table.height:
        return measures.clear()
    mass = before.select(*on, choice_mass_before="choice_mass")
    table = compare_probes(table).join(mass, on=on, how="left")
    return table.rename({"domain": "question_domain", "trained_domain": "domain"})


def list_pairs(measures: pl.DataFrame, trained: pl.DataFrame | None = None) -> pl.DataFrame:
    """A row a question, run and pair (as `phase`), with `MEASURED`; of the base model its chat answers, as `as_used`, and what
    it said when it was asked again, as `few_shot`.
    """
    compared = measures.lazy().filter(pl.col("kl_nats").is_not_null())
    parts = {
        "few_shot": compared.filter(pl.col("phase").is_in(["base_again", "tuned_probe"])),
        "chat": compare_chats(measures, trained).lazy(),
        "as_used": compared.filter(pl.col("phase").is_in(["base_chat", "tuned_chat"])),
    }
    names = (*RUN_KEY, "run", "split", *QUESTION)
    right = (pl.col("prediction_before") == pl.col("answer")).cast(pl.Float64)
    change = pl.col("choice_mass") - pl.col("choice_mass_before")
    numbers = {
        **{name: pl.col(name).cast(pl.Float64) for name in CONSISTENCY},
        "accuracy_before": right,
        "accuracy": pl.col("accuracy"),
        "accuracy_change": pl.col("accuracy") - right,
        # Of answers that have a mass on both sides.
        "choice_mass_before": pl.col("choice_mass_before") + 0 * change,
        "choice_mass": pl.col("choice_mass") + 0 * change,
        "choice_mass_change": change,
    }
    return pl.concat(part.select(*names, phase=pl.lit(pair), **numbers) for pair, part in parts.items()).collect()


def compute_pairs(measures: pl.DataFrame, trained: pl.DataFrame | None = None) -> pl.DataFrame:
    """Each pair's consistency, accuracy and choice mass, of questions that both sides were asked: means with both intervals.

    Returns:
        `PAIR_SCHEMA`: a row for each condition, pair, evaluation set and metric with two questions or more. `infinite`:
        answers, of all seeds, that an infinite KL leaves out; where it leaves fewer than two questions, `value` and the bounds
        are null. `seeds` is 0 for the base model.
    """
    table = list_pairs(measures, trained)
    rows = []
    for block in cut_blocks(table, MEASURED):
        for condition, ratio, runs in group_runs(block):
            rows += summarise_runs(block, condition, ratio, list(runs.values()))
    pairs = pl.DataFrame(rows, PAIR_SCHEMA, strict=False)
    counts = table.rename({"phase": "pair"}).group_by(GROUP).agg(_infinite=pl.col("kl_nats").is_infinite().sum())
    pairs = pairs.join(counts, on=GROUP, how="left", nulls_equal=True, maintain_order="left")
    lost = pl.when(metric="kl_nats").then("_infinite").otherwise(0).cast(pl.Int64)
    pairs = pairs.with_columns(infinite=lost).filter((pl.col("n") > 1) | (pl.col("infinite") > 0))
    return sort_by_words(pairs.sort(rank_pair())).select(PAIR_SCHEMA.names())


def rank_pair() -> pl.Expr:
    """Where a row's pair stands in `PAIRS`."""
    return pl.col("pair").replace_strict([*PAIRS], range(len(PAIRS)))


def summarise_runs(block: Block, condition: str, ratio: float | None, runs: list[int]) -> list[dict[str, object]]:
    """A row a metric: the mean over the runs of one condition, without numbers where a run has fewer than two questions."""
    n = np.min([block.count(run) for run in runs], axis=0)
    floor, skew = compute_floor(MEASURED, n), compute_skew(block, MEASURED, runs)
    estimate = estimate_mean(block.points[runs], block.resampled[:, runs], floor, skew)
    who = {"condition": condition, "ratio": ratio, "seeds": 0 if condition == BASE else estimate.seeds}
    who |= {name: value for name, value in block.names.items() if name != "phase"} | {"pair": block.names["phase"]}
    rows = []
    for m, name in enumerate(MEASURED):
        bounds = {key: np.clip(getattr(estimate, key)[m], *LIMITS[name]) for key in Estimate._fields[1:5]}
        ends = {"least": block.points[runs, m].min(), "greatest": block.points[runs, m].max()}
        numbers = {"value": estimate.value[m]} | bounds | ends
        rows.append(who | {"metric": name, "n": n[m]} | (numbers if n[m] > 1 else {}))
    return rows


def write_cell(row: dict | None, n: int) -> str:
    """Mean and interval, and what tells its questions from the `n` of the table's row."""
    if not row:
        return DASH
    apart = [f"n = {row['n']:,}"] if row["n"] != n else []
    apart += [f"{row['infinite']:,} infinite"] if row["infinite"] else []
    text = DASH if row["value"] is None else format_mean(row)
    return text + (f" ({', '.join(apart)})" if apart else "")


def list_missing(pairs: pl.DataFrame) -> str:
    """A sentence on the rows that the tables lack, or nothing."""
    have = set(pairs.select(*CONDITION, "split", "pair").iter_rows())
    asked = sort_by_words(pairs.filter(pl.col("condition") != BASE).select(*CONDITION, "split").unique())
    missing = []
    for pair, split in product(PAIRS, EVALUATION_SETS):
        here = list(asked.filter(split=split).select(CONDITION).iter_rows())
        if lacking := [name_condition(*row) for row in here if (*row, split, pair) not in have]:
            who = "" if len(lacking) == len(here) else f" ({', '.join(lacking)})"
            missing.append(f"{NAMES[pair]} {name_set(split)}{who}")
    return f" No row, as fewer than two questions have answers of both sides: {'; '.join(missing)}." if missing else ""


def tabulate_pairs(pairs: pl.DataFrame) -> Table:
    """How much moved, of one base model and trained domain: a row a condition, evaluation set and pair."""
    header = [METRICS[metric].header for metric in CONSISTENCY]
    note = (
        "What is compared: few-shot: both sides asked few-shot. Chat prompt: both in the chat prompt. Few-shot to chat: the "
        "base model few-shot, the tuned one in the chat prompt, as in the rest of the report; of the base model, the same "
        "before any training, so what the prompt alone moves. Mean over seeds with its 95% interval over questions, and over "
        "seeds where there are several. n: questions asked of both sides. Infinite: answers, of all seeds, that are left out "
        "of the mean KL."
    )
    return _tabulate(pairs, "pairs", "Knowledge or format: what moved, and in which prompt", CONSISTENCY, header, note)


def tabulate_changes(pairs: pl.DataFrame) -> Table:
    """Accuracy and choice mass before and after, of one base model and trained domain: a row a condition, set and pair."""
    header = [f"{name} {moment}" for name in ("accuracy", "choice mass") for moment in ("before", "after", "change")]
    note = (
        "Before and after: the base and the tuned model, asked in the two ways of the column compared, and the same questions. "
        "Choice mass: the probability on any choice, which a learnt format raises; a dash: the answers do not carry it. Mean "
        "over seeds with its 95% interval over questions, and over seeds where there are several. n: questions asked of both "
        "sides."
    )
    return _tabulate(pairs, "pairs-changes", "Knowledge or format: accuracy and choice mass", CHANGES, header, note)


def _tabulate(pairs: pl.DataFrame, name: str, title: str, metrics: tuple[str, ...], header: list[str], note: str) -> Table:
    key = (*CONDITION, "split", "pair")
    cells, rows = gather_cells(pairs, key), []
    for condition, ratio, split, pair in sort_by_words(pairs.select(key).unique().sort(rank_pair())).iter_rows():
        by = cells[condition, ratio, split, pair]
        whole = by.get("top1_agreement") or by["kl_nats"]  # no question is left out of the former
        numbers = [write_cell(by.get(metric), whole["n"]) for metric in metrics]
        label = name_row(condition, ratio, OF_BASE[pair])
        rows.append([label, name_set(split), NAMES[pair], *numbers, f"{whole['n']:,}", format_count(whole["seeds"])])
    header = ["trained on", "split", "compared", *header, "n", "seeds"]
    return Table(name, title, header, rows, note + list_missing(pairs), left=3)


@mpl.rc_context(STYLE)
def plot_pairs(pairs: pl.DataFrame, title: str) -> Figure:
    """What moved of one base model and trained domain: a column an evaluation set, KL above and choice mass below.

    `pairs` must hold a row of a tuned model.
    """
    shown = pairs.filter(pl.col("value").is_not_null())
    tuned = shown.filter(pl.col("condition") != BASE)
    labels = {"kl_nats": "KL(before || after), nats", "choice_mass": "probability on any choice"}
    metrics = [metric for metric in labels if metric in set(tuned["metric"])]
    counted = tuned.filter(metric="top1_agreement")  # no question is left out of it
    figure, axes, conditions, evaluations = make_axes(counted, len(metrics), title, room=0.44)
    for j, name in enumerate(evaluations):
        for axis, metric in zip(axes[:, j], metrics, strict=True):
            limit = _choose_limit(shown, metric)
            _plot_panel(axis, shown.filter(split=name), metric, conditions, limit)
            axis.set_xlim(0, limit)
            axis.set_xlabel(labels[metric], fontsize=8)
    figure.legend(handles=_make_key(shown), loc="outside lower left", ncols=4, frameon=False, fontsize=8)
    return figure


def _choose_limit(shown: pl.DataFrame, metric: str) -> float:
    """The end of an axis that starts at 0: it holds all means, and all intervals over questions."""
    part = shown.filter(pl.col("metric").str.starts_with(metric), ~pl.col("metric").str.ends_with("change"))
    most = max(part["value"].max(), part["high_questions"].max())
    return (1.08 * most or 1.0) if metric == "kl_nats" else max(1.0, most)


def _plot_panel(axis: Axes, part: pl.DataFrame, metric: str, conditions: list[tuple[str, float | None]], limit: float) -> None:
    """One evaluation set and metric: three lanes a condition, one a pair."""
    for row in part.filter(condition=BASE, metric=metric).iter_rows(named=True) if metric == "kl_nats" else ():
        axis.axvspan(row["low_questions"], row["high_questions"], color=GRID, lw=0, zorder=1)
        axis.axvline(row["value"], color=INK, ls=LINES[OF_BASE[row["pair"]]], lw=1.3, zorder=2)
    by = {(row["condition"], row["ratio"], row["pair"], row["metric"]): row for row in part.iter_rows(named=True)}
    rows = {}
    for middle, (condition, ratio) in enumerate(conditions):
        colour, marker = find_look(condition)
        for pair, lane in LANES.items():
            if not (row := by.get((condition, ratio, pair, metric))):
                continue
            y, start = middle + lane, 0.0
            if metric == "choice_mass":
                start = by[condition, ratio, pair, "choice_mass_before"]["value"]
                axis.plot(start, y, marker="|", ms=8, mew=1.6, color=INK, zorder=3)
            axis.plot([start, row["value"]], [y, y], color=colour, lw=2.2, solid_capstyle="butt", zorder=2)
            rows[y] = row
            axis.plot(row["value"], y, marker=marker, ms=6, zorder=4, clip_on=False, **_fill_mark(pair, colour))
            if row["seeds"] > 1:
                plot_seeds(axis, pl.Series([row["least"], row["greatest"]]), y, condition)
    plot_intervals(axis, rows, (0, limit))
    if metric not in set(part.filter(pl.col("condition") != BASE)["metric"]):
        axis.text(0.5, 0.5, "nothing to compare", transform=axis.transAxes, ha="center", fontsize=8)


def _fill_mark(pair: str, colour: str) -> dict[str, object]:
    """Open, filled, or half filled."""
    fill = {"fillstyle": "right" if pair == "as_used" else "full", "mfc": "white" if pair == "few_shot" else colour}
    return fill | {"markerfacecoloralt": "white", "mec": INK, "mew": 0.7}


def _make_key(shown: pl.DataFrame) -> list[Line2D]:
    """What the marks mean, those that are plotted."""
    words = {"few_shot": "few-shot, before and after", "chat": "chat prompt, before and after", "as_used": NAMES["as_used"]}
    held = [pair for pair in PAIRS if pair in set(shown["pair"])]
    key = [Line2D([], [], marker="o", ls="", ms=6, label=words[pair], **_fill_mark(pair, INK)) for pair in held]
    words = {"as_used": "the base model's chat prompt alone", "few_shot": "the base model asked again"}
    own = set(shown.filter(condition=BASE)["pair"])
    lines = [(LINES[OF_BASE[pair]], label) for pair, label in words.items() if pair in own]
    return key + [Line2D([], [], color=INK, ls=line, lw=1.3, label=label) for line, label in lines]


def sketch_pairs(part: Part) -> list[Sketch]:
    """What moved, where tuned models are compared."""
    pairs, title = part.frames["pairs"], "What moved, few-shot and in the chat prompt"
    tuned = pairs.filter(pl.col("condition") != BASE)
    return [Sketch("pairs", title, CAPTION, plot_pairs(pairs, title))] if tuned.height else []


CHAPTER = Chapter(
    compute=lambda whole: Computed({"pairs": compute_pairs(whole.study.measures, whole.study.trained)}),
    heading=PROMPTS,
    tables=lambda part: [tabulate_pairs(part.frames["pairs"]), tabulate_changes(part.frames["pairs"])],
    figures=sketch_pairs,
    shown=("pairs",),
)
