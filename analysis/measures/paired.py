"""Two models' scores of the same samples: their difference with an interval, a test, and what flipped."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from analysis.measures.differences import compute_mcnemar
from lm_eval_tasks.contracts.logs.scores import LEVEL

RESAMPLES = 9999
SEED = 0


class Difference(NamedTuple):
    """How two models' scores of the same samples differ: the second's less the first's.

    Attributes:
        n: samples.
        first: mean score.
        second: mean score.
        difference: of the means.
        low: of its 95% interval.
        high: of it.
        p: exact McNemar where all scores are 0 or 1, else the paired t test; NaN, as both ends, where all differ alike.
        gained: samples that only the second has right, of scores of 0 and 1; else that it scores higher.
        lost: samples that only the first has right; else that it scores higher.
    """

    n: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    gained: int
    lost: int


def measure_difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """The difference of two models' scores of the same samples.

    The interval is `bound_shares`' where all scores are 0 or 1, else the bias-corrected and accelerated bootstrap's over
    samples (Efron 1987). Of shares the bootstrap covers too seldom where few samples flip: 0.68 at n = 50 with 5% of them.

    Args:
        first: (n,) scores.
        second: (n,) the same samples' scores.

    >>> found = measure_difference(np.array([1.0, 0, 0, 0, 1, 0, 1, 0]), np.array([1.0, 1, 1, 0, 1, 1, 0, 0]))
    >>> found.difference, found.gained, found.lost, found.p
    (0.25, 3, 1, 0.625)
    """
    apart = second - first
    gained, lost = int((apart > 0).sum()), int((apart < 0).sum())
    if np.isin([first, second], (0, 1)).all():
        p, (low, high) = compute_mcnemar(second == 1, first == 1), bound_shares(gained, lost, len(apart))
    elif np.ptp(apart) < 1e-12:
        p, low, high = np.nan, np.nan, np.nan  # nothing varies, so that nothing is known of how it might
    else:
        p, (low, high) = float(stats.ttest_1samp(apart, 0).pvalue), bound_mean(apart)
    return Difference(len(apart), float(first.mean()), float(second.mean()), float(apart.mean()), low, high, p, gained, lost)


def bound_shares(gained: int, lost: int, n: int) -> tuple[float, float]:
    """Both ends of the 95% interval of a difference of paired shares (Bonett and Price 2012, doi:10.3102/1076998611411915).

    Args:
        gained: samples that only the second has.
        lost: samples that only the first has.
        n: samples.

    >>> low, high = bound_shares(10, 4, 100)
    >>> round(low, 3), round(high, 3)
    (-0.017, 0.135)
    """
    share, other = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    apart = share - other
    error = stats.norm.ppf((1 + LEVEL) / 2) * np.sqrt((share + other - apart**2) / (n + 2))
    return max(float(apart - error), -1.0), min(float(apart + error), 1.0)


def bound_mean(apart: np.ndarray) -> tuple[float, float]:
    """Both ends of the 95% interval of a mean of paired differences, (n,), that are not all the same."""
    settings = {"confidence_level": LEVEL, "n_resamples": RESAMPLES, "batch": 1000, "rng": SEED}
    found = stats.bootstrap((apart,), np.mean, method="BCa", **settings).confidence_interval
    return float(found.low), float(found.high)
