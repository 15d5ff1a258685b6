"""Means over seeds of many groups of answers at once, with intervals over questions that take these seeds as given."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import scipy

from analysis.measures.intervals import bound_mean
from analysis.measures.metrics import SHARES
from lm_eval_tasks.contracts.logs.averages import number_groups
from lm_eval_tasks.contracts.logs.scores import LEVEL, compute_wilson


def summarise_seeds(
    answers: pl.DataFrame, by: Sequence[str], question: Sequence[str], bounds: Mapping[str, tuple[float, float]]
) -> pl.DataFrame:
    """The mean over runs of each run's own mean, and its interval over questions, of every group.

    Shares (`metrics.SHARES`) have Wilson's interval at `n` different questions, so that answers of several seeds to one
    question do not count as several questions. The others have Student's t, corrected for skewness, over questions, each
    averaged over its seeds first; where the seeds were not asked the same questions, what a question adds to the mean stands
    for its average.

    Args:
        answers: a row a question and run: the columns `by` and `question`, `run`, and the metrics; values that are null or not
            finite are left out.
        by: columns that make a group.
        question: columns that tell questions apart.
        bounds: the metrics, and the least and the greatest value that each can have.

    Returns:
        `by`, then `metric, value, low, high, n, seeds` (runs); `low` and `high` are null where n is too small for an interval,
        and a group without a value of a metric has no row.

    >>> answers = pl.DataFrame({"group": "a", "id": [1, 2, 1, 2], "run": [1, 1, 2, 2], "accuracy": [1.0, 0.0, 1.0, 1.0]})
    >>> summarise_seeds(answers, ["group"], ["id"], {"accuracy": (0, 1)}).select("value", "n", "seeds").row(0)
    (0.75, 2, 2)
    """
    group = number_groups(answers, by)
    asked, run = (pair_numbers(group, number_groups(answers, key)) for key in (question, ["run"]))
    names = answers.select(by).unique(maintain_order=True)
    frames = []
    for metric, (least, most) in bounds.items():
        values = answers[metric].cast(pl.Float64).fill_null(np.nan).to_numpy()
        known = np.isfinite(values)
        value, se, skew, n, seeds = average_seeds(values[known], group[known], asked[known], run[known], names.height)
        if metric in SHARES:
            low, high = compute_wilson(value, n)
        else:
            ends = bound_mean(value, se, skew, scipy.stats.t.ppf((1 + LEVEL) / 2, np.maximum(n - 1, 1)))
            low, high = (np.clip(end, least, most) for end in ends)
        found = pl.DataFrame({"value": value, "low": low, "high": high}).fill_nan(None)
        counts = pl.DataFrame({"n": n, "seeds": seeds})
        frames.append(names.with_columns(metric=pl.lit(metric)).hstack(found).hstack(counts).filter(pl.col("n") > 0))
    return pl.concat(frames)


def pair_numbers(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A number from 0 for each pair of two numbers from 0, each (n,)."""
    return np.unique(first * (second.max(initial=0) + 1) + second, return_inverse=True)[1]


def average_seeds(
    values: np.ndarray, group: np.ndarray, asked: np.ndarray, run: np.ndarray, groups: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Means over runs of each run's mean, their standard errors and skewness over questions, and numbers of questions and runs.

    All are (groups,).

    Args:
        values: (rows,), finite.
        group: the number of each row's group, (rows,), from 0.
        asked: of its group and question.
        run: of its group and run.
        groups: how many there are.
    """
    rows = np.bincount(run)  # of each run
    run_group, question_group = (np.zeros(number.max(initial=-1) + 1, dtype=np.int64) for number in (run, asked))
    run_group[run], question_group[asked] = group, group
    seeds = np.bincount(run_group[rows > 0], minlength=groups)
    n = np.bincount(question_group[np.bincount(asked) > 0], minlength=groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.bincount(run, values) / rows
        value = np.bincount(run_group[rows > 0], means[rows > 0], groups) / seeds
        added = np.bincount(asked, (values - means[run]) / (rows[run] * seeds[group]))
        squares, cubes = (np.bincount(question_group, added**power, groups) for power in (2, 3))
        se = np.sqrt(squares * n / (n - 1))
        skew = np.nan_to_num(cubes / squares**1.5)
    return value, np.where(n > 1, se, np.nan), skew, n, seeds
