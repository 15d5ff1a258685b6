"""What each setting changes, against the main way of training."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from scipy import stats

from analysis.chapters.chapter import Whole
from analysis.chapters.settings import SETTING_SCHEMA, compare_settings, tabulate_settings

ARMS = ("256 questions, 2 epochs", "64 questions, 2 epochs", "256 questions, 15 epochs")


def make_whole(values: dict[tuple[str, str, str], float]) -> Whole:
    """A study with the accuracy of each base model, arm and condition."""
    runs = [{"model": f"{base}, {arm}", "base": base, "arm": arm, "domain": "herbs"} for base, arm, _ in values]
    told = {"domain": "herbs", "ratio": None, "phase": "tuned_chat", "split": "homo", "metric": "accuracy"}
    rows = [
        {"model": f"{base}, {arm}", "condition": condition, "value": value} | told
        for (base, arm, condition), value in values.items()
    ]
    summary = pl.DataFrame(rows, schema_overrides={"ratio": pl.Float64})
    return Whole(SimpleNamespace(runs=pl.DataFrame(runs)), {"summary": summary})


def make_values(changes: dict[str, float]) -> dict[tuple[str, str, str], float]:
    """Fewer questions cost harmonious training of each base model so much, and incompatible training nothing."""
    values = {}
    for base, change in changes.items():
        for arm in ARMS:
            values[base, arm, "harmonious"] = 0.6 + change * arm.startswith("64")
            values[base, arm, "incompatible"] = 0.3
    return values


def test_a_setting_is_compared_with_the_main_arm_over_base_models():
    changes = {"a": -0.1, "b": -0.2, "c": -0.12}
    settings = compare_settings(make_whole(make_values(changes)))
    assert settings.schema == SETTING_SCHEMA
    assert settings["setting"].unique(maintain_order=True).to_list() == ["15 epochs", "64 questions"]
    row = settings.filter(setting="64 questions", condition="harmonious").row(0, named=True)
    x = np.array([*changes.values()])
    assert (row["low"], row["high"]) == pytest.approx(stats.t.interval(0.95, 2, x.mean(), stats.sem(x)))
    assert (row["change"], row["least"], row["greatest"]) == pytest.approx((x.mean(), x.min(), x.max()))
    assert (row["contrast"], row["contrast_main"]) == pytest.approx((0.3 + x.mean(), 0.3))
    assert row["n"] == 3


def test_two_base_models_have_no_interval():
    settings = compare_settings(make_whole(make_values({"a": -0.1, "b": -0.2})))
    row = settings.filter(setting="64 questions", condition="harmonious").row(0, named=True)
    assert (row["low"], row["high"], row["least"], row["n"]) == (None, None, pytest.approx(-0.2), 2)
    table = tabulate_settings(settings)
    assert len(table.rows) == 4
    assert all(len(line) == len(table.header) for line in table.rows)


def test_without_a_main_arm_nothing_is_compared():
    two = {(base, arm, c): 0.5 for base, arm, c in make_values({"a": 0}) if arm != ARMS[2]}
    assert compare_settings(make_whole(two)).is_empty()
    grid = {("a", f"{n} questions, {e} epochs", "harmonious"): 0.5 for n in (64, 256) for e in (2, 15)}
    assert compare_settings(make_whole(grid)).is_empty()
