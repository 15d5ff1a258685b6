"""What a model believes follows from its probes, however they are stored and however often it was asked."""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from conftest import ROOT, run_command
from made_up import believe, fill_probes, make_probes, make_rows, write_jsonl, write_log, write_set, write_table

from intervention.believing.beliefs import BELIEF_SCHEMA
from intervention.believing.source import write_beliefs
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.averages import average_probes
from lm_eval_tasks.contracts.questions import read_questions


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set", make_rows(60) + make_rows(30, 1, split="test", choices=5) + make_rows(5, 2, split="dev"))


def test_belief_and_class_follow_from_the_probe(questions: Path, tmp_path: Path) -> None:
    probes = make_probes(questions)
    found = believe(questions, [write_table(tmp_path, probes)])
    beliefs, unasked = found.table, found.unasked
    assert beliefs.schema == BELIEF_SCHEMA
    assert (beliefs.height, unasked) == (90, 5)
    seen = set()
    for probe, row in zip(probes.to_dicts(), beliefs.to_dicts(), strict=True):
        assert row["id"] == probe["id"]
        assert row["question_hash"] == probe["question_hash"]
        assert row["probs"] == probe["probs"]
        assert (row["prediction"], row["confidence"]) == (probe["prediction"], probe["confidence"])
        assert (row["agreement"], row["asked"]) == (1, 1)
        sure = probe["confidence"] > 0.5
        assert row["belief"] == (probe["prediction"] if sure else None)
        expected = "unsure" if not sure else "right" if probe["prediction"] == probe["answer"] else "wrong"
        assert row["class"] == expected
        seen.add(expected)
    assert seen == {"right", "wrong", "unsure"}


def test_a_confidence_equal_to_the_threshold_is_no_belief(questions: Path, tmp_path: Path) -> None:
    table = read_questions(questions, splits=["train"])
    file = write_table(tmp_path, fill_probes(table, [[0.5, 0.25, 0.25, 0.0]] * 60, [0] * 60))
    assert believe(questions, [file], 0.5).table["belief"].null_count() == 60
    assert believe(questions, [file], 0.49).table["belief"].to_list() == [0] * 60
    for threshold in (-0.1, 1.1, float("nan")):
        with pytest.raises(UserError, match="is not between 0 and 1"):
            believe(questions, [file], threshold)


def test_a_log_and_a_table_say_the_same(questions: Path, tmp_path: Path) -> None:
    probes = make_probes(questions, scoring="letter", order=3)
    table = believe(questions, [write_table(tmp_path, probes)]).table
    log = believe(questions, [write_log(tmp_path / "samples_x.jsonl", probes)]).table
    assert table.equals(log)


def test_orders_and_draws_are_averaged_by_choice(questions: Path, tmp_path: Path) -> None:
    parts = [
        make_probes(questions, seed=10 * draw + order, order=order, draw=draw).filter(pl.col("choices").list.len() > order)
        for draw in (0, 1)
        for order in range(5)
    ]
    logs = [write_log(tmp_path / f"samples_{i}.jsonl", part) for i, part in enumerate(parts)]
    beliefs = believe(questions, logs[::-1]).table
    asked = pl.concat(parts).partition_by("id", as_dict=True)
    for row in beliefs.to_dicts():
        own = asked[row["id"],].to_dicts()
        n = len(own[0]["choices"])
        assert row["asked"] == len(own) == 2 * n
        mean = [sum(values) / (2 * n) for values in zip(*(probe["probs"] for probe in own), strict=True)]
        assert row["probs"] == pytest.approx(mean)
        assert row["prediction"] == mean.index(max(mean))
        assert row["confidence"] == pytest.approx(max(mean))
        assert row["agreement"] == pytest.approx(sum(probe["prediction"] == row["prediction"] for probe in own) / (2 * n))
    assert beliefs["agreement"].n_unique() > 2


def ask_in_orders(questions: Path, says: Callable[[dict, int], int]) -> list[pl.DataFrame]:
    """A probe table an order: `says` names the choice (in the question's own order) that gets 0.9; others share the rest."""
    tables = []
    for order in range(5):
        asked = read_questions(questions, splits=("train", "test")).filter(pl.col("choices").list.len() > order)
        named = [says(row, order) for row in asked.to_dicts()]
        counts = asked["choices"].list.len()
        probs = [[0.9 if i == name else 0.1 / (n - 1) for i in range(n)] for n, name in zip(counts, named, strict=True)]
        tables.append(fill_probes(asked, probs, named, order=order, scoring="letter"))
    return tables


