"""Standardised differences against values worked out by hand, and what the balance table counts."""

import math

import numpy as np
import polars as pl
import pytest
from instruction_sets import make_general, make_row, make_table

from intervention.comparing.balance import (
    describe_balance,
    measure_differences,
    measure_distance,
    summarise_rows,
    tabulate_differences,
)
from lm_eval_tasks.contracts.errors import UserError


def compare(one: dict, reference: dict) -> dict[str, dict]:
    table = measure_differences({"one": pl.DataFrame(one), "reference": pl.DataFrame(reference)}, "reference")
    return {row["measure"]: row for row in table.iter_rows(named=True)}


def test_means_are_standardised_by_the_pooled_deviation() -> None:
    row = compare({"confidence": [0.5, 0.7, 0.9]}, {"confidence": [0.2, 0.4, 0.6]})["confidence"]
    # 0.3 in deviations of 0.2; its standard error is sqrt(6 / 9 + 1.5^2 / 12).
    assert (row["value"], row["reference_value"], row["difference"]) == pytest.approx((0.7, 0.4, 0.3))
    assert row["smd"] == pytest.approx(1.5)
    assert (row["low"], row["high"]) == pytest.approx((1.5 - 1.959964 * 0.924211, 1.5 + 1.959964 * 0.924211), abs=1e-4)
    assert (row["n"], row["n_reference"]) == (3, 3)


def test_shares_are_standardised_by_the_binomial_deviation() -> None:
    row = compare({"agrees_with_gold": [True, True, False, False]}, {"agrees_with_gold": [True, False, False, False]})["= gold"]
    assert row["smd"] == pytest.approx(0.25 / math.sqrt((0.25 + 0.1875) / 2))
    assert row["smd"] == pytest.approx(0.534522, abs=1e-6)


def test_letters_are_standardised_all_at_once() -> None:
    rows = compare({"gold_letter": list("AABC")}, {"gold_letter": list("ABCC")})
    # Without C the shares differ by (1/4, 0), and the first entry of the inverse covariance is 64/11: d^2 = 4/11.
    assert rows["gold letters"]["smd"] == pytest.approx(math.sqrt(4 / 11))
    assert rows["gold letters"]["value"] is None
    assert rows["gold A"]["difference"] == pytest.approx(0.25)
    assert rows["gold B"]["smd"] == 0
    assert list(rows) == ["gold letters", "gold A", "gold B", "gold C"]
    # Of two letters the distance is that of the share of either.
    rows = compare({"response_letter": list("AABB")}, {"response_letter": list("ABBB")})
    assert rows["says letters"]["smd"] == pytest.approx(rows["says A"]["smd"]) == pytest.approx(-rows["says B"]["smd"])


def test_what_does_not_vary_is_0_or_undefined_and_never_infinite() -> None:
    same = compare({"confidence": [0.5] * 3}, {"confidence": [0.5] * 3})["confidence"]
    assert (same["smd"], same["low"], same["high"]) == (0, None, None)
    apart = compare({"confidence": [0.5] * 3}, {"confidence": [0.6] * 3})["confidence"]
    assert (apart["smd"], apart["low"], apart["high"]) == (None, None, None)
    assert apart["difference"] == pytest.approx(-0.1)
    single = compare({"confidence": [0.5]}, {"confidence": [0.5, 0.7]})["confidence"]
    assert single["smd"] is None
    for one, other in (("AAAA", "BBBB"), ("AABB", "CCDD")):
        rows = compare({"gold_letter": list(one)}, {"gold_letter": list(other)})
        assert rows["gold letters"]["smd"] is None
    assert compare({"gold_letter": list("AAAA")}, {"gold_letter": list("AA")})["gold letters"]["smd"] == 0
    assert measure_distance({"A": 4}, {"A": 1, "B": 1}) == (pytest.approx(math.sqrt(2)), 1)


def test_the_interval_of_a_distance_holds_the_true_one() -> None:
    rng = np.random.default_rng(0)

    def draw(shares: list[float], n: int) -> dict:
        return {"gold_letter": list(rng.choice(list("ABCD"), n, p=shares))}

    # Chance alone makes a distance; its interval begins at 0 in at least 95 of 100 samples.
    even = [0.25] * 4
    zero = [compare(draw(even, 200), draw(even, 200))["gold letters"]["low"] == 0 for _ in range(200)]
    assert np.mean(zero) > 0.94
    shares = [0.4, 0.3, 0.2, 0.1]
    true = measure_distance(dict(zip("ABCD", shares, strict=True)), dict(zip("ABCD", even, strict=True)))[0]
    held = []
    for _ in range(200):
        row = compare(draw(shares, 200), draw(even, 300))["gold letters"]
        held.append(row["low"] <= true <= row["high"])
        assert row["low"] > 0
    assert np.mean(held) > 0.92


