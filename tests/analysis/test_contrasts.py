"""Intervals and contrasts agree with scipy and statsmodels where these have an answer."""

import numpy as np
import polars as pl
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.contrasts import compare_conditions, compute_mcnemar
from analysis.intervals import estimate_mean, resample_means, summarise_means
from analysis.labels import METRICS


def make_measures(answers: dict[tuple[str, int], np.ndarray], split: str = "homo", first: dict = {}) -> pl.DataFrame:  # noqa: B006
    """Measures with these right answers (0 or 1) for each condition and seed; `first`: a condition's first id."""
    parts = []
    for (condition, seed), right in answers.items():
        start = first.get(condition, 0)
        names = {
            "model": "base",
            "domain": "herbs",
            "condition": condition,
            "run": f"{condition}-{seed}",
            "phase": "tuned_chat",
        }
        part = pl.DataFrame({"id": [str(start + i) for i in range(len(right))], "accuracy": right.astype(float)})
        part = part.with_columns(**{key: pl.lit(value) for key, value in names.items()}, seed=pl.lit(seed, pl.Int64))
        parts.append(part.with_columns(split=pl.lit(split), source=pl.lit("s"), question_domain=pl.lit("herbs")))
    nulls = {m: pl.lit(None, pl.Float64) for m in METRICS if m != "accuracy"}
    return pl.concat(parts).with_columns(ratio=pl.lit(None, pl.Float64), **nulls)


def draw(n: int, share: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < share).astype(int)


def test_means_over_questions_have_wilson_and_t_intervals():
    rng = np.random.default_rng(0)
    right, kl = draw(200, 0.7, 0), rng.exponential(size=200)
    kl[3] = np.inf
    table = summarise_means(pl.DataFrame({"accuracy": right, "kl_nats": kl}), (), ("accuracy", "kl_nats"))
    accuracy, divergence = table.rows(named=True)
    wilson = stats.binomtest(int(right.sum()), 200).proportion_ci(method="wilson")
    assert (accuracy["low"], accuracy["high"], accuracy["n"]) == (pytest.approx(wilson.low), pytest.approx(wilson.high), 200)
    finite = kl[np.isfinite(kl)]
    low, high = stats.t.interval(0.95, 198, finite.mean(), stats.sem(finite))
    assert (divergence["low"], divergence["high"], divergence["n"]) == (pytest.approx(low), pytest.approx(high), 199)


def test_one_question_has_no_t_interval():
    table = summarise_means(pl.DataFrame({"kl_nats": [1.0]}), (), ("kl_nats",))
    assert table.row(0) == ("kl_nats", 1.0, None, None, 1)


def test_resampling_gives_the_standard_error_of_a_mean_and_of_a_paired_difference():
    rng = np.random.default_rng(1)
    x = rng.normal(size=400)
    y = x + 0.1 * rng.normal(size=400)
    means = resample_means(np.stack([x, y], axis=1)[:, :, None], resamples=4000)[:, :, 0]
    assert means[:, 0].std() == pytest.approx(stats.sem(x), rel=0.05)
    assert (means[:, 0] - means[:, 1]).std() == pytest.approx(stats.sem(x - y), rel=0.05)


def test_mcnemar_is_the_exact_binomial_test():
    a, b = draw(100, 0.7, 2) > 0, draw(100, 0.5, 3) > 0
    n01, n10 = int((~a & b).sum()), int((a & ~b).sum())
    assert compute_mcnemar(a, b) == pytest.approx(stats.binomtest(n01, n01 + n10).pvalue)
    assert compute_mcnemar(a, a) == 1