def test_a_model_that_always_says_the_first_letter_believes_nothing_once_the_orders_are_averaged(
    questions: Path, tmp_path: Path
) -> None:
    # What is shown first is the choice that the order names.
    tables = ask_in_orders(questions, lambda _, order: order)
    logs = [write_log(tmp_path / f"samples_{i}.jsonl", table) for i, table in enumerate(tables)]
    once = believe(questions, logs[:1]).table
    assert once["belief"].to_list() == [0] * 90
    assert once["confidence"].to_list() == pytest.approx([0.9] * 90)
    averaged = believe(questions, logs).table
    assert averaged["belief"].null_count() == 90
    assert set(averaged["class"]) == {"unsure"}
    for row in averaged.to_dicts():
        n = len(row["probs"])
        assert row["probs"] == pytest.approx([1 / n] * n)
        assert row["agreement"] == pytest.approx(1 / n)
        assert row["asked"] == n


def test_a_model_that_knows_the_content_believes_the_same_in_every_order(questions: Path, tmp_path: Path) -> None:
    def know(row: dict, order: int) -> int:
        return int(row["id"].split("-")[1]) * 7 % len(row["choices"])

    tables = ask_in_orders(questions, know)
    logs = [write_log(tmp_path / f"samples_{i}.jsonl", table) for i, table in enumerate(tables)]
    averaged = believe(questions, logs).table
    for row, asked in zip(averaged.to_dicts(), read_questions(questions, splits=("train", "test")).to_dicts(), strict=True):
        assert row["belief"] == know(asked, 0)
        assert row["confidence"] == pytest.approx(0.9)
        assert row["agreement"] == 1
    assert averaged["belief"].n_unique() == 5


def test_a_question_that_lacks_an_order_is_named(questions: Path, tmp_path: Path) -> None:
    tables = ask_in_orders(questions, lambda _, order: order)
    logs = [write_log(tmp_path / f"samples_{i}.jsonl", table) for i, table in enumerate(tables)]
    message = (
        r"samples_\d.jsonl: made_up/herbs id 'train-0' was asked of base by made_up in 3 of the 4 orders .*order 2 is missing"
    )
    refuse(questions, [*logs[:2], *logs[3:]], message)
    # All but the last question's last order, as a --limit would leave it: questions asked once are no excuse for it.
    write_log(logs[4], tables[4].head(29))
    refuse(questions, logs, r"id 'test-29' was asked of base by made_up in 4 of the 5 orders .*order 4 is missing")
    for log, table in zip(logs[1:], tables[1:], strict=True):
        write_log(log, table.filter(pl.col("id") != "test-3"))
    write_log(logs[4], tables[4].filter(pl.col("id") != "test-3"))
    refuse(questions, logs, r"id 'test-3' was asked of base by made_up in 1 of the 5 orders .*order 1 is missing")


def test_a_tie_goes_to_what_the_model_named(questions: Path) -> None:
    table = read_questions(questions, splits=["train"]).head(1)
    probs = [[0.1, 0.4, 0.1, 0.4]]
    assert average_probes(fill_probes(table, probs, [3]))["prediction"].item() == 3
    second = fill_probes(table, [[0.1, 0.4, 0.1, 0.4]], [1], order=1)
    assert average_probes(pl.concat([second, fill_probes(table, probs, [3])]))["prediction"].item() == 3


def refuse(questions: Path, probes: Path | list[Path], message: str) -> None:
    with pytest.raises(UserError, match=message):
        believe(questions, probes if isinstance(probes, list) else [probes])


def test_only_one_model_one_way_and_the_base_probe(questions: Path, tmp_path: Path) -> None:
    base = write_table(tmp_path, make_probes(questions))
    other = write_table(tmp_path, make_probes(questions, model="another"), "probes_other")
    refuse(questions, [base, other], "probes of 2 models: 'base' and 'another'")
    letter = write_table(tmp_path, make_probes(questions, scoring="letter", order=1), "probes_letter")
    refuse(questions, [base, letter], "2 ways of scoring: 'cloze' and 'letter'")
    tuned = write_table(tmp_path, make_probes(questions, order=1, run="0123"), "probes_run")
    refuse(questions, [base, tuned], "2 runs")
    chat = write_table(tmp_path, make_probes(questions, phase="base_chat"), "probes_chat")
    refuse(questions, [base, chat], "phase 'base_chat', but a belief comes from phase 'base_probe'")
    refuse(questions, [base, base], "more than once")


