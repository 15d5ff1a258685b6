"""Areas under the ROC curve, with intervals: how often a row that clashes gets a higher score than one that does not.

Variances and covariances are DeLong et al.'s (1988, Biometrics 44:837). An area's interval is taken on the logit scale, where
it covers near 0 and 1 too; `tests/recipes/test_agreement_areas.py` simulates how often, and how often that of a difference of
two areas of the same rows does.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import norm, rankdata


class Areas(NamedTuple):
    """Areas of several scores on the same rows, and their covariance matrix."""

    values: np.ndarray  # (scores,)
    covariance: np.ndarray  # (scores, scores)
    positives: int
    negatives: int


def measure_areas(positives: np.ndarray, negatives: np.ndarray) -> Areas:
    """The areas of scores, ties counted half.

    Args:
        positives: the scores of the rows that are to be found, (scores, rows).
        negatives: those of the others, (scores, rows).

    >>> measure_areas(np.array([[3.0, 2.0]]), np.array([[1.0, 2.0]])).values.tolist()
    [0.875]
    """
    m, n = positives.shape[1], negatives.shape[1]
    together = rankdata(np.hstack([positives, negatives]), axis=1)
    # A row's placement: the share of rows of the other kind that its score is on the right side of.
    own = (together[:, :m] - rankdata(positives, axis=1)) / n
    other = 1 - (together[:, m:] - rankdata(negatives, axis=1)) / m
    covariance = np.atleast_2d(np.cov(own)) / m + np.atleast_2d(np.cov(other)) / n
    return Areas(own.mean(axis=1), covariance, m, n)


def find_interval(areas: Areas, number: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of one area.

    Of scores that tell all rows apart nothing varies: then the bound is that of the rule of three, 3 over the rows of the rarer
    kind.
    """
    value, variance = areas.values[number], areas.covariance[number, number]
    if variance <= 0 or not 0 < value < 1:
        far = min(1.0, 3 / min(areas.positives, areas.negatives))
        return (max(0.0, value - far), min(1.0, value + far))
    centre, width = np.log(value / (1 - value)), norm.ppf((1 + level) / 2) * np.sqrt(variance) / (value * (1 - value))
    low, high = (1 / (1 + np.exp(-end)) for end in (centre - width, centre + width))
    return float(low), float(high)


def compare_areas(areas: Areas, one: int, other: int, level: float = 0.95) -> tuple[float, float, float]:
    """The difference of two areas of the same rows, with its interval."""
    difference = areas.values[one] - areas.values[other]
    covariance = areas.covariance
    variance = max(0.0, covariance[one, one] + covariance[other, other] - 2 * covariance[one, other])
    width = norm.ppf((1 + level) / 2) * np.sqrt(variance)
    return float(difference), float(difference - width), float(difference + width)
