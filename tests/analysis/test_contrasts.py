"""Intervals and contrasts agree with scipy and statsmodels where these have an answer."""

import numpy as np
import polars as pl
import pytest
from answers import flip_coins, make_measures
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.chapters.contrasts import compare_conditions, tabulate_contrasts
from analysis.chapters.each import tabulate_metric
from analysis.chapters.headline import describe_contrast, tabulate_headline, write_headline, write_title
from analysis.chapters.summary import tabulate_summary
from analysis.measures import intervals
from analysis.measures.differences import compute_mcnemar, correct_tests, measure_effect
from analysis.measures.intervals import (
    SEED,
    measure_skew,
    resample_means,
    resample_weights,
    restore_errors,
    summarise_means,
    transform_errors,
)
from analysis.measures.power import count_seeds
from analysis.measures.seeds import summarise_seeds
from analysis.showing.formats import DASH
from lm_eval_tasks.contracts.vocabulary import CONDITIONS


def test_means_over_questions_have_wilson_and_t_intervals():
    rng = np.random.default_rng(0)
    right, half = flip_coins(200, 0.7, 0), rng.random(100)
    even = np.concatenate([half, 1 - half])  # no skewness
    even[3], even[103] = np.inf, np.nan
    table = summarise_means(pl.DataFrame({"accuracy": right, "kl_nats": even}), (), ("accuracy", "kl_nats"))
    accuracy, divergence = table.rows(named=True)
    wilson = stats.binomtest(int(right.sum()), 200).proportion_ci(method="wilson")
    assert (accuracy["low"], accuracy["high"], accuracy["n"]) == (pytest.approx(wilson.low), pytest.approx(wilson.high), 200)
    finite = even[np.isfinite(even)]
    low, high = stats.t.interval(0.95, 197, finite.mean(), stats.sem(finite))
    assert (divergence["low"], divergence["high"], divergence["n"]) == (pytest.approx(low), pytest.approx(high), 198)


def test_the_interval_of_a_skewed_mean_is_nearly_the_bootstrap_t():
    values = np.random.default_rng(3).lognormal(sigma=1, size=1000)
    row = summarise_means(pl.DataFrame({"kl_nats": values}), (), ("kl_nats",)).row(0, named=True)
    again = np.random.default_rng(4).choice(values, (4000, 1000))
    errors = (again.mean(axis=1) - values.mean()) / stats.sem(again, axis=1)
    ends = values.mean() - np.quantile(errors, [0.975, 0.025]) * stats.sem(values)
    plain = 1.96 * stats.sem(values)
    assert [row["low"], row["high"]] == pytest.approx(ends, abs=0.1 * plain)
    assert row["high"] - row["value"] > 1.1 * plain > 0.95 * plain > row["value"] - row["low"]
    assert restore_errors(transform_errors(ends, np.array(0.3)), np.array(0.3)) == pytest.approx(ends)


def test_every_interval_of_skewed_questions_is_skewed_alike():
    values = np.random.default_rng(3).lognormal(sigma=1, size=1000)
    alone = summarise_means(pl.DataFrame({"kl_nats": values}), (), ("kl_nats",)).row(0, named=True)
    answers = pl.DataFrame({"group": "a", "id": range(1000), "run": 1, "kl_nats": values})
    given = summarise_seeds(answers, ["group"], ["id"], {"kl_nats": (0, np.inf)}).row(0, named=True)
    assert (given["low"], given["high"]) == (pytest.approx(alone["low"]), pytest.approx(alone["high"]))
    measures = make_measures({("harmonious", 1): np.ones(1000, int)}).with_columns(kl_nats=pl.Series(values))
    row = compare_conditions(measures)[0].filter(metric="kl_nats").row(0, named=True)
    assert (row["low"], row["high"]) == (pytest.approx(alone["low"], rel=0.01), pytest.approx(alone["high"], rel=0.01))
    # A difference from what does not vary is as skewed, in either direction.
    skew = measure_skew(values[:, None, None])[0]
    assert skew == pytest.approx(stats.skew(values) / 1000**0.5)
    assert measure_skew(np.ones((1000, 1, 1)), values[:, None, None])[0] == pytest.approx(-skew)


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


