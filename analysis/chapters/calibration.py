"""Whether models are as sure as they are right, before and after training: mean confidence, accuracy, calibration error."""

import matplotlib as mpl
import numpy as np
import polars as pl
import scipy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.chapters.chapter import BELIEFS, Chapter, Computed, Part
from analysis.measures.blocks import number_questions
from analysis.measures.intervals import RESAMPLES, RULE_OF_THREE, draw_resamples
from analysis.measures.keys import BLOCK, GROUP, sort_by_words
from analysis.showing.figures import Sketch
from analysis.showing.formats import format_count, format_mean
from analysis.showing.labels import choose_rows, name_row
from analysis.showing.panels import get_row, make_axes, write_beside
from analysis.showing.tables import Table, gather_cells
from lm_eval_tasks.contracts.logs.scores import BINS, LEVEL, compute_ece
from lm_eval_tasks.contracts.style import INK, STYLE, find_look
from lm_eval_tasks.contracts.vocabulary import BASE, PHASES, name_set

MOMENTS = ("before", "after")
MEASURES = {"confidence": "confidence", "accuracy": "accuracy", "ece": "calibration error"}
CALIBRATION_SCHEMA = pl.Schema(
    dict.fromkeys(GROUP, pl.String)
    | {"ratio": pl.Float64, "moment": pl.String, "metric": pl.String}
    | dict.fromkeys(("value", "low", "high"), pl.Float64)
    | dict.fromkeys(("n", "seeds"), pl.Int64)
)
LINES = {"accuracy": "-", "confidence": "--"}  # of the base model in the figure
MARKS = {"accuracy after": INK, "confidence after": "white"}
CAPTION = (
    "The tuned models in the chat prompt. Filled marks: accuracy. Open marks: mean confidence; where one lies right of the "
    "filled mark, a model is surer than it is right. Vertical lines: the base model's few-shot probe of the same questions, "
    "solid its accuracy, dashed its confidence (the trained questions differ by condition, so they have none; nor has a split "
    "whose questions some conditions lack). Bars: 95% intervals over questions, these seeds taken as given. At the right: the "
    "expected calibration error (its interval: see the table)."
)


def compute_calibration(measures: pl.DataFrame) -> pl.DataFrame:
    """Mean confidence, accuracy and expected calibration error (`scores.compute_ece`), of the same questions before and after.

    Each is the mean over seeds. The interval is the normal one with the standard error over resampled questions, which all
    seeds share, so it takes the seeds as given. A calibration error of few answers is too large by chance.

    Args:
        measures: as in `study.Study`; answers of which the base model was not asked are left out.

    Returns:
        `CALIBRATION_SCHEMA`; before is the base model's few-shot probe. n: different questions. seeds: 0 for the base model.
    """
    asked = measures.filter(pl.col("probs_before").is_not_null()).with_columns(
        confidence_before=pl.col("probs_before").list.max(),
        accuracy_before=(pl.col("prediction_before") == pl.col("answer")).cast(pl.Float64),
    )
    rows = []
    for names, block in asked.group_by(BLOCK, maintain_order=True):
        who = dict(zip(BLOCK, names, strict=True))
        rows += [who | row for row in measure_calibration(block)]
    return sort_by_words(pl.DataFrame(rows, CALIBRATION_SCHEMA, strict=False))


def measure_calibration(answers: pl.DataFrame) -> list[dict[str, object]]:
    """The means of `MEASURES` over the runs of each condition, before and after, with their intervals.

    Args:
        answers: a row a question and run of one block: `QUESTION`, `run`, `condition`, `ratio`, `seed`; `confidence`
            and `accuracy`, also with `_before`.
    """
    question = number_questions(answers)
    runs = answers.with_columns(_question=question).partition_by("run", maintain_order=True)
    points, terms = [], []
    for run in runs:
        for suffix in ("_before", ""):
            confidence, correct = (run[f"{name}{suffix}"].to_numpy() for name in ("confidence", "accuracy"))
            points.append((confidence.mean(), correct.mean(), compute_ece(correct, confidence)))
            terms.append(list_terms(run["_question"].to_numpy(), question.max() + 1, confidence, correct))
    shape = (len(runs), len(MOMENTS), len(MEASURES))
    points, resampled = np.reshape(points, shape), resample_calibration(np.stack(terms, axis=1)).reshape(-1, *shape)
    kinds = [run.row(0, named=True) for run in runs]
    rows = []
    for condition, ratio in dict.fromkeys((kind["condition"], kind["ratio"]) for kind in kinds):
        own = [i for i, kind in enumerate(kinds) if (kind["condition"], kind["ratio"]) == (condition, ratio)]
        n = np.unique(np.concatenate([runs[i]["_question"] for i in own])).size
        value = points[own].mean(axis=0)
        se = np.maximum(np.nanstd(resampled[:, own].mean(axis=1), axis=0, ddof=1), RULE_OF_THREE / n)
        half = scipy.stats.norm.ppf((1 + LEVEL) / 2) * se
        low, high = np.maximum(value - half, 0), np.minimum(value + half, 1)
        who = {"condition": condition, "ratio": ratio, "n": n, "seeds": len({kinds[i]["seed"] for i in own} - {None})}
        rows += [
            who | {"moment": moment, "metric": metric, "value": value[i, j], "low": low[i, j], "high": high[i, j]}
            for i, moment in enumerate(MOMENTS)
            for j, metric in enumerate(MEASURES)
        ]
    return rows


