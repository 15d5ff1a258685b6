"""Numbers of answers equal those of independent libraries."""

import numpy as np
import pytest
from scipy.stats import binomtest
from statsmodels.stats.proportion import proportion_confint

from lm_eval_tasks.contracts.logs.scores import compute_wilson


@pytest.mark.parametrize(("right", "n"), [(0, 10), (7, 10), (10, 10), (433, 1000), (1, 3), (0, 1), (1, 1)])
def test_wilson_interval_is_that_of_the_libraries(right: int, n: int) -> None:
    expected = binomtest(right, n).proportion_ci(method="wilson")
    assert compute_wilson(right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_interval_of_many_means_over_seeds() -> None:
    rng = np.random.default_rng(0)
    n = rng.integers(1, 5000, 300)
    share = rng.random(300)
    low, high = compute_wilson(share, n)
    expected = proportion_confint(share * n, n, method="wilson")
    assert np.allclose([low, high], expected, atol=1e-12)
    assert (low <= share).all()
    assert (share <= high).all()


def test_of_nothing_everything_is_possible() -> None:
    low, high = compute_wilson(np.array([0.0, 0.5]), np.array([0, 10]))
    assert (low[0], high[0]) == (0, 1)
    assert compute_wilson(float("nan"), 0) == (0, 1)
