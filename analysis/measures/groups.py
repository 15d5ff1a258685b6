"""Means of groups of runs over questions and seeds: of conditions, in each phase and evaluation set."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from analysis.measures.blocks import Block, compute_floor, compute_skew, cut_blocks, group_runs
from analysis.measures.intervals import Estimate, estimate_mean
from analysis.measures.keys import sort_by_words
from analysis.measures.metrics import BOUNDS, METRICS
from lm_eval_tasks.contracts.vocabulary import BASE

MEAN_SCHEMA = pl.Schema(
    dict.fromkeys(("model", "domain", "condition"), pl.String)
    | {"ratio": pl.Float64}
    | dict.fromkeys(("phase", "split", "metric"), pl.String)
    | dict.fromkeys(("value", "low", "high", "low_questions", "high_questions", "least", "greatest"), pl.Float64)
    | {"n": pl.Int64, "seeds": pl.Int64, "method": pl.String}
)


def summarise_group(
    block: Block, metrics: tuple[str, ...], condition: str, ratio: float | None, runs: list[int]
) -> list[dict[str, Any]]:
    """The rows of `MEAN_SCHEMA` of one condition in a block, a metric each; none where a run has fewer than two questions.

    Args:
        block: its runs.
        metrics: the block's.
        condition: whose runs these are.
        ratio: of a mix.
        runs: their positions in the block, a seed each.
    """
    n = np.min([block.count(run) for run in runs], axis=0)
    skew = compute_skew(block, metrics, runs)
    estimate = estimate_mean(block.points[runs], block.resampled[:, runs], compute_floor(metrics, n), skew)
    rows = []
    for m in np.flatnonzero(n > 1):
        name = metrics[m]
        limits = BOUNDS.get(name, (-np.inf, np.inf))
        bounds = {key: np.clip(getattr(estimate, key)[m], *limits) for key in Estimate._fields[1:5]}
        row = {"condition": condition, "ratio": ratio, "metric": name, "value": estimate.value[m], **bounds, "n": n[m]}
        row |= {"least": block.points[runs, m].min(), "greatest": block.points[runs, m].max()}
        rows.append(block.names | row | {"seeds": 0 if condition == BASE else estimate.seeds, "method": estimate.method[m]})
    return rows


def summarise_columns(measures: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Means over seeds of numbers that are no metric of choices, with the report's intervals over questions and seeds.

    Args:
        measures: as in `study.Study`, with the columns; null where a question has no number.
        columns: of real numbers, or of metrics of answers in words (`metrics.ANSWERED`); none has the name of another metric,
            whose bounds would cut it.

    Returns:
        `MEAN_SCHEMA`; `metric` is the name of a column.
    """
    names = tuple(columns)
    assert not {*names} & {*METRICS}
    rows = [
        row
        for block in cut_blocks(measures, names)
        for condition, ratio, runs in group_runs(block)
        for row in summarise_group(block, names, condition, ratio, list(runs.values()))
    ]
    return sort_by_words(pl.DataFrame(rows, schema=MEAN_SCHEMA)) if rows else pl.DataFrame(schema=MEAN_SCHEMA)
