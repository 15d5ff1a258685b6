"""Means with intervals: over the questions of one run, and over questions and seeds of a group of runs.

All intervals are at 95%. Arrays are named by their axes: Q questions, S seeds, R runs, M metrics, B resamples.
"""

import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import polars as pl
import scipy

from analysis.measures.metrics import BOUNDS, SHARES
from lm_eval_tasks.contracts.logs.scores import LEVEL, compute_wilson

RESAMPLES = 1000  # the standard error is then known to about 2%
SEED = 0
MOST_WEIGHTS = 4_000_000  # at once in memory: 32 MB
# Where resampling shows next to no variation, the standard error is that which gives the rule of three's 3 / n.
RULE_OF_THREE = 3 / scipy.special.ndtri((1 + LEVEL) / 2)


def summarise_means(table: pl.DataFrame, by: Sequence[str], metrics: Sequence[str]) -> pl.DataFrame:
    """Mean and interval over questions: Wilson's for shares, Student's t, corrected for skewness, for the rest.

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
        pl.struct(value=value.mean(), std=value.std(), skew=value.skew(), n=value.count().cast(pl.Int64)).alias(m)
        for m, value in finite.items()
    )
    means = wide.unpivot(metrics, index=by, variable_name="metric", value_name="_").unnest("_").filter(pl.col("n") > 0)
    value, n = means["value"].to_numpy(), means["n"].to_numpy()
    std, skew = (means[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("std", "skew"))
    critical = scipy.stats.t.ppf((1 + LEVEL) / 2, np.maximum(n - 1, 1))
    low, high = bound_mean(value, std / np.sqrt(n), np.nan_to_num(skew) / np.sqrt(n), critical)
    least, most = np.array([BOUNDS[m] for m in means["metric"]]).reshape(-1, 2).T
    low, high = np.clip(low, least, most), np.clip(high, least, most)
    share = means["metric"].is_in(SHARES).to_numpy()
    low[share], high[share] = compute_wilson(value[share], n[share])
    bounds = pl.DataFrame({"low": low, "high": high}).fill_nan(None)
    return means.select(*by, "metric", "value").hstack(bounds).hstack(means.select("n"))


def transform_errors(errors: np.ndarray, skew: np.ndarray) -> np.ndarray:
    """Errors of means in standard errors, made symmetric by Hall's monotone cubic (Hall 1992, doi:10.2307/2345993).

    Args:
        errors: mean less true mean, over the estimated standard error.
        skew: skewness of the means: that of the values over the root of their number.

    >>> errors = transform_errors(np.array([-2.0, 2.0]), np.array(0.1))
    >>> errors.round(2), restore_errors(errors, np.array(0.1)).round(6)
    (array([-1.85,  2.15]), array([-2.,  2.]))
    """
    a = skew / 3
    return errors + a * errors**2 + a**2 * errors**3 / 3 + skew / 6


def restore_errors(errors: np.ndarray, skew: np.ndarray) -> np.ndarray:
    """The inverse of `transform_errors`."""
    a = np.where(np.abs(skew) < 1e-9, np.nan, skew / 3)
    return np.where(np.isnan(a), errors, (np.cbrt(1 + 3 * a * (errors - skew / 6)) - 1) / a)


def bound_mean(
    value: np.ndarray, se: np.ndarray, skew: np.ndarray, critical: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the interval of means of skewed values, as KL is: Student's alone misses the long tail.

    Args:
        value: the means.
        se: their standard errors.
        skew: their skewness (see `transform_errors`).
        critical: the quantile of the symmetric interval.
    """
    return value - restore_errors(critical, skew) * se, value - restore_errors(-critical, skew) * se


def measure_skew(these: np.ndarray, those: np.ndarray | None = None) -> np.ndarray:
    """Skewness of a mean over questions, or of the difference of two, (M,): 0 where nothing varies.

    Args:
        these: (Q, S, M), each question averaged over its seeds first; NaN where not asked.
        those: the same of the reference; a question that both were asked counts with its difference.
    """
    shares = np.zeros((these.shape[0], these.shape[2]))  # what a question adds to the error of the mean
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # questions that one side was not asked
        for side, sign in ((these, 1), (those, -1)):
            if side is not None:
                means = np.nanmean(side, axis=1)
                shares += sign * np.nan_to_num((means - np.nanmean(means, axis=0)) / np.isfinite(means).sum(axis=0))
        return np.nan_to_num((shares**3).sum(axis=0) / (shares**2).sum(axis=0) ** 1.5)


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
    with np.errstate(invalid="ignore"):
        means = [
            (weights @ flat) / (questions if complete else weights @ mask)
            for weights in draw_resamples(questions, resamples, seed)
        ]
    return np.concatenate(means).reshape(resamples, *shape)