def list_terms(question: np.ndarray, n: int, confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """What a run's three means are sums of, by question: (n, BINS + 3), 0 where a question was not asked.

    The columns: accuracy less confidence in each bin of confidence, confidence, accuracy, and 1.
    """
    terms = np.zeros((n, BINS + 3))
    held = np.digitize(confidence, np.linspace(0, 1, BINS + 1)[1:-1], right=True)  # the bins of `compute_ece`
    terms[question, held] = correct - confidence
    terms[question, BINS:] = np.stack([confidence, correct, np.ones(len(question))], axis=1)
    return terms


def resample_calibration(terms: np.ndarray) -> np.ndarray:
    """Confidence, accuracy and calibration error over resampled questions, the same resamples for all runs.

    Args:
        terms: (n, runs, BINS + 3), see `list_terms`.

    Returns:
        (RESAMPLES, runs, 3); NaN where a resample holds no question of a run.
    """
    n, runs, _ = terms.shape
    sums = np.concatenate([weights @ terms.reshape(n, -1) for weights in draw_resamples(n)]).reshape(RESAMPLES, runs, -1)
    with np.errstate(invalid="ignore"):
        means = [sums[..., BINS], sums[..., BINS + 1], np.abs(sums[..., :BINS]).sum(axis=-1)]
        return np.stack(means, axis=-1) / sums[..., [-1]]


def tabulate_calibration(calibration: pl.DataFrame, phase: str = "tuned_chat") -> Table:
    """Confidence and calibration of one base model and trained domain in one phase, below the base model's chat prompt."""
    cells = gather_cells(
        choose_rows(calibration, phase).with_columns(cell=pl.concat_str("metric", pl.lit(" "), "moment")),
        ("condition", "ratio", "phase", "split"),
        "cell",
    )
    body = []
    for (condition, ratio, row_phase, split), by in cells.items():
        held = [by[f"{metric} {moment}"] for metric in MEASURES for moment in MOMENTS]
        counts = [f"{held[0]['n']:,}", format_count(held[0]["seeds"])]
        body.append([name_row(condition, ratio, row_phase), name_set(split), *map(format_mean, held), *counts])
    header = ["trained on", "split", *(f"{name} {moment}" for name in MEASURES.values() for moment in MOMENTS), "n", "seeds"]
    note = (
        "Before: the base model's few-shot probe of the same questions. Calibration error: the distance of confidence from "
        f"accuracy in {BINS} bins of confidence, weighted by their answers (expected calibration error); of few answers it is "
        "too large by chance. Mean over seeds with its 95% interval over questions (seeds taken as given). n: questions."
    )
    title = f"Confidence and calibration before and after, {PHASES[phase]}"
    return Table(f"calibration-{phase}", title, header, body, note, left=2)


@mpl.rc_context(STYLE)
def plot_calibration(calibration: pl.DataFrame, title: str, phase: str = "tuned_chat") -> Figure:
    """Accuracy and confidence of one base model and trained domain: a column an evaluation set, a row a condition."""
    after = calibration.filter(pl.col("condition") != BASE, phase=phase, moment="after")
    before = calibration.filter(pl.col("condition") != BASE, phase=phase, moment="before")
    figure, axes, conditions, evaluations = make_axes(after, 1, title, room=0.36)
    plotted = set()
    for axis, name in zip(axes[0], evaluations, strict=True):
        own = after.filter(split=name)
        for y, (condition, ratio) in enumerate(conditions):
            _plot_condition(axis, y, condition, own.filter(pl.col("ratio").eq_missing(ratio), condition=condition))
        for metric, line in LINES.items() if name != "seen" else ():
            # The same for all conditions, but where some were not asked the same.
            values = before.filter(split=name, metric=metric)["value"].round(9).unique()
            if len(values) == 1:
                axis.axvline(values[0], color=INK, ls=line, lw=1.2, zorder=1)
                plotted.add(metric)
        axis.set_xlim(0, 1)
        axis.set_xlabel("accuracy, confidence", fontsize=8)
    marks = [Line2D([], [], marker="o", ls="", ms=6, color=INK, mfc=fill, label=name) for name, fill in MARKS.items()]
    lines = [
        Line2D([], [], color=INK, ls=line, lw=1.2, label=f"base model's {name}")
        for name, line in LINES.items()
        if name in plotted
    ]
    figure.legend(handles=[*marks, *lines], loc="outside lower left", ncols=4, frameon=False, fontsize=8)
    return figure


def _plot_condition(axis: Axes, y: float, condition: str, part: pl.DataFrame) -> None:
    """Accuracy and confidence of one condition in one row, and its calibration error beside it."""
    accuracy, confidence, ece = (get_row(part, metric=metric) for metric in ("accuracy", "confidence", "ece"))
    if not accuracy:
        return
    colour, marker = find_look(condition)
    axis.plot([accuracy["value"], confidence["value"]], [y, y], color=colour, lw=2.2, zorder=2)
    for row, fill in ((accuracy, colour), (confidence, "white")):
        axis.plot([row["low"], row["high"]], [y, y], color=INK, lw=1.4, solid_capstyle="butt", zorder=3)
        axis.plot(row["value"], y, marker=marker, ms=6.5, mfc=fill, mec=INK, mew=0.8, zorder=4, clip_on=False)
    write_beside(axis, y, f"{ece['value']:.2f}")


def sketch_calibration(part: Part) -> list[Sketch]:
    """Accuracy and confidence in the chat prompt."""
    calibration, title = part.frames["calibration"], "As sure as right?"
    asked = calibration.filter(phase="tuned_chat").height
    return [Sketch("calibration", title, CAPTION, plot_calibration(calibration, title))] if asked else []


CHAPTER = Chapter(
    compute=lambda whole: Computed({"calibration": compute_calibration(whole.study.measures)}),
    heading=BELIEFS,
    tables=lambda part: [tabulate_calibration(part.frames["calibration"], phase) for phase in part.phases],
    figures=sketch_calibration,
    shown=("calibration",),
)