@pytest.mark.parametrize("most", [10**9, 7 * 30, 1])
def test_as_many_questions_are_resampled_alike_however_many_fit_into_memory(most: int, monkeypatch: pytest.MonkeyPatch):
    whole = resample_weights(np.random.default_rng(SEED), 100, 30)
    monkeypatch.setattr(intervals, "MOST_WEIGHTS", most)
    for _ in range(2):  # the second time they are kept, where they fit
        parts = list(intervals.draw_resamples(30, 100))
        assert (np.concatenate(parts) == whole).all()
        assert max(map(len, parts)) == min(100, max(1, most // 30))
    values = np.random.default_rng(1).normal(size=(30, 2, 1))
    assert resample_means(values, 100)[..., 0] == pytest.approx(whole @ values[..., 0] / 30)


def test_mcnemar_is_the_exact_binomial_test():
    a, b = flip_coins(100, 0.7, 2) > 0, flip_coins(100, 0.5, 3) > 0
    n01, n10 = int((~a & b).sum()), int((a & ~b).sum())
    assert compute_mcnemar(a, b) == pytest.approx(stats.binomtest(n01, n01 + n10).pvalue)
    assert compute_mcnemar(a, a) == 1


def test_one_seed_is_tested_by_mcnemar_and_corrected_over_the_family():
    answers = {
        (c, 1): flip_coins(300, share, i)
        for i, (c, share) in enumerate([("harmonious", 0.7), ("gold", 0.6), ("incompatible", 0.5)])
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
    np.testing.assert_allclose(contrasts["p_bh"], stats.false_discovery_control(contrasts["p"].to_numpy()))


def test_tests_that_were_not_made_stay_out_of_the_family():
    corrected = correct_tests([0.01, None, 0.04, np.nan, 0.03])
    assert corrected["p_holm"].to_list() == [pytest.approx(0.03), None, pytest.approx(0.06), None, pytest.approx(0.06)]
    assert corrected["p_bh"].to_list() == [pytest.approx(0.03), None, pytest.approx(0.04), None, pytest.approx(0.04)]
    assert correct_tests([None])["p_bh"].to_list() == [None]
    assert correct_tests([]).height == 0


def test_interval_of_one_seed_is_scipys_paired_bootstrap():
    a, b = flip_coins(300, 0.7, 1), flip_coins(300, 0.5, 2)
    b[:150] = a[:150]
    _, contrasts = compare_conditions(make_measures({("harmonious", 1): a, ("incompatible", 1): b}))
    found = stats.bootstrap((a, b), lambda x, y, axis: x.mean(axis) - y.mean(axis), paired=True, rng=0, method="percentile")
    np.testing.assert_allclose(contrasts.select("low", "high").row(0), found.confidence_interval, atol=0.008)


def test_effect_of_shares_is_cohens_h():
    answers = {
        (c, s): flip_coins(400, x, 10 * s + i)
        for s in (1, 2)
        for i, (c, x) in enumerate([("gold", 0.8), ("incompatible", 0.5)])
    }
    _, contrasts = compare_conditions(make_measures(answers))
    row = contrasts.row(0, named=True)
    gold, reference = (np.mean([answers[c, s].mean() for s in (1, 2)]) for c in ("gold", "incompatible"))
    h = 2 * np.arcsin(np.sqrt(gold)) - 2 * np.arcsin(np.sqrt(reference))
    assert (row["effect"], row["effect_name"]) == (pytest.approx(h), "Cohen's h")
    # As large as it gets.
    answers = {("gold", 1): np.ones(50, int), ("incompatible", 1): np.zeros(50, int)}
    assert compare_conditions(make_measures(answers))[1]["effect"][0] == pytest.approx(np.pi)


def test_effect_of_means_is_that_of_the_questions_differences():
    rng = np.random.default_rng(0)
    these, those = rng.normal(1, 1, (200, 2, 1)), rng.normal(0, 1, (200, 2, 1))
    d = (these - those).mean(axis=1)[:, 0]
    assert measure_effect(these, those, np.array([True]))[0] == pytest.approx(d.mean() / d.std(ddof=1))
    a, b = these.mean(axis=1)[:120, 0], those.mean(axis=1)[120:, 0]
    these[120:], those[:120] = np.nan, np.nan
    pooled = np.sqrt((119 * a.var(ddof=1) + 79 * b.var(ddof=1)) / 198)
    assert measure_effect(these, those, np.array([False]))[0] == pytest.approx((a.mean() - b.mean()) / pooled)
    assert np.isnan(measure_effect(np.ones((9, 1, 1)), np.zeros((9, 1, 1)), np.array([True]))[0])


def test_effect_of_other_metrics_is_named():
    answers = {(c, 1): flip_coins(200, x, i) for i, (c, x) in enumerate([("gold", 0.8), ("incompatible", 0.5)])}
    measures = make_measures(answers).with_columns(kl_nats=pl.col("accuracy") + pl.int_range(pl.len()) % 7)
    _, contrasts = compare_conditions(measures)
    row = contrasts.filter(metric="kl_nats").row(0, named=True)
    x = measures.partition_by("condition", include_key=False)
    d = (x[0]["kl_nats"] - x[1]["kl_nats"]).to_numpy()
    assert (row["effect"], row["effect_name"]) == (pytest.approx(d.mean() / d.std(ddof=1)), "d_z")


def test_seeds_that_differ_give_the_t_interval_of_paired_seeds():
    shares = {1: (0.9, 0.5), 2: (0.6, 0.55), 3: (0.8, 0.3)}
    answers = {
        (c, s): flip_coins(400, pair[i], 10 * s + i)
        for s, pair in shares.items()
        for i, c in enumerate(("harmonious", "incompatible"))
    }
    _, contrasts = compare_conditions(make_measures(answers))
    row = contrasts.row(0, named=True)
    d = [answers["harmonious", s].mean() - answers["incompatible", s].mean() for s in shares]
    test = stats.ttest_1samp(d, 0)
    low, high = test.confidence_interval(0.95)
    assert row["method"] == "t over seeds"
    assert row["p"] > row["p_questions"]
    assert (row["low"], row["high"], row["p"]) == (pytest.approx(low), pytest.approx(high), pytest.approx(test.pvalue))
    assert row["high_questions"] - row["low_questions"] < row["high"] - row["low"]


def test_seeds_that_agree_keep_the_uncertainty_over_questions():
    right, wrong = flip_coins(400, 0.7, 1), flip_coins(400, 0.5, 2)
    answers = {(c, s): x for s in (1, 2) for c, x in (("harmonious", right), ("incompatible", wrong))}
    summary, contrasts = compare_conditions(make_measures(answers))
    row = contrasts.row(0, named=True)
    assert row["method"] == "crossed bootstrap"
    assert row["high"] - row["difference"] == pytest.approx(1.96 * stats.sem(right - wrong), rel=0.06)
    assert summary["seeds"].to_list() == [2, 2]


def test_different_questions_are_compared_unpaired():
    right, wrong = flip_coins(300, 0.6, 1), flip_coins(200, 0.5, 2)
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


def test_no_interval_passes_what_a_difference_can_be():
    # Two seeds that differ by much: Student's t with one degree of freedom.
    shares = {("harmonious", 1): 0.9, ("harmonious", 2): 0.2, ("incompatible", 1): 0.4, ("incompatible", 2): 0.5}
    _, contrasts = compare_conditions(make_measures({key: flip_coins(200, x, i) for i, (key, x) in enumerate(shares.items())}))
    row = contrasts.filter(metric="accuracy").row(0, named=True)
    assert row["method"] == "t over seeds"
    assert (row["low"], row["high"]) == (-1, 1)
    assert -1 < row["low_questions"] < row["difference"] < row["high_questions"] < 1
    assert row["mde"] > 1
    assert tabulate_contrasts(contrasts, "accuracy").rows[0][9] == "none"
    open_question = row | {"p_holm_questions": 0.2}
    assert "No difference that is possible would be found" in describe_contrast(open_question).sentence
    assert describe_contrast(open_question | {"mde": 0.5}).sentence.endswith(
        "in 80% of repetitions, after correction, is 50.0 points."
    )
    assert tabulate_contrasts(contrasts.with_columns(mde=pl.lit(0.5)), "accuracy").rows[0][9] == "0.500"


def test_a_difference_over_questions_is_told_only_after_correction():
    row = {"condition": "self_aligning", "ratio": None, "reference": "incompatible", "split": "homo", "metric": "accuracy"}
    row |= {"difference": 0.05, "low": 0.004, "high": 0.096, "low_questions": 0.006, "high_questions": 0.094, "mde": 0.07}
    row |= {"n": 400, "seeds": 10, "p_holm": 0.4, "p_holm_questions": 0.3, "family": 9, "se_seeds": 0.02}
    assert describe_contrast(row).verdict == "none"
    assert describe_contrast(row | {"p_holm_questions": 0.01}).verdict == "these runs"
    assert describe_contrast(row | {"p_holm": 0.01}).verdict == "clear"


def test_one_seed_is_never_clear():
    right, wrong = flip_coins(400, 0.9, 1), flip_coins(400, 0.3, 2)
    contrasts = compare_conditions(make_measures({("self_aligning", 1): right, ("incompatible", 1): wrong}))[1]
    row = contrasts.filter(metric="accuracy").row(0, named=True)
    assert row["p_holm"] < 1e-9
    finding = describe_contrast(row)
    assert finding.verdict == "these runs"
    assert finding.sentence.endswith("One seed says nothing of others: train with three or more.")
    title, sentence = write_headline(contrasts)
    assert title.endswith("in these runs; 1 seed cannot tell it of training in general")
    assert "were not asked few-shot" in sentence


@pytest.mark.parametrize(
    ("few_shot", "words", "told"),
    [
        (0.3, "; few-shot no difference was found (", "What differs is how they answer in the chat prompt;"),
        (0.9, ", and knowledge moved with it (+", "Both differ"),
        (0.05, ", and few-shot it was the other way (", "Both differ"),
        (None, " points in the chat prompt", "may be format or knowledge"),
    ],
)
def test_the_title_says_what_both_prompts_show(few_shot: float | None, words: str, told: str):
    shares = {"tuned_chat": (0.9, 0.3)} | ({} if few_shot is None else {"tuned_probe": (few_shot, 0.3)})
    measures = []
    for phase, pair in shares.items():
        answers = {
            (condition, seed): flip_coins(400, share, 10 * seed + i)
            for i, (condition, share) in enumerate(zip(("self_aligning", "incompatible"), pair, strict=True))
            for seed in range(1, 6)
        }
        measures.append(make_measures(answers).with_columns(phase=pl.lit(phase)))
    title, sentence = write_headline(compare_conditions(pl.concat(measures))[1])
    assert title.startswith("Repeating the model's own wrong answers beat teaching it the right ones by ")
    assert words in title
    assert told in sentence


def test_no_title_denies_what_was_found_few_shot():
    answers = {
        (c, s): flip_coins(400, 0.5, s + i) for i, c in enumerate(("self_aligning", "incompatible")) for s in range(1, 6)
    }
    row = compare_conditions(make_measures(answers))[1].filter(metric="accuracy").row(0, named=True)
    none, clear = row | {"p_holm": 0.9, "p_holm_questions": 0.9}, row | {"p_holm": 0.01, "p_holm_questions": 0.01}
    given = none | {"p_holm_questions": 0.01}
    condition = CONDITIONS["self_aligning"]
    assert write_title(condition, none, none).endswith("few-shot: no difference found in the chat prompt")
    assert write_title(condition, none, clear).endswith("no difference found in the chat prompt, but one few-shot")
    assert write_title(condition, clear, given).endswith(" points in these runs")
    assert "no difference was found" in write_title(condition, clear, none)


def test_other_questions_are_said_to_be_of_other_difficulty():
    answers = {(c, s): flip_coins(100, 0.5, s + i) for i, c in enumerate(("harmonious", "incompatible")) for s in (1, 2)}
    sentence = write_headline(compare_conditions(make_measures(answers))[1])[1]
    assert "Harmonious and incompatible sets hold different questions, of different difficulty" in sentence


def test_few_seeds_are_told_how_many_would_do():
    shares = {1: (0.9, 0.5), 2: (0.7, 0.6), 3: (0.8, 0.45)}
    answers = {
        (c, s): flip_coins(400, x, 10 * s + i)
        for s, pair in shares.items()
        for i, (c, x) in enumerate(zip(("self_aligning", "incompatible"), pair, strict=True))
    }
    row = compare_conditions(make_measures(answers))[1].row(0, named=True)
    needed = count_seeds(row["difference"], row["se_seeds"] * 3**0.5, 0.05)
    assert needed > 3
    finding = describe_contrast(row | {"p_holm": 0.2})
    assert f"3 seeds are too few to say it of training in general; with their spread about {needed} would" in finding.sentence


def test_what_does_not_vary_is_not_tested():
    measures = make_measures({(c, s): flip_coins(60, 0.5, s) for c in ("harmonious", "incompatible") for s in (1, 2)})
    contrasts = compare_conditions(measures.with_columns(rank_pearson=pl.lit(1.0)))[1]
    row = contrasts.filter(metric="rank_pearson").row(0, named=True)
    assert (row["difference"], row["p"], row["p_holm"], row["p_holm_questions"], row["mde"]) == (0, None, None, None, None)
    assert tabulate_contrasts(contrasts, "rank_pearson").rows[0][6:10] == [DASH] * 4


def test_what_a_mean_hides_stands_beside_it():
    kl = np.random.default_rng(2).lognormal(sigma=2, size=(2, 250))
    kl[0, :3] = np.inf
    measures = make_measures({("harmonious", seed): np.ones(250, int) for seed in (1, 2)})
    summary = compare_conditions(measures.with_columns(kl_nats=pl.Series(kl.ravel())))[0]
    row = summary.filter(metric="kl_nats").row(0, named=True)
    assert (row["median"], row["trimmed"]) == (pytest.approx(np.median(kl)), pytest.approx(stats.trim_mean(kl.ravel(), 0.1)))
    assert (row["infinite"], row["all"], row["n"]) == (3, 500, 247)
    finite = [each[np.isfinite(each)].mean() for each in kl]
    assert (row["least"], row["greatest"]) == (pytest.approx(min(finite)), pytest.approx(max(finite)))
    assert summary.filter(metric="accuracy")["median"].to_list() == [None]
    table = tabulate_metric(summary, "kl_nats", "tuned_chat")
    tail = f"(median {row['median']:.3f}, trimmed {row['trimmed']:.3f}, 0.6% infinite)"
    assert table.rows[0][1].endswith(tail)
    short = tabulate_summary(summary)
    cells = dict(zip(short.header, short.rows[0], strict=True))
    assert cells["by seed"] == "1.000, 1.000"
    assert cells["KL, nats"] == f"{row['value']:.3f} (median {row['median']:.3f}, n = 247)"


def test_the_headline_table_holds_every_comparison_and_says_what_lacks():
    conditions = ("harmonious", "self_aligning", "gold", "incompatible")
    answers = {(c, 1): flip_coins(200, x, i) for i, (c, x) in enumerate(zip(conditions, (0.9, 0.52, 0.6, 0.5), strict=True))}
    measures = pl.concat([make_measures(answers), make_measures(answers, "id")])
    _, contrasts = compare_conditions(measures)
    table = tabulate_headline(contrasts)
    assert [row[:2] for row in table.rows] == [
        [f"{name} − incompatible", split]
        for name in ("self-aligning", "harmonious", "contextualized")
        for split in ("HOMO", "ID", "OOD")
    ]
    assert {len(row) for row in table.rows} == {len(table.header)}
    cells = {tuple(row[:2]): dict(zip(table.header, row, strict=True)) for row in table.rows}
    row = cells["harmonious − incompatible", "HOMO"]
    found = contrasts.filter(condition="harmonious", split="homo").row(0, named=True)
    assert row["difference"] == f"{found['difference']:+.3f}"
    assert (row["p (Holm)"], row["p (BH)"], row["detectable"], row["n"]) == ("<0.001", "<0.001", DASH, "200")
    assert row["Cohen's h"] == f"{found['effect']:+.2f}"
    # No difference found: what could have been.
    assert float(cells["self-aligning − incompatible", "HOMO"]["detectable"]) > 0.05
    assert set(cells["contextualized − incompatible", "HOMO"].values()) == {"contextualized − incompatible", "HOMO", DASH}
    two = tabulate_headline(pl.concat([contrasts, contrasts.with_columns(domain=pl.lit("engines"))]))
    assert len(two.rows) == 18
    assert two.rows[9][:2] == ["base", "engines"]
    assert {len(row) for row in two.rows} == {len(two.header)}


def test_a_condition_of_another_project_is_contrasted_too():
    answers = {
        (c, 1): flip_coins(100, x, i) for i, (c, x) in enumerate([("of_mine", 0.8), ("gold", 0.7), ("incompatible", 0.5)])
    }
    _, contrasts = compare_conditions(make_measures(answers))
    assert contrasts.filter(metric="accuracy")["condition"].to_list() == ["gold", "of_mine"]
    assert tabulate_contrasts(contrasts, "accuracy").rows[1][0] == "of-mine − incompatible"
