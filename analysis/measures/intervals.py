"""Means with intervals: over the questions of one run, and over questions and seeds of a group of runs.

All intervals are at 95%. Arrays are named by their axes: Q questions, S seeds, R runs, M metrics, B resamples.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from scipy import stats

from analysis.measures.metrics import BOUNDS, SHARES
from lm_eval_tasks.contracts.logs.scores import LEVEL, compute_wilson

POWER = 0.8
RESAMPLES = 1000  # the standard error is then known to about 2%
SEED = 0
# Where resampling shows next to no variation, the standard error is that which gives the rule of three's 3 / n.
RULE_OF_THREE = 3 / stats.norm.ppf((1 + LEVEL) / 2)


def summarise_means(table: pl.DataFrame, by: Sequence[str], metrics: Sequence[str]) -> pl.DataFrame:
    """Mean and interval over questions: Wilson's for shares, Student's t for the rest.

    Args:
        table: one row a question (of a run), one column a metric; values that are null or not finite are left out.
        by: columns that make a group.
        metrics: the columns to average.

    Returns:
        The columns `by`, then `metric, value, low, high, n`; `low` and `high` are null where n is too small for an interval.

    >>> summarise_means(pl.DataFrame({"accuracy": [1.0, 1.0, 0.0, 1.0]}), (), ("accuracy",)).select("value", "n").row(0)
    (0.75, 4)
    """
    finite = {m: pl.col(m).cast(pl.Float64).replace([np.inf, -np.inf, np.nan], None) for m in metrics}
    # Aggregated before it is made long, which takes a tenth of the memory.
    wide = table.group_by(by or pl.lit(0).alias("_all"), maintain_order=True).agg(
        pl.struct(value.mean().alias("value"), value.std().alias("std"), value.count().cast(pl.Int64).alias("n")).alias(m)
        for m, value in finite.items()
    )
    means = wide.unpivot(metrics, index=by, variable_name="metric", value_name="_").unnest("_").filter(pl.col("n") > 0)
    value, n = means["value"].to_numpy(), means["n"].to_numpy()
    std = means["std"].fill_null(np.nan).to_numpy()
    half = stats.t.ppf((1 + LEVEL) / 2, np.maximum(n - 1, 1)) * std / np.sqrt(n)
    least, most = np.array([BOUNDS[m] for m in means["metric"]]).reshape(-1, 2).T
    low, high = np.clip(value - half, least, most), np.clip(value + half, least, most)
    share = means["metric"].is_in(SHARES).to_numpy()
    low[share], high[share] = compute_wilson(value[share], n[share])
    bounds = pl.DataFrame({"low": low, "high": high}).fill_nan(None)
    return means.select(*by, "metric", "value").hstack(bounds).hstack(means.select("n"))


def resample_means(values: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Means over resampled questions. All runs see the same resample, so a difference of two runs stays paired by question.

    Args:
        values: (Q, R, M); NaN where a run was not asked a question, or a metric does not exist.
        resamples: how many.
        seed: of the random generator.

    Returns:
        (B, R, M); NaN where a resample holds none of a run's questions.
    """
    questions, shape = values.shape[0], values.shape[1:]
    known = np.isfinite(values)
    flat, mask = np.where(known, values, 0).reshape(questions, -1), known.reshape(questions, -1).astype(float)
    complete = mask.all()
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, flat.shape[1]))
    step = max(1, 4_000_000 // max(questions, 1))  # 32 MB of weights at a time
    with np.errstate(invalid="ignore"):
        for start in range(0, resamples, step):
            part = slice(start, min(start + step, resamples))
            weights = resample_weights(rng, part.stop - part.start, questions)
            means[part] = (weights @ flat) / (questions if complete else weights @ mask)
    return means.reshape(resamples, *shape)


def resample_weights(rng: np.random.Generator, times: int, questions: int) -> np.ndarray:
    """How often a resample of as many questions, with replacement, holds each question, (times, questions)."""
    chosen = rng.integers(0, questions, (times, questions), dtype=np.int32)
    chosen += np.arange(times, dtype=np.int32)[:, None] * questions
    return np.bincount(chosen.ravel(), minlength=times * questions).reshape(times, questions).astype(float)


class Estimate(NamedTuple):
    """A mean over seeds with its interval; every field is an array (M,), but for `seeds`."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    low_questions: np.ndarray  # the same with the seeds taken as given
    high_questions: np.ndarray
    p: np.ndarray  # that the mean is 0, two-sided; NaN where nothing varies
    p_questions: np.ndarray  # the same with the seeds taken as given
    mde: np.ndarray  # smallest true mean that would be found in 80% of repetitions; NaN where nothing varies
    method: np.ndarray
    seeds: int


def _spread(resampled: np.ndarray) -> np.ndarray:
    """Standard deviation over resamples, (M,), those left out that hold none of a run's questions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a metric that does not exist has no spread: NaN
        return np.nanstd(resampled, axis=0, ddof=1)


def estimate_mean(points: np.ndarray, resampled: np.ndarray, floor: np.ndarray, seed: int = SEED) -> Estimate:
    """Mean over seeds, with the wider of two intervals: crossed question-by-seed bootstrap, or Student's t over the seeds.

    With one seed the interval is over questions alone. The bootstrap gives the standard error; the interval and the p-value
    are the normal ones with it, so that they always agree.

    Args:
        points: (S, M), a mean (or difference of means) a seed.
        resampled: (B, S, M), the same over resampled questions.
        floor: (M,), the least standard error over questions (see `RULE_OF_THREE`).
        seed: of the random generator that resamples the seeds.
    """
    seeds = len(points)
    value = points.mean(axis=0)
    se_questions = np.maximum(_spread(resampled.mean(axis=1)), floor)
    z = stats.norm.ppf((1 + LEVEL) / 2)
    se, df = se_questions, np.full(value.shape, np.inf)
    method = np.full(value.shape, "bootstrap over questions", dtype=object)
    if seeds > 1:
        weights = np.random.default_rng(seed).multinomial(seeds, np.full(seeds, 1 / seeds), len(resampled)) / seeds
        se_crossed = np.maximum(_spread(np.einsum("bs,bsm->bm", weights, resampled)), floor)
        se_seeds = points.std(axis=0, ddof=1) / np.sqrt(seeds)
        wider = stats.t.ppf((1 + LEVEL) / 2, seeds - 1) * se_seeds > z * se_crossed
        se, df = np.where(wider, se_seeds, se_crossed), np.where(wider, seeds - 1, np.inf)
        method = np.where(wider, "t over seeds", "crossed bootstrap").astype(object)
    half = stats.t.ppf((1 + LEVEL) / 2, df) * se
    # Where no answer varies, nothing is known of how much the mean may.
    known, known_questions = (np.where(s > 1e-12, s, np.nan) for s in (se, se_questions))
    p = 2 * stats.t.sf(np.abs(value) / known, df)
    p_questions = 2 * stats.norm.sf(np.abs(value) / known_questions)
    return Estimate(
        value=value,
        low=value - half,
        high=value + half,
        low_questions=value - z * se_questions,
        high_questions=value + z * se_questions,
        p=p,
        p_questions=p_questions,
        mde=half + stats.t.ppf(POWER, df) * known,
        method=method,
        seeds=seeds,
    )