def test_probes_of_other_questions_are_refused(questions: Path, tmp_path: Path) -> None:
    probes = write_table(tmp_path, make_probes(questions))
    fewer = write_set(tmp_path / "fewer", make_rows(59) + make_rows(30, 1, split="test", choices=5))
    refuse(
        fewer,
        probes,
        r"probes.parquet: 1 of 90 probes are of questions that .*fewer does not have.*made_up/herbs id 'train-59'",
    )
    others = write_set(tmp_path / "others", make_rows(60, domain="engines"))
    refuse(others, probes, "90 of 90 probes are of questions that")
    rows = make_rows(60) + make_rows(30, 1, split="test", choices=5)
    rows[7] |= {"question": "Another wording?"}
    refuse(write_set(tmp_path / "changed", rows), probes, r"made_up/herbs id 'train-7' was asked with another text")
    rows = make_rows(60) + make_rows(30, 1, split="test", choices=5)
    rows[8] |= {"answer": (rows[8]["answer"] + 1) % 4}
    refuse(write_set(tmp_path / "answered", rows), probes, r"id 'train-8' was asked with another")


@pytest.mark.parametrize(
    ("probs", "message"),
    [
        ([None, 0.5, 0.5, 0.0], "missing, NaN or infinite"),
        ([float("nan"), 0.5, 0.5, 0.0], "missing, NaN or infinite"),
        ([0.5, 0.2, 0.1, 0.1], "do not sum to 1"),
        ([0.5, 0.5], "are not one a choice"),
        (None, "probs None is missing"),
    ],
)
def test_bad_probabilities_are_named(questions: Path, tmp_path: Path, probs: list | None, message: str) -> None:
    table = make_probes(questions)
    values = table["probs"].to_list()
    values[4] = probs
    file = write_table(tmp_path, table.with_columns(probs=pl.Series(values, dtype=pl.List(pl.Float64))))
    refuse(questions, file, f"probes.parquet, row 5 .*{message}")


def test_a_log_cut_in_the_middle_of_a_line_is_named(questions: Path, tmp_path: Path) -> None:
    log = write_log(tmp_path / "samples_x.jsonl", make_probes(questions))
    log.write_bytes(log.read_bytes()[:-40])
    refuse(questions, log, r"samples_x.jsonl, line 90 is not a whole line of JSON \(the file ends in the middle of it\)")
    refuse(questions, write_jsonl(tmp_path / "samples_y.jsonl", []), "holds no samples")
    refuse(questions, tmp_path / "nothing", "does not exist")


def test_the_table_is_written_whole_or_not_at_all(questions: Path, tmp_path: Path) -> None:
    beliefs = believe(questions, [write_table(tmp_path, make_probes(questions))]).table
    write_beliefs(beliefs, tmp_path / "out" / "beliefs.parquet")
    assert pl.read_parquet(tmp_path / "out" / "beliefs.parquet").equals(beliefs)
    with pytest.raises(UserError, match="cannot write"):
        write_beliefs(beliefs, tmp_path / "out" / "beliefs.parquet" / "again.parquet")
    with pytest.raises(UserError, match="cannot write"):
        write_beliefs(beliefs, tmp_path / "set")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"beliefs.parquet"}


def test_a_belief_is_held_in_the_orders_that_say_so_surely(questions: Path, tmp_path: Path) -> None:
    parts = [
        make_probes(questions, seed=10 * draw + order, right=0.3, order=order, draw=draw, scoring="letter").filter(
            pl.col("choices").list.len() > order
        )
        for draw in (0, 1)
        for order in range(5)
    ]
    logs = [write_table(tmp_path, part, f"probes_{i}") for i, part in enumerate(parts)]
    beliefs = believe(questions, logs, 0.4).table
    asked = pl.concat(parts).partition_by("id", as_dict=True)
    for row in beliefs.to_dicts():
        own = asked[row["id"],].to_dicts()
        n = len(row["probs"])
        means = {
            order: [sum(values) / 2 for values in zip(*(p["probs"] for p in own if p["order"] == order), strict=True)]
            for order in range(n)
        }
        made = [order for order, mean in means.items() if mean.index(max(mean)) == row["prediction"]]
        assert row["held_orders"] == [order for order in made if max(means[order]) > 0.4]
        assert (row["orders"], row["draws"]) == (n, 2)
        assert row["order_agreement"] == pytest.approx(len(made) / n)
        assert row["letter"] == "ABCDE"[row["prediction"]]
        assert row["entropy_nats"] == pytest.approx(-sum(p * math.log(p) for p in row["probs"] if p))
    assert {0, 1, 2, 3} <= set(beliefs["held_orders"].list.len())


