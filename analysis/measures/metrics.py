"""The vocabulary of metrics: all that is averaged over answers, each written once.

A new metric of the report is one more `Metric` in `_ALL`. It then stands in the results and the summary, in the tables of each
measure and in `questions.parquet`; where it is `contrasted`, conditions are compared and curves plotted by it too.
"""

import math
from dataclasses import dataclass, field

import polars as pl


@dataclass(frozen=True)
class Metric:
    """One number of an answer.

    Attributes:
        name: its column in the table of measures, and what the column `metric` of results calls it.
        label: what tables and figures call it.
        least: its least possible value.
        greatest: its greatest; infinite where there is none.
        short: what headers of tables with many columns call it; the label where None.
        share: each answer counts as 0 or 1, so that its mean is a share, with Wilson's interval, McNemar's test and Cohen's h.
        contrasted: conditions are compared by it, and curves over the consistency ratio show it.
        consistency: it compares an answer with the base model's few-shot probe (see `consistency.compare_probes`, and for
            answers in words `answered.measure_answers`).
        compute: its column, of the other columns of the table of measures; None where reading gives it.
    """

    name: str
    label: str
    least: float
    greatest: float
    short: str | None = None
    share: bool = False
    contrasted: bool = False
    consistency: bool = False
    compute: pl.Expr | None = field(default=None, compare=False, repr=False)

    @property
    def header(self) -> str:
        """What the header of a table with many columns calls it."""
        return self.short or self.label

    @property
    def title(self) -> str:
        """Its label as a title begins with it."""
        return self.label[:1].upper() + self.label[1:]


# In the order of all tables.
_ALL = (
    Metric("accuracy", "accuracy", 0, 1, share=True, contrasted=True, compute=pl.col("correct").cast(pl.Float64)),
    Metric("confidence", "confidence", 0, 1),
    Metric("choice_mass", "choice mass", 0, 1, contrasted=True),
    Metric("kl_nats", "KL(before || after), nats", 0, math.inf, short="KL, nats", contrasted=True, consistency=True),
    Metric("rank_pearson", "rank correlation", -1, 1, short="rank corr.", contrasted=True, consistency=True),
    Metric("top1_agreement", "same answer as before", 0, 1, short="same answer", share=True, contrasted=True, consistency=True),
)
SPEARMAN = Metric("spearman", "Spearman", -1, 1)  # of the command `consistency` alone
# Of answers in words, by which the chapter on free-form answers alone goes; `measures.answered` computes them.
_OF_WORDS = (
    Metric("exact_match", "exact match", 0, 1, share=True),
    Metric("accepted_samples", "accepted samples", 0, 1),
    Metric("same_answer", "same answer as before", 0, 1, short="same answer", share=True, consistency=True),
    Metric("total_variation", "total variation", 0, 1, consistency=True),
)

METRICS = {metric.name: metric for metric in _ALL}
ANSWERED = {metric.name: metric for metric in _OF_WORDS}
CONTRASTED = tuple(metric.name for metric in _ALL if metric.contrasted)
CONSISTENCY = tuple(metric.name for metric in _ALL if metric.consistency)
SHARES = tuple(metric.name for metric in (*_ALL, *_OF_WORDS) if metric.share)
BOUNDS = {metric.name: (float(metric.least), float(metric.greatest)) for metric in (*_ALL, SPEARMAN, *_OF_WORDS)}


def compute_metrics() -> dict[str, pl.Expr]:
    """The columns of metrics that reading does not give, by their names."""
    return {metric.name: metric.compute for metric in _ALL if metric.compute is not None}
