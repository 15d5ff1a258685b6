"""Partial correlations equal other libraries' and values by hand; their p-values hold where nothing is there."""

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from scipy import stats
from typesetting import check_latex

from analysis.chapters.partial import (
    POOLED,
    SCHEMA,
    Sample,
    Undefined,
    compute_partial,
    correlate_as_paper,
    correlate_partially,
    resample_clusters,
    tabulate_partial,
)
from analysis.showing.latex import write_latex
from analysis.showing.tables import write_markdown


def make_sample(after: list, consistency: list, before: list | None, cluster: list | None = None) -> Sample:
    controls = np.empty((len(after), 0)) if before is None else np.array(before, float)[:, None]
    cluster = list(range(len(after))) if cluster is None else cluster
    return Sample(np.array(after, float), np.array(consistency, float), controls, np.array(cluster))


def make_samples(times: int, n: int, seed: int, strength: float = 0.5, digits: int = 9) -> list[Sample]:
    """Accuracy after and consistency that have nothing in common but the control."""
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(times):
        before = rng.normal(size=n).round(digits)
        after, consistency = (strength * before + rng.normal(size=(2, n))).round(digits)
        samples.append(make_sample(after, consistency, before))
    return samples


def make_results(
    runs: list[tuple[str, str, str, int, float, float | None]], before: dict[tuple[str, str], float]
) -> pl.DataFrame:
    """The long result table on HOMO: runs are (model, domain, condition, seed, accuracy, rank correlation)."""
    rows = [(m, d, "base", None, "", "base_probe", "accuracy", value) for (m, d), value in before.items()]
    for model, domain, condition, seed, accuracy, rank in runs:
        names = (model, domain, condition, seed, f"{model}-{domain}-{condition}-{seed}", "tuned_chat")
        rows += [(*names, "accuracy", accuracy), *([(*names, "rank_pearson", rank)] if rank is not None else [])]
        # Neither the other phase nor the other splits must get in.
        rows += [(*names[:5], "tuned_probe", metric, 0.123) for metric in ("accuracy", "rank_pearson")]
    columns = ("model", "domain", "condition", "seed", "run", "phase", "metric", "value")
    table = pl.DataFrame(rows, schema=columns, orient="row").with_columns(split=pl.lit("homo"), ratio=pl.lit(None, pl.Float64))
    seen = table.filter(pl.col("phase") != "base_probe").with_columns(split=pl.lit("seen"), value=pl.lit(0.5))
    return pl.concat([table, seen])


