"""The comparing benchmark runs, its sides agree, and it counts what it says. No test looks at a clock."""

import comparing
import numpy as np
import pytest
from comparing import Found, compare_at_once, compare_in_a_loop, describe_sides, make_joined, measure_sides


def test_both_sides_find_the_same_and_the_loop_is_scaled_to_all_questions():
    table = make_joined(40, 3)
    assert table.height == 120
    at_once, loop = compare_at_once(table), compare_in_a_loop(table)
    np.testing.assert_allclose(at_once.kl, loop.kl, atol=1e-12)
    np.testing.assert_allclose(at_once.ranks, loop.ranks, atol=1e-12)
    assert loop.kl.std() > 0.1
    assert loop.ranks.std() > 0.1
    at_once, loop = measure_sides(40, 3, 7)
    assert (len(at_once.kl), len(loop.kl)) == (120, 18)


def test_the_table_is_the_ratio_of_seconds_for_the_same_answers(monkeypatch: pytest.MonkeyPatch):
    nothing = np.zeros(200)
    rows = describe_sides(Found(0.5, nothing, nothing), Found(100.0, nothing[:20], nothing[:20]))
    assert [(row["side"], row["answers a second"], row["times"]) for row in rows] == [("loop", "2", 1), ("at once", "400", 200)]
    monkeypatch.setattr(comparing, "compare_in_a_loop", lambda table: Found(2.0, *np.zeros((2, table.height))))
    monkeypatch.setattr(comparing, "compare_at_once", lambda table: Found(1.0, *np.zeros((2, table.height))))
    assert measure_sides(50, 2, 10)[1].seconds == 20


def test_sides_that_differ_are_no_measurement(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(comparing, "compare_in_a_loop", lambda table: Found(1.0, *np.full((2, table.height), np.nan)))
    with pytest.raises(ValueError, match="kl of the two sides differ"):
        measure_sides(10, 2, 1)