def test_one_seed_is_tested_by_mcnemar_and_corrected_by_holm():
    answers = {
        (c, 1): draw(300, share, i) for i, (c, share) in enumerate([("harmonious", 0.7), ("gold", 0.6), ("incompatible", 0.5)])
    }
    _, contrasts = compare_conditions(make_measures(answers))
    assert contrasts["condition"].to_list() == ["harmonious", "gold"]
    assert contrasts["paired"].all()
    assert set(contrasts["seeds"]) == {1}
    for row in contrasts.iter_rows(named=True):
        a, b = answers[row["condition"], 1], answers["incompatible", 1]
        assert row["difference"] == pytest.approx(a.mean() - b.mean())
        assert row["p"] == pytest.approx(compute_mcnemar(a > 0, b > 0))
        z = stats.sem(a - b) * stats.norm.ppf(0.975)
        assert row["high"] - row["difference"] == pytest.approx(z, rel=0.06)
    np.testing.assert_allclose(contrasts["p_holm"], multipletests(contrasts["p"].to_numpy(), method="holm")[1])


def test_seeds_that_differ_give_the_t_interval_of_paired_seeds():
    shares = {1: (0.9, 0.5), 2: (0.6, 0.55), 3: (0.8, 0.3)}
    answers = {
        (c, s): draw(400, pair[i], 10 * s + i)
        for s, pair in shares.items()
        for i, c in enumerate(("harmonious", "incompatible"))
    }
    _, contrasts = compare_conditions(make_measures(answers))
    row = contrasts.row(0, named=True)
    d = [answers["harmonious", s].mean() - answers["incompatible", s].mean() for s in shares]
    test = stats.ttest_1samp(d, 0)
    low, high = test.confidence_interval(0.95)
    assert row["method"] == "t over seeds"
    assert (row["low"], row["high"], row["p"]) == (pytest.approx(low), pytest.approx(high), pytest.approx(test.pvalue))
    assert row["high_questions"] - row["low_questions"] < row["high"] - row["low"]


def test_seeds_that_agree_keep_the_uncertainty_over_questions():
    right, wrong = draw(400, 0.7, 1), draw(400, 0.5, 2)
    answers = {(c, s): x for s in (1, 2) for c, x in (("harmonious", right), ("incompatible", wrong))}
    summary, contrasts = compare_conditions(make_measures(answers))
    row = contrasts.row(0, named=True)
    assert row["method"] == "crossed bootstrap"
    assert row["high"] - row["difference"] == pytest.approx(1.96 * stats.sem(right - wrong), rel=0.06)
    assert summary["seeds"].to_list() == [2, 2]


def test_different_questions_are_compared_unpaired():
    right, wrong = draw(300, 0.6, 1), draw(200, 0.5, 2)
    answers = {("harmonious", 1): right, ("incompatible", 1): wrong}
    _, contrasts = compare_conditions(make_measures(answers, "seen", {"harmonious": 1000}))
    row = contrasts.row(0, named=True)
    assert (row["paired"], row["n"], row["n_reference"]) == (False, 300, 200)
    se = np.sqrt(stats.sem(right) ** 2 + stats.sem(wrong) ** 2)
    assert row["high"] - row["difference"] == pytest.approx(1.96 * se, rel=0.08)
    assert row["p"] == pytest.approx(2 * stats.norm.sf(abs(row["difference"]) / se), rel=0.3)


def test_no_variation_at_all_is_not_certainty():
    answers = {("harmonious", 1): np.ones(100, int), ("incompatible", 1): np.zeros(100, int)}
    summary, contrasts = compare_conditions(make_measures(answers))
    assert summary.filter(condition="harmonious")["low"][0] == pytest.approx(0.97)
    assert contrasts["low"][0] == pytest.approx(0.97)


def test_detectable_difference_is_found_in_four_of_five_repetitions():
    rng = np.random.default_rng(5)
    se = 0.02
    resampled = rng.normal(0, se, (20000, 1, 1))
    mde = estimate_mean(np.zeros((1, 1)), resampled, np.zeros(1)).mde[0]
    found = np.abs(rng.normal(mde, se, 20000)) > 1.96 * se
    assert found.mean() == pytest.approx(0.8, abs=0.02)
