"""Areas are scikit-learn's, and their intervals cover as often as they say."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from recipes.agreement.areas import compare_areas, find_interval, measure_areas


def test_areas_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    positives, negatives = rng.normal(1, 1, (3, 40)).round(1), rng.normal(0, 1, (3, 55)).round(1)
    truth = np.repeat([1, 0], [40, 55])
    for value, scores in zip(measure_areas(positives, negatives).values, np.hstack([positives, negatives]), strict=True):
        assert value == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)


@pytest.mark.parametrize(("area", "m", "n"), [(0.5, 150, 150), (0.75, 150, 150), (0.97, 150, 150), (0.9, 60, 150)])
def test_intervals_cover(area, m, n):
    rng = np.random.default_rng(1)
    far = np.sqrt(2) * norm.ppf(area)
    covered = []
    for _ in range(1000):
        low, high = find_interval(measure_areas(rng.normal(far, 1, (1, m)), rng.normal(0, 1, (1, n))), 0)
        covered.append(low <= area <= high)
    assert 0.93 <= np.mean(covered) <= 0.985  # 95%, within what 1,000 studies tell


def test_differences_of_scores_of_the_same_rows_cover():
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(1000):
        shared = [rng.normal(far, 1, size) for far, size in ((1, 120), (0, 120))]
        scores = [np.stack([part + rng.normal(0, 0.7, part.shape), part + rng.normal(0, 0.7, part.shape)]) for part in shared]
        _, low, high = compare_areas(measure_areas(*scores), 0, 1)
        covered.append(low <= 0 <= high)
    assert 0.93 <= np.mean(covered) <= 0.985


def test_scores_that_tell_all_apart_have_a_bound_all_the_same():
    areas = measure_areas(np.array([[2.0] * 30]), np.array([[1.0] * 60]))
    assert areas.values.tolist() == [1.0]
    assert find_interval(areas, 0) == (0.9, 1.0)
