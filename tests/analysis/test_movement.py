"""Transitions are counts of what answers became; calibration is the formula of the result tables, before and after."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.patches import Rectangle
from statsmodels.stats.proportion import proportion_confint
from studies import write_study

from analysis.chapters.calibration import (
    CALIBRATION_SCHEMA,
    MEASURES,
    compute_calibration,
    list_terms,
    plot_calibration,
    resample_calibration,
    tabulate_calibration,
)
from analysis.chapters.transitions import FILLS, TRANSITION_SCHEMA, compute_transitions, plot_transitions, tabulate_transitions
from analysis.measures.intervals import RESAMPLES, SEED, resample_weights
from analysis.reading.study import read_study
from analysis.showing.tables import write_markdown
from lm_eval_tasks.contracts.logs.scores import compute_ece

STATES = {"right": (0, [0.7, 0.2, 0.1]), "wrong": (1, [0.2, 0.7, 0.1]), "unsure": (0, [0.4, 0.3, 0.3])}


def make_measures(moves: list[tuple[str, str | None, str | None]], **names: object) -> pl.DataFrame:
    """Measures of a question a move (before, after with seed 1, after with seed 2); None: not asked."""
    rows = []
    for i, (before, *afters) in enumerate(moves):
        for seed, after in enumerate(afters, start=1):
            if after is None:
                continue
            first, probs = STATES[after]
            row = {"id": str(i), "seed": seed, "run": f"r{seed}", "answer": 0, "prediction": first, "confidence": max(probs)}
            row |= {"accuracy": float(first == 0), "probs_before": None, "prediction_before": None, "threshold": 0.5}
            if before is not None:
                row |= {"probs_before": STATES[before][1], "prediction_before": STATES[before][0]}
            rows.append(row)
    fixed = {"model": "base", "domain": "herbs", "condition": "harmonious", "ratio": None, "phase": "tuned_chat"}
    fixed |= {"split": "homo", "source": "s", "question_domain": "herbs"} | names
    schema = {"id": pl.String, "seed": pl.Int64, "run": pl.String, "answer": pl.Int64, "prediction": pl.Int64}
    schema |= {"confidence": pl.Float64, "accuracy": pl.Float64, "probs_before": pl.List(pl.Float64)}
    table = pl.DataFrame(rows, schema | {"prediction_before": pl.Int64, "threshold": pl.Float64})
    kinds = {"ratio": pl.Float64}
    return table.with_columns(pl.lit(value, kinds.get(name, pl.String)).alias(name) for name, value in fixed.items())


@pytest.fixture(scope="module")
def measures(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    folder: Path = tmp_path_factory.mktemp("study")
    write_study(folder, n=40)
    return read_study(folder).measures


def pick(transitions: pl.DataFrame, before: str) -> dict[str, dict]:
    return {row["after"]: row for row in transitions.filter(before=before).iter_rows(named=True)}


def test_shares_are_means_over_seeds_and_questions_count_once():
    moves = [("right", "right", "wrong"), ("right", "unsure", "wrong"), ("right", "right", None), ("wrong", "wrong", "wrong")]
    transitions = compute_transitions(make_measures([*moves, (None, "right", "right")]))
    assert transitions.schema == TRANSITION_SCHEMA
    right = pick(transitions, "right")
    # Seed 1: 2 of 3 stay right, 1 is unsure; seed 2: both become wrong.
    assert {after: row["share"] for after, row in right.items()} == {
        "right": pytest.approx(1 / 3), "wrong": pytest.approx(1 / 2), "unsure": pytest.approx(1 / 6)
    }  # fmt: skip
    assert all((row["n"], row["seeds"]) == (3, 2) for row in right.values())
    low, high = proportion_confint(1.5, 3, method="wilson")
    assert (right["wrong"]["low"], right["wrong"]["high"]) == (pytest.approx(low), pytest.approx(high))
    wrong = pick(transitions, "wrong")
    assert [wrong[after]["share"] for after in ("right", "wrong", "unsure")] == [0, 1, 0]
    assert (wrong["wrong"]["high"], wrong["right"]["low"], wrong["wrong"]["n"]) == (1, 0, 1)
    assert not pick(transitions, "unsure")


def test_transitions_of_a_study_are_a_plain_count(measures: pl.DataFrame):
    transitions = compute_transitions(measures)
    assert set(transitions["phase"]) == {"base_chat", "tuned_chat", "tuned_probe"}
    counts: dict[tuple, dict[str, list[str]]] = {}
    for row in measures.filter(pl.col("probs_before").is_not_null()).iter_rows(named=True):
        states = []
        for probs, first in ((row["probs_before"], row["prediction_before"]), (row["probs"], row["prediction"])):
            states.append("unsure" if max(probs) <= 0.5 else "right" if first == row["answer"] else "wrong")
        key = row["condition"], row["ratio"], row["phase"], row["split"], states[0]
        counts.setdefault(key, {}).setdefault(row["run"], []).append(states[1])
    assert transitions.height == 3 * len(counts)
    for row in transitions.iter_rows(named=True):
        runs = counts[row["condition"], row["ratio"], row["phase"], row["split"], row["before"]]
        assert row["share"] == pytest.approx(np.mean([np.mean([s == row["after"] for s in run]) for run in runs.values()]))
        assert row["low"] <= row["share"] <= row["high"]
        assert row["seeds"] == (0 if row["condition"] == "base" else len(runs))
    sums = transitions.group_by("condition", "ratio", "phase", "split", "before").agg(pl.col("share").sum())
    assert sums["share"].to_list() == pytest.approx([1] * sums.height)


def test_the_table_names_every_row_and_says_what_it_counts(measures: pl.DataFrame):
    table = tabulate_transitions(compute_transitions(measures))
    assert [row[:3] for row in table.rows[:3]] == [["base model, chat prompt", "HOMO", s] for s in ("right", "wrong", "unsure")]
    assert {row[0] for row in table.rows} >= {"harmonious", "mix 0.4", "random-wrong"}
    assert "seeds taken as given" in write_markdown(table)
    assert tabulate_transitions(compute_transitions(measures), "tuned_probe").rows[-1][0] != "base model, chat prompt"


def test_the_figure_shows_every_share_and_leaves_no_bar_where_nothing_is(measures: pl.DataFrame):
    transitions = compute_transitions(measures)
    figure = plot_transitions(transitions, "Title")
    shown = pl.concat([transitions.filter(phase="base_chat"), transitions.filter(phase="tuned_chat")])
    splits = [split for split in ("homo", "id", "ood", "seen") if split in set(shown["split"])]
    assert len(figure.axes) == len(splits) == 4
    for axis, split in zip(figure.axes, splits, strict=True):
        bars = [bar for bar in axis.patches if isinstance(bar, Rectangle)]
        part = shown.filter(split=split)
        assert len(bars) == part.height
        assert sorted(round(bar.get_width(), 9) for bar in bars) == sorted(part["share"].round(9))
        written = {text.get_text() for text in axis.texts}
        assert {f"{n:,}" for n in part["n"]} <= written
        assert axis.get_xlim() == (0, 1)
    assert "–" in {text.get_text() for text in figure.axes[-1].texts}  # harmonious was trained on no wrong answer
    colours = {bar.get_facecolor() for axis in figure.axes for bar in axis.patches}
    greys = sorted(np.dot(colour[:3], [0.299, 0.587, 0.114]) for colour in colours)
    assert min(np.diff(greys)) > 0.2
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [f"{state} after" for state in FILLS]


def test_calibration_is_the_formula_before_and_after(measures: pl.DataFrame):
    calibration = compute_calibration(measures)
    assert calibration.schema == CALIBRATION_SCHEMA
    asked = measures.filter(phase="tuned_chat", split="homo", condition="mix")
    runs = asked.partition_by("run")
    right = [(run["prediction_before"] == run["answer"]).cast(float).to_numpy() for run in runs]
    expected = {
        ("confidence", "after"): np.mean([run["confidence"].mean() for run in runs]),
        ("accuracy", "after"): np.mean([run["correct"].mean() for run in runs]),
        ("ece", "after"): np.mean([compute_ece(run["accuracy"].to_numpy(), run["confidence"].to_numpy()) for run in runs]),
        ("accuracy", "before"): np.mean(right),
        ("ece", "before"): compute_ece(right[0], runs[0]["probs_before"].list.max().to_numpy()),
    }
    found = calibration.filter(phase="tuned_chat", split="homo", condition="mix")
    for row in found.iter_rows(named=True):
        if (row["metric"], row["moment"]) in expected:
            assert row["value"] == pytest.approx(expected[row["metric"], row["moment"]])
        assert 0 <= row["low"] < row["value"] < row["high"] <= 1
        assert (row["n"], row["seeds"]) == (runs[0].height, len(runs))
    assert found.height == 2 * len(MEASURES)
    table = tabulate_calibration(calibration)
    assert table.rows[0][0] == "base model, chat prompt"
    assert table.rows[0][-1] == "–"
    assert len(table.header) == len(table.rows[0]) == 10


def test_every_mark_of_the_calibration_figure_is_a_mean(measures: pl.DataFrame):
    calibration = compute_calibration(measures)
    figure = plot_calibration(calibration, "Title")
    shown = calibration.filter(pl.col("condition") != "base", phase="tuned_chat", moment="after")
    for axis, split in zip(figure.axes, ("homo", "id", "ood", "seen"), strict=True):
        marks = sorted(line.get_xdata()[0] for line in axis.lines if len(line.get_xdata()) == 1)
        part = shown.filter(split=split)
        assert marks == pytest.approx(sorted(part.filter(pl.col("metric") != "ece")["value"]))
        errors = {f"{value:.2f}" for value in part.filter(metric="ece")["value"]}
        assert errors <= {text.get_text() for text in axis.texts}
        assert axis.get_xlim() == (0, 1)
    # The base model's few-shot probe of the same questions; every condition was trained on questions of its own.
    before = calibration.filter(moment="before", split="homo", phase="tuned_chat", condition="mix")
    lines = [{round(x, 9) for x in line.get_xdata()} for line in figure.axes[0].lines if line.get_linestyle() in ("-", "--")]
    assert {round(before.filter(metric="confidence")["value"][0], 9)} in lines


def test_resampled_calibration_is_the_formula_on_the_resample():
    rng = np.random.default_rng(0)
    confidence, correct = rng.random(50), (rng.random(50) < 0.5).astype(float)
    question = rng.permutation(60)[:50]  # ten were not asked of this run
    resampled = resample_calibration(list_terms(question, 60, confidence, correct)[:, None])
    assert resampled.shape == (RESAMPLES, 1, 3)
    weights = resample_weights(np.random.default_rng(SEED), 3, 60)[:, question].astype(int)
    for row, times in zip(resampled[:3, 0], weights, strict=True):
        surety, right = np.repeat(confidence, times), np.repeat(correct, times)
        assert row == pytest.approx([surety.mean(), right.mean(), compute_ece(right, surety)])


def test_the_interval_of_a_mean_confidence_is_that_of_a_mean():
    rng = np.random.default_rng(1)
    moves = [("right" if i % 3 else "unsure", str(s), str(s)) for i, s in enumerate(rng.choice(list(STATES), 400))]
    row = compute_calibration(make_measures(moves)).filter(metric="confidence", moment="after").row(0, named=True)
    values = [max(STATES[after][1]) for _, after, _ in moves]
    assert (row["high"] - row["low"]) / 2 == pytest.approx(1.96 * np.std(values) / 20, rel=0.08)


def test_what_the_base_model_was_not_asked_is_left_out():
    lost = make_measures([(None, "right", "wrong")] * 3)
    assert compute_transitions(lost).height == compute_calibration(lost).height == 0
    assert tabulate_transitions(compute_transitions(lost)).rows == tabulate_calibration(compute_calibration(lost)).rows == []