def test_the_balance_table_counts_what_the_rows_hold() -> None:
    rows = [
        make_row(0, reason="Sage it is."),
        make_row(1, reason="Not ivy.", contradicts=True),
        make_row(2, reason="Rue, of course.", contradicts=False),
        make_row(4, agrees_with_belief=None),
        make_general(1),
    ]
    balance = describe_balance({"one": make_table(rows)})
    (row,) = balance.to_dicts()
    assert (row["condition"], row["questions"], row["general"]) == ("one", 4, 1)
    assert row["confidence"] == pytest.approx((0.60 + 0.61 + 0.62 + 0.64) / 4)
    assert (row["= belief"], row["= gold"]) == (0, 1)
    assert [row[f"gold {letter}"] for letter in "ABC"] == [0.5, 0.25, 0.25]
    assert "gold D" not in row
    assert row["explained"] == 0.75
    assert row["contradicts"] == 0.5  # of the two explanations that name an answer
    assert row["prompt words"] == 5 + 4 * 3
    assert row["response words"] == (3 + 3 + 3 + 3 + 8) / 4
    assert row["explanation words"] == pytest.approx(8 / 3)


def test_words_of_chinese_are_its_characters() -> None:
    row = make_row(0, question="什么 药草 heals?", choices=["a", "b", "c", "d"])
    assert describe_balance({"one": make_table([row])})["prompt words"].to_list() == [5 + 8]


def test_columns_that_a_table_lacks_are_left_out() -> None:
    slim = {"one": pl.DataFrame({"gold_letter": ["A", "C"], "confidence": [0.5, 0.7]})}
    names = ["condition", "questions", "confidence", "gold A", "gold B", "gold C"]
    assert describe_balance(slim).columns == names
    bare = pl.DataFrame({"gold_letter": [None, None]}, schema={"gold_letter": pl.String})
    assert describe_balance({"one": bare}).columns == ["condition", "questions"]
    both = describe_balance(slim | {"two": pl.DataFrame({"confidence": [0.1]})})
    assert both.row(1) == ("two", 1, 0.1, None, None, None)


def test_a_summary_says_what_its_rows_say() -> None:
    tables = {name: make_table([make_row(i, name) for i in range(30)]) for name in ("incompatible", "self_aligning")}
    summaries = {name: summarise_rows(table) for name, table in tables.items()}
    assert describe_balance(summaries).equals(describe_balance(tables))
    first = measure_differences(tables, "incompatible")
    assert measure_differences(summaries, "incompatible").equals(first)
    assert first.filter(pl.col("measure") == "confidence")["smd"].to_list() == [0]


def test_the_card_s_table_marks_what_is_above_a_tenth() -> None:
    tables = {
        "reference": pl.DataFrame({"confidence": [0.2, 0.4, 0.6], "gold_letter": list("ABC")}),
        "far": pl.DataFrame({"confidence": [0.1, 0.3, 0.5], "gold_letter": list("ABC"), "agrees_with_gold": [True] * 3}),
        "near": pl.DataFrame({"confidence": [0.21, 0.41, 0.61], "gold_letter": list("AAA")}),
        "bare": pl.DataFrame({"confidence": [0.9, 0.9, 0.9]}),
    }
    table = tabulate_differences(measure_differences(tables, "reference"))
    assert table.columns == ["measure", "far", "near", "bare"]
    assert table.rows() == [("confidence", "−0.50†", "+0.05", "+3.54†"), ("gold letters", "0.00", "2.00†", "")]


def test_domains_are_compared_where_there_are_several() -> None:
    one, two = make_row(0), make_row(1, domain="engines")
    same = measure_differences({"a": make_table([one]), "b": make_table([one])}, "a")
    assert "domains" not in same["measure"].to_list()
    differs = measure_differences({"a": make_table([one, two]), "b": make_table([one, one, two])}, "a")
    row = differs.filter(pl.col("measure") == "domains").row(0, named=True)
    assert row["smd"] == pytest.approx(abs(1 / 2 - 2 / 3) / math.sqrt((1 / 4 + 2 / 9) / 2))


def test_what_cannot_be_compared_is_said() -> None:
    tables = {"a": pl.DataFrame({"confidence": [0.5]}), "b": pl.DataFrame({"gold_letter": ["A"]})}
    with pytest.raises(UserError, match="reference 'c' is none of the conditions a, b"):
        measure_differences(tables, "c")
    with pytest.raises(UserError, match="b and a have no measure in common"):
        measure_differences(tables, "a")