def draw_resamples(questions: int, resamples: int = RESAMPLES, seed: int = SEED) -> Iterator[np.ndarray]:
    """How often resamples hold each question, (resamples, questions), part by part; the same for as many questions."""
    step = max(1, MOST_WEIGHTS // max(questions, 1))
    if resamples <= step:
        yield _draw_kept(questions, resamples, seed)
    else:
        rng = np.random.default_rng(seed)
        for start in range(0, resamples, step):
            yield resample_weights(rng, min(step, resamples - start), questions)


@lru_cache(maxsize=4)  # a report asks for those of few numbers of questions, each some ten times
def _draw_kept(questions: int, resamples: int, seed: int) -> np.ndarray:
    weights = resample_weights(np.random.default_rng(seed), resamples, questions)
    weights.flags.writeable = False
    return weights


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
    se: np.ndarray  # standard error over questions, and over seeds where there are several (the crossed bootstrap's)
    se_seeds: np.ndarray  # standard error over seeds alone; NaN where there is one
    method: np.ndarray  # which of the two intervals is the wider
    seeds: int


def _spread(resampled: np.ndarray) -> np.ndarray:
    """Standard deviation over resamples, (M,), those left out that hold none of a run's questions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a metric that does not exist has no spread: NaN
        return np.nanstd(resampled, axis=0, ddof=1)


def estimate_mean(
    points: np.ndarray, resampled: np.ndarray, floor: np.ndarray, skew: np.ndarray | None = None, seed: int = SEED
) -> Estimate:
    """Mean over seeds, with the wider of two intervals: crossed question-by-seed bootstrap, or Student's t over the seeds.

    With one seed the interval is over questions alone. The bootstrap gives the standard error, and the interval is the normal
    one with it, corrected for skewness. The p-value is the larger of both tests': where few seeds agree by luck, the
    bootstrap's alone would be tiny far beyond what these seeds can tell, and a correction for many tests would let it pass.

    Args:
        points: (S, M), a mean (or difference of means) a seed.
        resampled: (B, S, M), the same over resampled questions.
        floor: (M,), the least standard error over questions (see `RULE_OF_THREE`).
        skew: (M,), as `measure_skew` gives it; none by default.
        seed: of the random generator that resamples the seeds.
    """
    seeds = len(points)
    value = points.mean(axis=0)
    skew = np.zeros(value.shape) if skew is None else skew
    z = scipy.stats.norm.ppf((1 + LEVEL) / 2)
    se_questions = np.maximum(_spread(resampled.mean(axis=1)), floor)
    low_questions, high_questions = bound_mean(value, se_questions, skew, z)
    # Where no answer varies, nothing is known of how much the mean may; seeds that agree to the last digit say nothing.
    p_questions = _test_zero(value, se_questions, skew)
    se, se_seeds = se_questions, np.full(value.shape, np.nan)
    low, high, p, method = low_questions, high_questions, p_questions, np.full(value.shape, "bootstrap over questions", object)
    if seeds > 1:
        weights = np.random.default_rng(seed).multinomial(seeds, np.full(seeds, 1 / seeds), len(resampled)) / seeds
        se = np.maximum(_spread(np.einsum("bs,bsm->bm", weights, resampled)), floor)
        se_seeds = points.std(axis=0, ddof=1) / np.sqrt(seeds)
        low, high = bound_mean(value, se, skew, z)
        half = scipy.stats.t.ppf((1 + LEVEL) / 2, seeds - 1) * se_seeds
        method = np.where(2 * half > high - low, "t over seeds", "crossed bootstrap").astype(object)
        low, high = np.fmin(low, value - half), np.fmax(high, value + half)
        by_seeds = 2 * scipy.stats.t.sf(np.abs(value) / np.where(se_seeds > 1e-12, se_seeds, np.nan), seeds - 1)
        p = np.fmax(_test_zero(value, se, skew), by_seeds)
    known = np.where(se > 1e-12, se, np.nan)
    return Estimate(value, low, high, low_questions, high_questions, p, p_questions, known, se_seeds, method, seeds)


def _test_zero(value: np.ndarray, se: np.ndarray, skew: np.ndarray) -> np.ndarray:
    """Two-sided p-values that means are 0; NaN where nothing varies."""
    errors = value / np.where(se > 1e-12, se, np.nan)
    return 2 * scipy.stats.norm.sf(np.abs(transform_errors(errors, skew)))