def make_random_results(models: int, domains: int, seeds: int = 2, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    runs, before = [], {}
    for m in range(models):
        for d in range(domains):
            before[f"m{m}", f"d{d}"] = level = rng.random()
            for condition in ("incompatible", "self_aligning", "harmonious"):
                names = [(f"m{m}", f"d{d}", condition, s) for s in range(seeds)]
                runs += [(*name, level + rng.random(), rng.random()) for name in names]
    return make_results(runs, before)


def get(partial: pl.DataFrame, method: str, split: str = "homo", model: str = "m0") -> dict:
    return partial.filter(method=method, split=split, model=model).row(0, named=True)


@pytest.mark.parametrize(("n", "digits"), [(7, 9), (9, 9), (40, 9), (40, 0), (200, 1)])
def test_textbook_equals_the_inverse_correlation_matrix_and_the_t_test_of_a_regression(n: int, digits: int):
    for sample in make_samples(5, n, n, digits=digits):
        found = correlate_partially(sample)
        ranks = pl.DataFrame({"y": sample.after, "x": sample.consistency, "z": sample.controls[:, 0]})
        ranks = ranks.select(pl.all().rank("average")).to_numpy()
        inverse = np.linalg.inv(np.corrcoef(ranks.T))
        r = -inverse[0, 1] / np.sqrt(inverse[0, 0] * inverse[1, 1])
        assert found.statistic == pytest.approx(r, abs=1e-8)
        fit = sm.OLS(ranks[:, 0], sm.add_constant(ranks[:, 1:])).fit()
        assert fit.df_resid == n - 2 - 1
        assert found.p == pytest.approx(fit.pvalues[1], abs=1e-8)
        z = 0.5 * np.log((1 + r) / (1 - r)) + np.array([-1, 1]) * 1.959964 / np.sqrt(n - 3 - 1)
        np.testing.assert_allclose([found.low, found.high], (np.exp(2 * z) - 1) / (np.exp(2 * z) + 1), atol=1e-6)


@pytest.mark.parametrize(("n", "digits"), [(9, 9), (40, 0)])
def test_the_papers_way_equals_statsmodels_residuals_and_scipys_spearman(n: int, digits: int):
    for sample in make_samples(5, n, n, digits=digits):
        x = sm.add_constant(stats.rankdata(sample.controls[:, 0]))
        residuals = [sm.OLS(stats.rankdata(y), x).fit().resid.round(8) for y in (sample.after, sample.consistency)]
        test = stats.spearmanr(*residuals)
        found = correlate_as_paper(sample)
        assert found[:4] == (pytest.approx(test.statistic), None, None, pytest.approx(test.pvalue))


def test_a_value_by_hand():
    # Spearman's by 1 - 6 sum(d^2) / (n^3 - n): 0.8, 0.8 and 0.3; so (0.8 - 0.8 * 0.3) / sqrt((1 - 0.64) (1 - 0.09)).
    sample = make_sample([0.2, 0.1, 0.4, 0.3, 0.5], [1, 2, 3, 4, 5], [10, 30, 20, 50, 40])
    assert correlate_partially(sample).statistic == pytest.approx(0.56 / np.sqrt(0.36 * 0.91))
    plain = correlate_partially(sample._replace(controls=np.empty((5, 0))))
    assert (plain.statistic, plain.p) == (
        pytest.approx(0.8),
        pytest.approx(stats.spearmanr(sample.after, sample.consistency)[1]),
    )


def test_rounding_makes_no_ranks():
    noise = 1e-13 * np.arange(6)
    after, consistency, before = np.array([[1, 1, 2, 2, 3, 3], [2, 1, 1, 3, 3, 2], [1, 2, 1, 2, 1, 2]]) / 10
    clean = make_sample(after, consistency, before)
    for way in (correlate_partially, correlate_as_paper):
        assert way(make_sample(after + noise, consistency - noise, before + noise)) == way(clean)


def test_where_nothing_is_there_the_textbooks_p_is_uniform_and_the_papers_too_small():
    p = np.array(
        [(correlate_partially(sample).p, correlate_as_paper(sample).p) for sample in make_samples(1500, 8, 0)],
        dtype=float,
    )
    p = p[np.isfinite(p).all(axis=1)]
    found = (p < 0.05).mean(axis=0)
    assert found[0] == pytest.approx(0.05, abs=0.015)
    assert found[1] > found[0] + 0.015
    np.testing.assert_allclose(np.quantile(p[:, 0], [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.05)


@pytest.mark.parametrize(
    ("sample", "why"),
    [
        (make_sample([1, 2, 3, 4], [1, 3, 2, 4], [2, 1, 2, 1]), "4 runs, fewer than 5"),
        (make_sample([1, 2, 3], [1, 3, 2], None), "3 runs, fewer than 4"),
        (make_sample([], [], []), "0 runs, fewer than 5"),
        (make_sample([1] * 6, range(6), [1, 2, 1, 3, 2, 1]), "accuracy after does not vary"),
        (make_sample(range(6), [1] * 6, [1, 2, 1, 3, 2, 1]), "consistency does not vary"),
        (make_sample(range(6), [1, 2, 1, 3, 2, 1], [1] * 6), "accuracy before does not vary, so there is nothing"),
        (make_sample(range(6), [1, 2, 1, 3, 2, 1], [1] * 6, [0] * 6), r"does not vary \(one domain\), so there"),
        (make_sample([2, 4, 2, 6, 4, 2], range(6), [1, 2, 1, 3, 2, 1]), "accuracy before determines accuracy after"),
    ],
)
def test_what_cannot_be_computed_is_not(sample: Sample, why: str):
    for way in (correlate_partially, correlate_as_paper):
        with pytest.raises(Undefined, match=why):
            way(sample)


def test_ranks_that_agree_without_exception_have_no_interval_and_no_p():
    found = correlate_partially(make_sample(range(6), range(6), None))
    assert (found.statistic, found.low, found.p) == (1, None, None)
    assert "without exception" in found.note


def test_one_domain_has_nothing_to_control_and_gets_the_plain_correlation_by_its_name():
    results = make_random_results(1, 1, seeds=4)
    partial = compute_partial(results)
    for method in ("paper", "textbook"):
        row = get(partial, method)
        assert (row["statistic"], row["low"], row["p"], row["p_holm"]) == (None,) * 4
        assert row["note"] == "not computed: accuracy before does not vary (one domain), so there is nothing to control"
    runs = results.filter(pl.col("condition").is_in(["incompatible", "self_aligning"]), phase="tuned_chat", split="homo")
    pairs = runs.pivot("metric", index="run", values="value")
    test = stats.spearmanr(pairs["accuracy"], pairs["rank_pearson"])
    row = get(partial, "uncontrolled")
    assert (row["statistic"], row["n"]) == (pytest.approx(test.statistic), 8)
    assert (row["low"], row["p"], row["p_holm"]) == (None,) * 3  # eight runs of one cluster are no eight independent ones
    assert row["note"] == "1 cluster of runs, fewer than 10: no interval and no p"


def test_several_domains_are_pooled_and_several_base_models_corrected_together():
    results = make_random_results(2, 3)
    partial = compute_partial(results)
    assert partial.schema == SCHEMA
    assert set(partial["split"]) == {"homo", "id", "ood"}
    assert not partial.filter(method="uncontrolled").height
    made = partial.filter(method="textbook", split="homo")
    assert made["model"].to_list() == ["m0", "m1", POOLED]
    assert made["n"].to_list() == [12, 12, 24]
    assert made["clusters"].to_list() == [3, 3, 6]
    assert made["statistic"].null_count() == 0
    assert made["p"].null_count() == 3
    paper = partial.filter(method="paper", split="homo")
    assert paper["model"].to_list() == ["m0", "m1"]
    assert paper["statistic"].null_count() == 0
    assert paper["p"].null_count() == 2
    assert set(partial.filter(split="id")["note"]) >= {"not computed: 0 runs, fewer than 5"}
    assert get(partial, "clusters")["note"] == "not computed: 3 clusters of runs, fewer than 10"


def test_runs_that_lack_a_number_are_counted():
    results = make_random_results(1, 3)
    spoilt = results.with_columns(
        value=pl.when(pl.col("run") == "m0-d1-incompatible-0").then(float("nan")).otherwise("value")
    ).filter(
        ~((pl.col("run") == "m0-d2-incompatible-1") & (pl.col("phase") == "tuned_chat") & (pl.col("metric") == "rank_pearson"))
    )
    row = get(compute_partial(spoilt), "textbook")
    assert row["n"] == 10
    assert row["note"].startswith("2 of 12 runs lack accuracy before or consistency: left out; 3 clusters of runs, fewer")
    row = get(compute_partial(results.filter(pl.col("phase") != "base_probe")), "textbook")
    assert (row["n"], row["p"]) == (0, None)
    assert row["note"].startswith("12 of 12 runs lack")


def test_clusters_are_resampled_from_ten_on():
    with pytest.raises(Undefined, match="9 clusters of runs, fewer than 10"):
        resample_clusters(make_samples(1, 9, 0)[0])
    partial = compute_partial(make_random_results(5, 2))
    row = get(partial, "clusters", model=POOLED)
    assert row["low"] < row["statistic"] < row["high"]
    assert 0 < row["p"] < 1
    assert (row["clusters"], row["n"], row["note"]) == (10, 40, "")
    np.testing.assert_allclose(row["p_holm"], row["p"])
    textbook = get(partial, "textbook", model=POOLED)
    assert (textbook["p"], textbook["statistic"]) == (None, pytest.approx(row["statistic"]))
    assert textbook["note"] == "several runs of one cluster: no interval and no p, which the resampled clusters give"


def test_the_p_value_of_clusters_is_where_their_interval_ends():
    for strength, apart in ((3.0, True), (0.0, False)):
        rng = np.random.default_rng(4)
        consistency = np.repeat(rng.normal(size=20), 3)
        after = strength * consistency + np.repeat(rng.normal(size=20), 3)
        found = resample_clusters(make_sample(after, consistency, None, list(np.repeat(range(20), 3))))
        assert (found.p < 0.05) == apart == (found.low > 0 or found.high < 0)


def test_runs_that_are_one_to_a_cluster_keep_the_textbooks_p_value_and_are_corrected_over_splits():
    results = pl.concat(
        [make_random_results(12, 1, seeds=1), make_random_results(12, 1, seeds=1).with_columns(split=pl.lit("id"))]
    )
    partial = compute_partial(results.filter(pl.col("condition").is_in(["base", "incompatible"])))
    made = partial.filter(pl.col("p").is_not_null(), method="textbook", model=POOLED)
    assert made["split"].to_list() == ["homo", "id"]
    assert made["n"].to_list() == made["clusters"].to_list() == [12, 12]
    np.testing.assert_allclose(made["p_holm"], sm.stats.multipletests(made["p"], method="holm")[1])
    np.testing.assert_allclose(made["p_bh"], sm.stats.multipletests(made["p"], method="fdr_bh")[1])


def test_copies_of_runs_narrow_the_textbooks_interval_but_not_that_of_clusters():
    single = make_samples(1, 20, 3)[0]
    copied = Sample(*(np.repeat(column, 6, axis=0) for column in single))
    widths = [[way(s).high - way(s).low for s in (single, copied)] for way in (correlate_partially, resample_clusters)]
    assert widths[0][1] < 0.5 * widths[0][0]
    assert widths[1][1] == pytest.approx(widths[1][0], abs=0.02)


def test_runs_of_one_cluster_that_are_alike_make_both_p_values_too_small():
    rng, found = np.random.default_rng(0), []
    for _ in range(300):
        # Four domains, each with an accuracy, a consistency and a control of its own; seven runs in each.
        after, consistency, before = (np.repeat(rng.normal(size=4), 7) for _ in range(3))
        sample = make_sample(after + rng.normal(size=28), consistency + rng.normal(size=28), before)
        found.append((correlate_partially(sample).p < 0.05, correlate_as_paper(sample).p < 0.05))
    assert (np.mean(found, axis=0) > 0.15).all()


def test_no_run_at_all_is_an_empty_table():
    partial = compute_partial(make_random_results(1, 2).filter(condition="harmonious"))
    assert (partial.height, partial.schema) == (0, SCHEMA)


def test_the_table_says_what_it_does_not_show():
    partial = compute_partial(make_random_results(1, 1, seeds=1))
    table = tabulate_partial(partial)
    assert "(1) Not computed: 2 runs, fewer than 5." in table.note
    assert {len(row) for row in table.rows} == {len(table.header)}
    assert "nan" not in write_markdown(table).lower().replace("without", "")
    check_latex(write_latex(table))