def test_what_was_asked_in_one_order_is_held_in_that_order(questions: Path, tmp_path: Path) -> None:
    for order in (0, 1, None):
        probes = make_probes(questions, order=order)
        table = believe(questions, [write_table(tmp_path, probes)]).table
        sure = table["belief"].is_not_null()
        assert table.filter(sure)["held_orders"].to_list() == [[order or 0]] * int(sure.sum())
        assert table.filter(~sure)["held_orders"].to_list() == [[]] * int((~sure).sum())
        assert table.select("orders", "draws", "order_agreement", "draw_agreement").unique().rows() == [(1, 1, 1.0, 1.0)]


def test_sums_that_differ_in_the_last_bit_tie(questions: Path, tmp_path: Path) -> None:
    table = read_questions(questions, splits=["train"])
    one = [[0.1, 0.3, 0.6, 0.0], [0.2, 0.2, 0.0, 0.6], [0.3, 0.1, 0.3, 0.3]]
    assert sum(probs[0] for probs in one) > sum(probs[1] for probs in one)
    rotated = [probs[2:] + probs[:2] for probs in one]  # so that the two are the largest
    swapped = [[0.45, 0.55, 0.0, 0.0], [0.55, 0.45, 0.0, 0.0]]
    for probs, expected in ((one, 2), (rotated, 0), (swapped, 1), (swapped[::-1], 0)):
        named = [row.index(max(row)) for row in probs]
        logs = [
            write_table(tmp_path, fill_probes(table, [row] * 60, [name] * 60, draw=draw), f"probes_{draw}")
            for draw, (row, name) in enumerate(zip(probs, named, strict=True))
        ]
        for order in (logs, logs[::-1]):
            assert set(believe(questions, order).table["prediction"]) == {expected}


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    questions = write_set(tmp_path / "set", make_rows(3000))
    for draw in range(3):
        for order in range(4):
            probes = make_probes(questions, seed=10 * draw + order, order=order, draw=draw, scoring="letter")
            write_table(tmp_path / "probes", probes, f"probes_{draw}_{order}")
    files = sorted((tmp_path / "probes").iterdir())
    written = []
    for threads, order in (("1", files), ("2", files), ("4", files[::-1])):
        output = tmp_path / f"{threads}.parquet"
        logs = [word for file in order for word in ("--probes", str(file))]
        command = [
            sys.executable,
            "-m",
            "intervention",
            "beliefs",
            "--questions",
            str(questions),
            *logs,
            "--output",
            str(output),
        ]
        environment = os.environ | {"POLARS_MAX_THREADS": threads}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        written.append((output.read_bytes(), done.stdout.replace(str(output), "")))
    assert written[0] == written[1] == written[2]
    assert "| 4 orders |" in written[0][1]
    assert "| 3 draws " in written[0][1]


def test_the_command_sweeps_thresholds_and_says_what_is_wrong(questions: Path, tmp_path: Path) -> None:
    table = ask_in_orders(questions, lambda row, order: (row["answer"] + order) % len(row["choices"]) if order else 0)
    logs = [word for i, part in enumerate(table) for word in ("--probes", write_table(tmp_path, part, f"probes_{i}"))]
    output = tmp_path / "beliefs.parquet"
    inputs = ("--questions", questions, *logs, "--output", output)
    done = run_command(sys.executable, "-m", "intervention", "beliefs", *inputs, "--threshold", "0.3,0.2", "--threshold", "0.4")
    assert done.returncode == 0, done.stderr
    for line in (
        "| 0.300 ",
        "| 0.200 ",
        "| 0.400 ",
        "| HighlyKnown |",
        "| 4 orders |",
        "| 5 orders |",
        "too few to correct by",
    ):
        assert line in done.stdout
    written = pl.read_parquet(output)
    assert written.equals(believe(questions, logs[1::2], 0.3).table)
    output.unlink()
    for words, message in (
        (("--threshold", "0.5,2"), "error: --threshold 2.0 is not between 0 and 1. The paper uses 0.5.\n"),
        (("--threshold", "half"), "error: --threshold 'half' is not a number. Write 0.5, or several: 0.4,0.5,0.6.\n"),
    ):
        done = run_command(sys.executable, "-m", "intervention", "beliefs", *inputs, *words)
        assert (done.returncode, done.stderr) == (2, message)
        assert not output.exists()
