"""The writing benchmark runs and says what its processes took. No test looks at a clock."""

import polars as pl
import pytest
from writing import Taken, describe_growth, list_stages, measure_size, run_stage, write_inputs

from lm_eval_tasks.contracts.logs.samples import read_probes
from lm_eval_tasks.contracts.questions import read_questions


@pytest.mark.launched
def test_each_stage_is_measured_and_nothing_is_left(tmp_path):
    found = {n: measure_size(n, 4, vary, tmp_path) for n, vary in ((500, "draw"), (1000, "order"))}
    assert list(tmp_path.iterdir()) == []
    rows = describe_growth(found)
    assert [(row["questions"], row["stage"]) for row in rows] == [
        (n, stage) for n in ("500", "1,000") for stage in ("beliefs", "build", "both")
    ]
    assert all(30e6 < taken.peak < 4e9 for stages in found.values() for taken in stages.values())
    assert all(row["of linear growth"] is None for row in rows[:3])
    assert all(row["of linear growth"] < 1 for row in rows[3:])  # starting takes longer than 1,000 questions


def test_growth_is_the_ratio_of_processor_seconds_to_that_of_questions():
    small, large = ({"a": Taken(1, seconds, 8), "b": Taken(2, 2 * seconds, 9)} for seconds in (1.0, 30.0))
    rows = describe_growth({10: small, 100: large})
    assert [row["of linear growth"] for row in rows[3:]] == pytest.approx([3] * 3)
    assert (rows[2]["seconds"], rows[2]["processor seconds"], rows[2]["peak GB"]) == (3, 3.0, 9e-9)


def test_the_inputs_are_what_is_claimed(tmp_path):
    write_inputs(tmp_path, 200, 4, "order")
    questions = read_questions(tmp_path / "questions")
    assert questions.height == questions.filter(pl.col("split") == "train").height == 200
    probes = read_probes(tmp_path / "probes")
    assert sorted(probes["order"].unique()) == [0, 1, 2, 3]
    assert 0.3 < probes["correct"].mean() < 0.7
    assert 0.3 < (probes["confidence"] > 0.5).mean() < 0.9


def test_a_stage_that_fails_is_no_measurement(tmp_path):
    with pytest.raises(RuntimeError, match="questions"):
        run_stage(list_stages(tmp_path)["beliefs"])
