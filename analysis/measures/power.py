"""What a design can find: the smallest difference that it finds in 80% of repetitions, and how many seeds would find one.

A spread among few seeds is itself hardly known. So the difference that is said to be found in 80% of repetitions is found in
80% on average over what the spread may have come out as, here and in the repetition: with few seeds it is much larger than the
noncentral t distribution gives for a spread that is known.
"""

from functools import lru_cache

import numpy as np
import scipy

POWER = 0.8
MOST_SEEDS = 50
_NODES = 200  # of the distribution of an estimated spread
_LARGEST = 1e6  # standard errors, beyond which nothing is found


def find_detectable(se: float, df: float, alpha: float) -> float:
    """The smallest true difference that a two-sided test at `alpha` finds in 80% of repetitions; infinite where there is none.

    Args:
        se: the standard error that was estimated.
        df: its degrees of freedom; infinite for a normal test.
        alpha: the level in force, after correction.

    >>> round(find_detectable(1.0, float("inf"), 0.05), 2)  # 1.96 + 0.84
    2.8
    >>> round(find_detectable(1.0, 4, 0.05), 1)
    4.7
    """
    return se * _count_errors(float(df), float(alpha))


@lru_cache(maxsize=1000)
def _count_errors(df: float, alpha: float) -> float:
    """`find_detectable` in estimated standard errors."""
    if np.isinf(df):
        return float(scipy.stats.norm.isf(alpha / 2) + scipy.stats.norm.ppf(POWER))
    critical = scipy.stats.t.isf(alpha / 2, df)
    ratio = _spread_estimates(df)

    def miss(errors: float) -> float:
        shift = errors * ratio[:, None]
        found = scipy.stats.norm.sf(critical * ratio - shift) + scipy.stats.norm.cdf(-critical * ratio - shift)
        return float(found.mean()) - POWER

    return scipy.optimize.brentq(miss, 0, _LARGEST, xtol=1e-3) if miss(_LARGEST) > 0 else float("inf")


def _spread_estimates(df: float) -> np.ndarray:
    """What estimates of a standard error come out as, over the true one: `_NODES` equally probable ratios."""
    return np.sqrt(scipy.stats.chi2.ppf((np.arange(_NODES) + 0.5) / _NODES, df) / df)


def count_seeds(difference: float, spread: float, alpha: float) -> int | None:
    """With how many seeds a test over seeds at `alpha` finds a difference in 80% of repetitions; None where 50 do not.

    Args:
        difference: the true difference, not 0.
        spread: its standard deviation among seeds, taken as known.
        alpha: the level in force, after correction.

    >>> count_seeds(0.2, 0.1, 0.05)
    5
    """
    for seeds in range(2, MOST_SEEDS + 1):
        shift = abs(difference) * np.sqrt(seeds) / max(spread, 1e-12)
        critical = scipy.stats.t.isf(alpha / 2, seeds - 1)
        if scipy.stats.norm.sf(critical * _spread_estimates(seeds - 1) - shift).mean() > POWER:
            return seeds
    return None
