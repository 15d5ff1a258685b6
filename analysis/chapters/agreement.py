"""How much accuracy agreement alone gives: a model that answers as a base model above chance does is above chance itself."""

import polars as pl

from analysis.chapters.chapter import PROMPTS, Chapter, Computed, Part
from analysis.measures.groups import MEAN_SCHEMA, summarise_columns
from analysis.measures.keys import GROUP, PART, sort_by_words
from analysis.showing.formats import format_count, format_interval, format_number
from analysis.showing.labels import name_part, name_row
from analysis.showing.tables import Table
from lm_eval_tasks.contracts.vocabulary import PHASES, name_set

GIVEN = ("accuracy", "agreement", "by_agreement")
AGREEMENT_SCHEMA = pl.Schema(dict(MEAN_SCHEMA) | dict.fromkeys(GIVEN, pl.Float64))
_RUN = (*PART, "run", "phase", "split")


def add_beyond(measures: pl.DataFrame) -> pl.DataFrame:
    """Add `by_agreement` and `beyond_agreement`: what agreement alone would give in accuracy, and the rest.

    A model that gives the base model's few-shot answer to a share a of the questions, whichever these are, and any other
    choice alike often to the rest, is right in a share a P + (1 - a) Q: P is the base model's accuracy, and Q the mean, over
    the questions, of the chance that another choice than its answer is right (0 where it is right, else 1 / (n - 1)). The mean
    of `beyond_agreement` over a run's questions of one phase and evaluation set is its accuracy minus that. Single values are
    linearised in a, P and Q (the delta method), so that their spread is that of the mean.

    Args:
        measures: as in `study.Study`.

    Returns:
        The rows that have an answer before, of tuned models and of the base model asked otherwise than in the probe.

    >>> rows = pl.DataFrame({"run": "r", "model": "m", "domain": "d", "phase": "tuned_chat", "split": "homo",
    ...     "correct": [True, True, False, False], "top1_agreement": [True, True, True, False],
    ...     "prediction_before": [0, 0, 1, 0], "answer": [0, 0, 0, 0], "choices": [["a", "b"]] * 4})
    >>> add_beyond(rows).select(pl.col("by_agreement", "beyond_agreement").mean()).row(0)
    (0.625, -0.125)
    """
    was = (pl.col("prediction_before") == pl.col("answer")).cast(pl.Float64)
    known = measures.filter(pl.col("prediction_before").is_not_null(), pl.col("top1_agreement").is_not_null())
    known = known.with_columns(
        _correct=pl.col("correct").cast(pl.Float64),
        _agrees=pl.col("top1_agreement").cast(pl.Float64),
        _was=was,
        _other=(1 - was) / (pl.col("choices").list.len() - 1),
    )
    a, p, q = (pl.col(name).mean().over(_RUN) for name in ("_agrees", "_was", "_other"))
    expected = a * p + (1 - a) * q
    moved = (pl.col("_agrees") - a) * (p - q) + a * (pl.col("_was") - p) + (1 - a) * (pl.col("_other") - q)
    known = known.with_columns(by_agreement=expected, beyond_agreement=pl.col("_correct") - expected - moved)
    return known.drop("_was", "_other", "_correct", "_agrees")


def measure_agreement(measures: pl.DataFrame) -> pl.DataFrame:
    """The accuracy that agreement alone gives, and the rest with its interval, of each condition, phase and evaluation set.

    Args:
        measures: as in `study.Study`.

    Returns:
        `AGREEMENT_SCHEMA`: `value` is accuracy beyond agreement; `accuracy`, `agreement` (share of the same answers) and
        `by_agreement` are means over seeds.
    """
    known = add_beyond(measures.filter(pl.col("phase") != "base_probe"))
    if not known.height:
        return pl.DataFrame(schema=AGREEMENT_SCHEMA)
    single = known.group_by(*GROUP, "run", maintain_order=True).agg(
        pl.col("correct").mean().alias("accuracy"),
        pl.col("top1_agreement").mean().alias("agreement"),
        pl.col("by_agreement").first(),
    )
    means = single.group_by(GROUP).agg(pl.col(GIVEN).mean())
    found = summarise_columns(known, ["beyond_agreement"])
    joined = found.join(means, on=GROUP, how="left", nulls_equal=True, maintain_order="left")
    return sort_by_words(joined.select(AGREEMENT_SCHEMA.names()))


def tabulate_agreement(agreement: pl.DataFrame, phase: str) -> Table:
    """Accuracy, and how much of it agreement gives; in the chat prompt below the base model's."""
    asked = ["base_chat", phase] if phase == "tuned_chat" else [phase]
    rows = []
    for row in agreement.filter(pl.col("phase").is_in(asked)).iter_rows(named=True):
        label = name_row(row["condition"], row["ratio"], row["phase"])
        numbers = [format_number(row[name]) for name in GIVEN]
        rest = [format_number(row["value"], sign=True), format_interval(row, sign=True)]
        rows.append([label, name_set(row["split"]), *numbers, *rest, f"{row['n']:,}", format_count(row["seeds"])])
    header = ["trained on", "split", "accuracy", "same answer", "by agreement alone", "beyond it", "95% interval", "n", "seeds"]
    note = (
        "By agreement alone: the accuracy of a model that gives the base model's few-shot answer as often as this one, to "
        "whichever questions, and elsewhere any other choice alike often. Beyond it: the rest; above 0, what it answers "
        "otherwise it answers better than by chance, or it agrees more where the base model is right. Interval: over "
        "questions, and over seeds where there are several."
    )
    title = f"Accuracy that agreement alone gives, {PHASES[phase]}{name_part(agreement)}"
    return Table(f"agreement-{phase}", title, header, rows, note, left=2)


def tabulate_part(part: Part) -> list[Table]:
    """The tables of one part."""
    return [tabulate_agreement(part.frames["agreement"], phase) for phase in part.phases]


CHAPTER = Chapter(
    compute=lambda whole: Computed({"agreement": measure_agreement(whole.study.measures)}),
    heading=PROMPTS,
    tables=tabulate_part,
)
