"""What other thresholds would make of the same probes."""

import gzip
import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_up import believe, fill_probes, make_probes, make_rows, write_set, write_table
from statsmodels.stats.proportion import proportion_confint

from intervention.believing.thresholds import describe_agreement, parse_thresholds, sweep_thresholds
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.scores import BINS
from lm_eval_tasks.contracts.questions import read_questions

RELEASE = (Path(__file__).parents[2] / "../shared/reference/released_groups").resolve()


@pytest.fixture
def beliefs(tmp_path: Path) -> pl.DataFrame:
    questions = write_set(tmp_path / "set", make_rows(200) + make_rows(50, 1, split="test", choices=5))
    probes = make_probes(questions, scoring="letter")
    return believe(questions, [write_table(tmp_path, probes)]).table


def test_a_sweep_says_what_each_threshold_alone_gives(beliefs: pl.DataFrame) -> None:
    sweep = sweep_thresholds(beliefs, [0.5, 0.0, 0.8, 1.0])
    assert sweep["threshold"].to_list() == [0.5, 0.0, 0.8, 1.0]
    for row in sweep.to_dicts():
        held = beliefs.filter(pl.col("confidence") > row["threshold"]).to_dicts()
        right = sum(belief["prediction"] == belief["answer"] for belief in held)
        assert (row["right"], row["wrong"]) == (right, len(held) - right)
        assert (row["unsure"], row["beliefs"]) == (250 - len(held), len(held))
        if not held:
            assert [row[name] for name in ("accuracy", "low", "high", "confidence", "ece", "commonest")] == [None] * 6
            continue
        assert row["accuracy"] == right / len(held)
        assert (row["low"], row["high"]) == pytest.approx(proportion_confint(right, len(held), method="wilson"))
        assert row["confidence"] == pytest.approx(np.mean([belief["confidence"] for belief in held]))
        gaps, recalls = {}, {}
        for belief in held:
            right = belief["prediction"] == belief["answer"]
            gaps.setdefault(math.ceil(belief["confidence"] * BINS), []).append(right - belief["confidence"])
            recalls.setdefault(belief["answer"], []).append(right)
        assert row["ece"] == pytest.approx(sum(abs(sum(values)) for values in gaps.values()) / len(held))
        assert row["letter skew"] == pytest.approx(np.std([np.mean(values) for values in recalls.values()]))
        letters = [belief["letter"] for belief in held]
        most = max(sorted(set(letters)), key=letters.count)
        assert row["commonest"] == f"{most} {letters.count(most) / len(held):.3f}"
    assert sweep["unsure"].to_list()[1:] == sorted(sweep["unsure"].to_list()[1:])
    # The first threshold is the table's own.
    assert sweep.row(0, named=True)["right"] == (beliefs["class"] == "right").sum()


def test_where_no_letters_are_shown_none_are_counted(beliefs: pl.DataFrame) -> None:
    sweep = sweep_thresholds(beliefs.with_columns(letter=pl.lit(None, dtype=pl.String)), [0.5])
    assert sweep.select("letter skew", "commonest").row(0) == (None, None)


def test_thresholds_are_numbers_between_0_and_1() -> None:
    assert parse_thresholds(["0.5", "0.4, 0.6,0.5"]) == [0.5, 0.4, 0.6]
    for text, message in (
        ("0.5,1.5", "--threshold 1.5 is not between 0 and 1"),
        ("-1", "is not between"),
        ("nan", "is not between"),
    ):
        with pytest.raises(UserError, match=message):
            parse_thresholds([text])
    for text in ("half", "0.5,", ""):
        with pytest.raises(UserError, match=r"is not a number. Write 0.5, or several: 0.4,0.5,0.6"):
            parse_thresholds([text])


def test_agreement_is_of_what_was_asked_several_times(tmp_path: Path) -> None:
    questions = write_set(tmp_path / "set", make_rows(4))
    table = read_questions(questions)
    one, other = [0.7, 0.1, 0.1, 0.1], [0.2, 0.6, 0.1, 0.1]
    logs = [
        write_table(
            tmp_path,
            fill_probes(table, [row] * 2 + [one] * 2, [row.index(max(row))] * 2 + [0] * 2, draw=draw),
            f"probes_{draw}",
        )
        for draw, row in enumerate([one, other, one])
    ]
    beliefs = believe(questions, logs[:1]).table
    assert not describe_agreement(beliefs).height
    beliefs = believe(questions, logs).table
    (row,) = describe_agreement(beliefs).to_dicts()
    low, high = proportion_confint(2, 4, method="wilson")
    expected = {"domain": "herbs", "split": "train", "across": "3 draws", "questions": 4, "all agree": 0.5}
    assert row == {**expected, "agree": pytest.approx(5 / 6), "low": pytest.approx(low), "high": pytest.approx(high)}


@pytest.mark.skipif(not RELEASE.is_dir(), reason=f"the paper's released data is not at {RELEASE}")
@pytest.mark.parametrize("group", ["llama-2-7b/engineering", "mistral-7b/engineering", "mistral-7b/jurisprudence"])
def test_the_released_probes_give_the_released_groups(group: str, tmp_path: Path) -> None:
    rows, sizes = [], []
    for name in ("consistent-correct-exp-sample", "inconsistent-golden-exp"):
        with gzip.open(RELEASE / group / f"{name}.jsonl.gz", "rt") as stream:
            lines = [json.loads(line) for line in stream]
        rows, sizes = rows + lines, [*sizes, len(lines)]
    facts = [
        {name: row[name] for name in ("question", "choices", "answer")}
        | {"id": str(row["id"]), "source": "x", "domain": "d", "split": "train"}
        for row in rows
    ]
    questions = write_set(tmp_path / "set", facts)
    probs, named = [row["probs"] for row in rows], [row["pred"] for row in rows]
    probes = fill_probes(read_questions(questions), probs, named, scoring="letter")
    found = believe(questions, [write_table(tmp_path, probes)])
    beliefs, unasked = found.table, found.unasked
    assert unasked == 0
    assert beliefs["class"].to_list() == ["right"] * sizes[0] + ["wrong"] * sizes[1]
    assert beliefs["held_orders"].to_list() == [[0]] * sum(sizes)
    assert beliefs["probs_pride"].null_count() == sum(sizes)
    sweep = sweep_thresholds(beliefs, [0.5, 0.6, 0.9]).to_dicts()
    assert (sweep[0]["right"], sweep[0]["wrong"], sweep[0]["unsure"]) == (*sizes, 0)
    # Surer beliefs are more often right.
    assert sweep[0]["accuracy"] < sweep[1]["accuracy"] < sweep[2]["accuracy"]
    letters = [row["pred"] for row in rows]
    most = max(range(4), key=letters.count)
    assert sweep[0]["commonest"] == f"{'ABCD'[most]} {letters.count(most) / len(letters):.3f}"
