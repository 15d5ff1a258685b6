"""Curves over the consistency ratio hold what the summary says; a peak is found where there is one, and only there."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from analysis.chapters.contrasts import compare_conditions
from analysis.chapters.curves import ASIDE, choose_limits, compute_curves, plot_curves, tabulate_curves
from analysis.chapters.optimum import (
    OPTIMUM_SCHEMA,
    count_best,
    estimate_gain,
    examine_block,
    find_optima,
    halve_means,
    tabulate_optima,
)
from analysis.measures.blocks import Block
from analysis.measures.intervals import summarise_means
from analysis.measures.keys import BLOCK, CONDITION
from analysis.measures.metrics import METRICS
from analysis.showing.tables import write_markdown

RATIOS = (0.0, 0.2, 0.4, 0.8, 1.0)
CONDITIONS = {0.0: "incompatible", 1.0: "self_aligning"}


def make_measures(values: np.ndarray, ratios: tuple[float, ...] = RATIOS, split: str = "homo") -> pl.DataFrame:
    """Measures of answers (Q, K, S) in the chat prompt; NaN where a run was not asked."""
    parts = []
    for k, ratio in enumerate(ratios):
        for s in range(values.shape[2]):
            right = values[:, k, s]
            part = pl.DataFrame({"id": [str(i) for i in range(len(right))], "accuracy": right}).filter(
                pl.col("accuracy").is_finite()
            )
            condition = CONDITIONS.get(ratio, "mix")
            names = {"condition": condition, "run": f"{ratio}-{s}", "model": "base", "domain": "herbs", "phase": "tuned_chat"}
            names |= {"split": split, "source": "s", "question_domain": "herbs"}
            part = part.with_columns(**{name: pl.lit(value) for name, value in names.items()}, seed=pl.lit(s, pl.Int64))
            parts.append(part.with_columns(ratio=pl.lit(ratio if condition == "mix" else None, pl.Float64)))
    return pl.concat(parts).with_columns(**{m: pl.lit(None, pl.Float64) for m in METRICS if m != "accuracy"})


def make_answers(shares: list[float], n: int, seeds: int, seed: int, own: float = 0.0) -> np.ndarray:
    """Right answers (Q, K, S): questions differ in difficulty, runs of all ratios alike; seeds move every run by `own`."""
    rng = np.random.default_rng(seed)
    hardness = rng.normal(0, 0.15, (n, 1, 1))
    chance = np.array(shares)[None, :, None] + hardness + own * rng.normal(size=(1, len(shares), seeds))
    return (rng.random((n, len(shares), seeds)) < chance).astype(float)


def find(values: np.ndarray, ratios: tuple[float, ...] = RATIOS) -> dict:
    optima = find_optima(make_measures(values, ratios))
    assert optima.schema == OPTIMUM_SCHEMA
    return optima.row(0, named=True)


def test_curves_are_the_summary_at_its_ratio():
    values = make_answers([0.3, 0.4, 0.5, 0.5, 0.6], 80, 2, 0)
    measures = make_measures(values)
    measures = pl.concat([measures, make_measures(values, split="ood")])
    other = measures.filter(run="0.2-0", split="homo").with_columns(
        condition=pl.lit("harmonious"), ratio=pl.lit(None, pl.Float64), run=pl.lit("other")
    )
    probe = measures.with_columns(phase=pl.lit("tuned_probe"))
    summary, _ = compare_conditions(pl.concat([measures.reverse(), other, probe]))
    curves = compute_curves(summary)
    assert curves["split"].to_list() == ["homo"] * 5 + ["ood"] * 5
    assert curves["ratio"].to_list() == [*RATIOS] * 2
    assert curves["condition"].to_list() == ["incompatible", "mix", "mix", "mix", "self_aligning"] * 2
    np.testing.assert_allclose(curves["value"][:5], values.mean(axis=(0, 2)))
    assert set(curves["phase"]) == {"tuned_chat"}
    table = tabulate_curves(curves)
    assert [row[1] for row in table.rows] == ["0", "0.2", "0.4", "0.8", "1"] * 2
    assert table.rows[1][3].startswith(f"{values[:, 1].mean():.3f} [")
    assert table.rows[1][-2:] == ["80", "2"]


@pytest.fixture(scope="module")
def study() -> tuple[pl.DataFrame, pl.DataFrame]:
    """The curves of two splits, of which one lacks self-aligning, and the results of single runs."""
    whole = make_measures(make_answers([0.3, 0.5, 0.5, 0.55, 0.5], 900, 3, 0))
    part = make_measures(make_answers([0.3, 0.5, 0.5, 0.55], 700, 3, 0), RATIOS[:-1], "ood")
    measures = pl.concat([whole, part])
    results = summarise_means(measures, (*BLOCK, *CONDITION, "seed"), ("accuracy",))
    return compute_curves(compare_conditions(measures)[0]), results


def test_the_figure_holds_seeds_and_intervals_over_questions_at_their_true_ratio(study: tuple[pl.DataFrame, pl.DataFrame]):
    curves, results = study
    figure = plot_curves(curves, results, "Over the ratio")
    axes = figure.axes
    assert [axis.get_title(loc="left") for axis in axes] == ["HOMO", "OOD"]
    for axis, split, n in zip(axes, ("homo", "ood"), ("n = 900, 3 seeds", "n = 700, 3 seeds"), strict=True):
        points = curves.filter(split=split)
        line = next(line for line in axis.get_lines() if line.get_linewidth() == 1.2)
        np.testing.assert_allclose(line.get_xdata(), points["ratio"])
        np.testing.assert_allclose(line.get_ydata(), points["value"])
        assert axis.get_xlim() == (-0.04, 1.1)
        bottom, top = axis.get_ylim()
        assert bottom <= points["low_questions"].min() < points["high_questions"].max() <= top
        marks = [line for line in axis.get_lines() if line.get_markerfacecolor() == "white"]
        assert [len(line.get_ydata()) for line in marks] == [3] * points.height
        np.testing.assert_allclose([line.get_xdata()[0] for line in marks], points["ratio"] + ASIDE)
        np.testing.assert_allclose([np.mean(line.get_ydata()) for line in marks], points["value"])
        found = np.concatenate([line.get_ydata() for line in marks])
        np.testing.assert_allclose(np.sort(found), results.filter(split=split)["value"].sort())
        assert bottom <= found.min() < found.max() <= top
        assert not any(line.get_clip_on() for line in marks)
        words = " ".join(text.get_text() for text in axis.texts)
        assert n in words
        assert f"axis from {bottom:.2f} to {top:.2f}" in words
    assert axes[0].get_ylim() == axes[1].get_ylim()


def test_an_axis_is_cut_only_where_most_of_it_would_be_empty(study: tuple[pl.DataFrame, pl.DataFrame]):
    wide = study[0].with_columns(low_questions=pl.lit(0.1), high_questions=pl.lit(0.7))
    figure = plot_curves(wide, study[1], "")
    assert figure.axes[0].get_ylim() == (0, 1)
    assert "axis" not in " ".join(t.get_text() for axis in figure.axes for t in axis.texts)
    assert choose_limits(pl.Series([0.1, 0.7]), "accuracy") == (0, 1)
    assert choose_limits(pl.Series([0.0, 0.1]), "accuracy")[0] == 0
    assert choose_limits(pl.Series([0.5, 0.6]), "kl_nats")[0] == 0


def test_an_interval_over_seeds_does_not_set_the_axis_and_seeds_do(study: tuple[pl.DataFrame, pl.DataFrame]):
    curves, results = study
    limits = plot_curves(curves, results, "").axes[0].get_ylim()
    figure = plot_curves(curves.with_columns(low=pl.lit(0.0), high=pl.lit(1.0)), results, "")
    assert figure.axes[0].get_ylim() == limits
    arrows = [line for line in figure.axes[0].lines if line.get_marker() in ("v", "^")]
    ends = {(line.get_marker(), y) for line in arrows for y in line.get_ydata()}
    assert {("v", limits[0]), ("^", limits[1])} <= ends
    far = results.with_columns(value=pl.when(seed=1).then(0.99).otherwise("value"))
    assert plot_curves(curves, far, "").axes[0].get_ylim()[1] == 1


def test_a_peak_at_a_mix_is_found():
    row = find(make_answers([0.5, 0.55, 0.7, 0.55, 0.5], 800, 5, 0))
    assert (row["best"], row["best_mix"], row["likeliest"], row["best_set"]) == (0.4, 0.4, 0.4, "0.4")
    assert row["p_inner"] == pytest.approx(1)
    assert row["p_inner_flat"] == 0.6
    assert row["low"] < 0.2 < row["high"]
    assert row["low"] > 0.1
    assert row["p"] == row["p_holm"] == row["p_bh"] < 0.001
    assert (row["n"], row["seeds"], row["ratios"], row["note"]) == (800, 5, 5, "")


def test_a_peak_at_an_end_is_none():
    row = find(make_answers([0.4, 0.45, 0.5, 0.6, 0.7], 800, 5, 0))
    assert (row["best"], row["best_mix"], row["likeliest"], row["best_set"]) == (1, 0.8, 1, "1")
    assert row["p_inner"] < 0.01
    assert row["high"] < 0


def test_a_flat_curve_has_no_gain_though_its_best_mix_looks_better():
    ratios = (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
    runs = make_measures(np.ones((1, 8, 3)), ratios).select("condition", "ratio", "seed").with_row_index("_run")
    curves = (make_answers([0.5] * 8, 60, 3, seed, own=0.05).reshape(60, -1, 1) for seed in range(50))
    rows = [examine_block(Block({}, runs, values)) for values in curves]
    gain, same = (np.array([row[name] for row in rows]) for name in ("gain", "gain_same"))
    # Where choice and estimate share their data, there seems to be a gain; apart, there is none.
    assert stats.ttest_1samp(same, 0, alternative="greater").pvalue < 0.001
    assert stats.ttest_1samp(gain, 0, alternative="greater").pvalue > 0.05
    assert same.mean() > gain.mean() + 0.03
    assert np.mean([row["low"] > 0 for row in rows]) <= 0.05
    assert np.mean([row["p_inner"] for row in rows]) == pytest.approx(0.75, abs=0.12)


def test_the_gain_is_that_of_a_plain_loop():
    halves = np.random.default_rng(0).random((7, 2, 5, 3))
    found = estimate_gain(halves)
    for t, s in np.ndindex(7, 3):
        mix = 0
        for half in (0, 1):
            means = [np.mean([halves[t, half, k, other] for other in range(3) if other != s]) for k in (1, 2, 3)]
            mix += halves[t, 1 - half, 1 + int(np.argmax(means)), s] / 2
        ends = [halves[t, :, k].mean() for k in (0, 4)]
        end = 0 if ends[0] >= ends[1] else 4
        assert found[t, s] == pytest.approx(mix - halves[t, :, end, s].mean())


def test_one_seed_chooses_and_estimates_on_different_questions():
    halves = np.zeros((1, 2, 4, 1))
    halves[0, 0, 1], halves[0, 1, 2] = 1, 1
    assert estimate_gain(halves) == 0
    assert find(make_answers([0.5] * 5, 60, 1, 0))["note"] == "one seed: nothing is said of other seeds"


def test_halves_share_no_question_and_a_resample_is_the_same_for_all_ratios():
    values = np.repeat(np.eye(30)[:, :, None], 1, axis=2)  # the mean of ratio k is the weight of question k
    for resample in (False, True):
        halves = halve_means(values, 50, resample)
        assert not ((halves[:, 0] > 0) & (halves[:, 1] > 0)).any()
        np.testing.assert_allclose(halves.sum(axis=2), 1)
    same = halve_means(np.repeat(values[:, :1], 4, axis=1), 20, True)
    assert (same == same[:, :, :1]).all()


def test_ties_are_shared_out():
    np.testing.assert_allclose(count_best(np.ones((10, 2, 4, 2))), 0.25)
    means = np.zeros((10, 2, 4, 2))
    means[:, :, 1:3] = 0.3
    np.testing.assert_allclose(count_best(means), [0, 0.5, 0.5, 0])


def test_pairing_by_question_narrows_the_interval():
    rng = np.random.default_rng(0)
    easy = (rng.random((300, 1, 1)) < 0.5) * np.ones((1, 5, 3))
    flip = rng.random((300, 5, 3)) < 0.02
    row = find(np.where(flip, 1 - easy, easy))
    assert row["high_questions"] - row["low_questions"] < 0.05
    shuffled = rng.permuted(np.where(flip, 1 - easy, easy), axis=0)
    row = find(shuffled)
    assert row["high_questions"] - row["low_questions"] > 0.08


@pytest.mark.parametrize(
    ("ratios", "note"),
    [
        ((0.0, 1.0), "not computed: it takes incompatible, self-aligning and a mix, and there is no mix"),
        ((0.0, 0.2, 0.4), "not computed: it takes incompatible, self-aligning and a mix, and there is no self-aligning"),
        (
            (0.4,),
            "not computed: it takes incompatible, self-aligning and a mix, and there is no incompatible and no self-aligning",
        ),
    ],
)
def test_too_few_ratios_are_not_tested(ratios: tuple[float, ...], note: str):
    row = find(make_answers([0.5] * len(ratios), 60, 2, 0), ratios)
    assert (row["note"], row["ratios"], row["gain"], row["p_inner"], row["p"]) == (note, len(ratios), None, None, None)
    table = tabulate_optima(find_optima(make_measures(make_answers([0.5] * len(ratios), 60, 2, 0), ratios)))
    assert {len(row) for row in table.rows} == {len(table.header)}
    assert "(1) Not computed: it takes" in table.note


def test_what_ratios_do_not_share_is_left_out_and_counted():
    values = make_answers([0.5] * 5, 60, 3, 0)
    values[:10, 2] = np.nan
    values[:, 1, 2] = np.nan
    row = find(values)
    assert (row["n"], row["seeds"]) == (50, 2)
    assert "1 of 3 seeds left out, which some ratios lack; 10 of 60 questions left out" in row["note"]
    assert "2 seeds, too few to resample" in row["note"]
    values[:, 1, :2] = np.nan
    values[:, 1, 2], values[:, 2, 2] = 1, np.nan
    assert find(values)["note"] == "not computed: the ratios have no seed in common"
    assert "19 questions common to all ratios, fewer than 20" in find(make_answers([0.5] * 5, 19, 2, 0))["note"]


def test_a_mix_of_ratio_0_or_1_is_an_end_and_no_mix():
    measures = make_measures(make_answers([0.5] * 5, 60, 5, 0))
    twin = measures.filter(condition="self_aligning").with_columns(
        condition=pl.lit("mix"), ratio=pl.lit(1.0), run=pl.col("run") + "-twin"
    )
    row = find_optima(pl.concat([measures, twin])).row(0, named=True)
    assert (row["ratios"], row["note"]) == (5, "1 mixes of ratio 0 or 1 left out")


def test_trained_questions_are_not_tested_and_the_table_has_all_numbers():
    values = make_answers([0.5, 0.55, 0.7, 0.55, 0.5], 200, 3, 0)
    optima = find_optima(pl.concat([make_measures(values), make_measures(values, split="seen")]))
    assert optima["split"].to_list() == ["homo"]
    table = tabulate_optima(optima)
    assert {len(row) for row in table.rows} == {len(table.header)}
    assert table.rows[0][:3] == ["HOMO", "0.4", "0.4 (100%)"]
    assert "(60%)" in table.rows[0][4]
    assert "nan" not in write_markdown(table)
