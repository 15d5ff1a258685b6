"""Each measure by itself: a table a metric and phase, with every mean and its interval."""

import polars as pl

from analysis.chapters.chapter import EACH, Chapter
from analysis.measures.metrics import METRICS
from analysis.measures.tails import TRIMMED
from analysis.showing.formats import DASH, format_mean, format_tail
from analysis.showing.labels import name_part, name_row
from analysis.showing.panels import list_evaluations, name_range
from analysis.showing.tables import Table
from lm_eval_tasks.contracts.vocabulary import BASE, PHASES, name_set


def tabulate_metric(summary: pl.DataFrame, metric: str, phase: str) -> Table:
    """One metric of the tuned models in one phase, below the base model's: a column an evaluation set, mean and interval."""
    base = pl.col("condition") == BASE
    part = summary.filter(base | (pl.col("phase") == phase), metric=metric)
    evaluations = list_evaluations(part)
    rows: dict[str, dict[str, str]] = {}
    for row in part.sort(~base, maintain_order=True).iter_rows(named=True):
        label = name_row(row["condition"], row["ratio"], row["phase"])
        rows.setdefault(label, {})[row["split"]] = format_mean(row) + format_tail(row)
    header = [f"{name_set(name)} (n = {name_range(part.filter(split=name)['n'])})" for name in evaluations]
    body = [[label, *(cells.get(name, DASH) for name in evaluations)] for label, cells in rows.items()]
    tail = (
        f" In brackets, over the answers of all seeds: the median, and the mean without {TRIMMED:.0%} at each end. The "
        "mean leaves infinite values out, the other two do not."
        if part["median"].count()
        else ""
    )
    title = f"{METRICS[metric].title}, {PHASES[phase]}{name_part(summary)}"
    return Table(f"{metric}-{phase}", title, ["trained on", *header], body, "Mean over seeds with its 95% interval." + tail)


CHAPTER = Chapter(
    heading=EACH,
    tables=lambda part: [tabulate_metric(part.frames["summary"], m, phase) for m in METRICS for phase in part.phases],
)
