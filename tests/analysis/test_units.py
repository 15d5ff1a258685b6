"""Base models and domains as the units of an interval."""

import numpy as np
import polars as pl
import pytest
from answers import flip_coins, make_measures
from scipy import stats

from analysis.chapters.contrasts import compare_conditions
from analysis.chapters.units import (
    FEWEST,
    UNIT_SCHEMA,
    average_summary,
    average_units,
    compare_units,
    sketch_units,
    tabulate_units,
)
from analysis.measures.power import find_detectable
from analysis.showing.formats import DASH


def make_units(
    differences: dict[tuple[str, str], float], split: str = "homo", condition: str = "harmonious"
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Contrasts with these differences for each base model and domain, and measures that have no question in common."""
    answers = {(condition, 1): flip_coins(100, 0.7, 1), ("incompatible", 1): flip_coins(100, 0.5, 2)}
    measures = make_measures(answers, split)
    row = compare_conditions(measures)[1]
    contrasts, asked = [], []
    for (model, domain), difference in differences.items():
        names = {"model": pl.lit(model), "domain": pl.lit(domain)}
        contrasts.append(row.with_columns(**names, difference=pl.lit(difference)))
        asked.append(measures.with_columns(**names, question_domain=pl.lit(f"{model}-{domain}")))
    return pl.concat(contrasts), pl.concat(asked)


def join(*parts: tuple[pl.DataFrame, pl.DataFrame]) -> tuple[pl.DataFrame, pl.DataFrame]:
    return tuple(map(pl.concat, zip(*parts, strict=True)))


def test_units_that_share_nothing_get_a_t_interval():
    d = {("a", "herbs"): 0.1, ("b", "engines"): 0.3, ("c", "herbs"): 0.05, ("d", "engines"): 0.2}
    units = compare_units(*join(make_units(d), make_units({key: -2 * x for key, x in d.items()}, "id")))
    assert units.schema == UNIT_SCHEMA
    row = units.filter(split="homo").row(0, named=True)
    x = np.array(list(d.values()))
    low, high = stats.t.interval(0.95, 3, x.mean(), stats.sem(x))
    p = stats.ttest_1samp(x, 0).pvalue
    assert (row["difference"], row["low"], row["high"]) == (pytest.approx(x.mean()), pytest.approx(low), pytest.approx(high))
    assert (row["n"], row["above"], row["models"], row["domains"], row["note"]) == (4, 4, 4, 2, "")
    assert (row["p"], row["p_holm"], row["p_bh"]) == (pytest.approx(p), pytest.approx(2 * p), pytest.approx(p))
    assert row["mde"] == pytest.approx(find_detectable(stats.sem(x), 3, 0.025))
    table = tabulate_units(units)
    assert [line[1] for line in table.rows] == ["HOMO", "ID"]
    assert {len(line) for line in table.rows} == {len(table.header)}
    assert table.rows[0][2] == "+0.163"


def test_units_that_share_something_are_described_and_not_tested():
    d = {("a", "herbs"): 0.1, ("a", "engines"): -0.3, ("b", "herbs"): 0.05, ("b", "engines"): 0.2}
    contrasts, measures = make_units(d)
    row = compare_units(contrasts, measures).row(0, named=True)
    assert (row["difference"], row["least"], row["greatest"], row["above"]) == (pytest.approx(0.0125), -0.3, 0.2, 3)
    assert (row["low"], row["high"], row["p"], row["p_holm"], row["mde"]) == (None,) * 5
    assert "share a base model, so that" in row["note"]
    same = measures.with_columns(question_domain=pl.lit("herbs"))
    assert "share a base model and questions" in compare_units(contrasts, same)["note"][0]
    table = tabulate_units(compare_units(contrasts, same))
    cells = dict(zip(table.header, table.rows[0], strict=True))
    assert [cells[name] for name in ("95% interval", "p", "p (Holm)", "p (BH)", "detectable")] == [DASH] * 5
    assert (cells["least"], cells["greatest"], cells["above 0"], cells["n"]) == ("−0.300", "+0.200", "3", "4")


def test_few_units_are_said():
    assert compare_units(*make_units({("a", "herbs"): 0.1})).is_empty()
    two = {("a", "herbs"): 0.1, ("b", "herbs"): 0.2}
    both = join(make_units(two), make_units({("a", "herbs"): 0.3}, condition="gold"))
    pair, single = compare_units(*both).rows(named=True)
    assert (pair["n"], pair["note"]) == (2, f"2 units, fewer than {FEWEST}: the interval is very wide")
    assert pair["low"] < 0 < 0.3 < pair["high"]
    assert (single["n"], single["low"], single["p"], single["p_holm"]) == (1, None, None, None)
    assert single["note"] == "one unit: no interval over units"
    assert pair["p_holm"] == pytest.approx(pair["p"])
    table = tabulate_units(compare_units(*both))
    assert table.rows[1][2:8] == ["+0.300", *[DASH] * 5]
    same = average_units(np.array([0.1, 0.1, 0.1]))
    assert (same["difference"], same["low"], same["p"]) == (pytest.approx(0.1), None, None)
    assert "do not differ" in same["note"]


def make_summary(values: dict[str, float], **names: object) -> pl.DataFrame:
    """The accuracy of a condition of each base model."""
    told = {"domain": "herbs", "condition": "harmonious", "ratio": None, "phase": "tuned_chat", "split": "homo"} | names
    kept = {"metric": "accuracy", "n": 100, "seeds": 5, "low": 0.0, "high": 1.0, "low_questions": 0.0, "high_questions": 1.0}
    rows = [{"model": model, "value": value} | told | kept for model, value in values.items()]
    return pl.DataFrame(rows, schema_overrides={"ratio": pl.Float64})


def test_the_figure_over_units_has_their_mean_and_t_interval():
    values = {"a": 0.5, "b": 0.6, "c": 0.58}
    row = average_summary(make_summary(values)).row(0, named=True)
    x = np.array([*values.values()])
    assert (row["low"], row["high"]) == pytest.approx(stats.t.interval(0.95, 2, x.mean(), stats.sem(x)))
    assert (row["low_questions"], row["seeds"], row["n"]) == (row["low"], 3, 300)


def test_there_is_a_figure_only_of_units_that_share_nothing():
    summary, none = make_summary({"a": 0.5, "b": 0.6}), pl.DataFrame()
    apart = compare_units(*make_units({("a", "herbs"): 0.1, ("b", "engines"): 0.3}))
    assert sketch_units({"summary": summary, "units": apart, "arms": none})
    assert not sketch_units({"summary": summary, "units": apart, "arms": pl.DataFrame({"arm": ["x"]})})
    shared = compare_units(*make_units({("a", "herbs"): 0.1, ("a", "engines"): 0.3}))
    assert not sketch_units({"summary": summary, "units": shared, "arms": none})
    assert not sketch_units({"summary": summary, "units": pl.DataFrame(schema=UNIT_SCHEMA), "arms": none})
