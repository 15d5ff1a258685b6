"""What a model believes follows from its probes, however they are stored and however often it was asked."""

from pathlib import Path

import polars as pl
import pytest
from made_up import fill_probes, make_probes, make_rows, write_jsonl, write_log, write_set, write_table

from intervention.beliefs import BELIEF_SCHEMA, average_probes, read_beliefs, write_beliefs
from lm_eval_tasks.manifest import UserError
from lm_eval_tasks.questions import read_questions


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set", make_rows(60) + make_rows(30, 1, split="test", choices=5) + make_rows(5, 2, split="dev"))


def test_belief_and_class_follow_from_the_probe(questions: Path, tmp_path: Path) -> None:
    probes = make_probes(questions)
    beliefs, unasked = read_beliefs(questions, [write_table(tmp_path, probes)])
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
        expected = "unsure" if not sure else "harmonious" if probe["prediction"] == probe["answer"] else "incompatible"
        assert row["class"] == expected
        seen.add(expected)
    assert seen == {"harmonious", "incompatible", "unsure"}


def test_a_confidence_equal_to_the_threshold_is_no_belief(questions: Path, tmp_path: Path) -> None:
    table = read_questions(questions, splits=["train"])
    file = write_table(tmp_path, fill_probes(table, [[0.5, 0.25, 0.25, 0.0]] * 60, [0] * 60))
    assert read_beliefs(questions, [file], 0.5)[0]["belief"].null_count() == 60
    assert read_beliefs(questions, [file], 0.49)[0]["belief"].to_list() == [0] * 60
    for threshold in (-0.1, 1.1, float("nan")):
        with pytest.raises(UserError, match="is not between 0 and 1"):
            read_beliefs(questions, [file], threshold)


def test_a_log_and_a_table_say_the_same(questions: Path, tmp_path: Path) -> None:
    probes = make_probes(questions, scoring="letter", order=3)
    table, _ = read_beliefs(questions, [write_table(tmp_path, probes)])
    log, _ = read_beliefs(questions, [write_log(tmp_path / "samples_x.jsonl", probes)])
    assert table.equals(log)


def test_orders_and_draws_are_averaged_by_choice(questions: Path, tmp_path: Path) -> None:
    parts = [make_probes(questions, seed=10 * draw + order, order=order, draw=draw) for draw in (0, 1) for order in (0, 1, 2)]
    for i, part in enumerate(parts):
        write_log(tmp_path / f"samples_{i}.jsonl", part)
    logs = [tmp_path / f"samples_{i}.jsonl" for i in range(6)]
    beliefs, _ = read_beliefs(questions, logs[::-1])
    for i, row in enumerate(beliefs.to_dicts()):
        asked = [part.row(i, named=True) for part in parts]
        mean = [sum(values) / 6 for values in zip(*(probe["probs"] for probe in asked), strict=True)]
        assert row["probs"] == pytest.approx(mean)
        assert row["prediction"] == mean.index(max(mean))
        assert row["confidence"] == pytest.approx(max(mean))
        assert row["agreement"] == pytest.approx(sum(probe["prediction"] == row["prediction"] for probe in asked) / 6)
        assert row["asked"] == 6
    assert beliefs["agreement"].n_unique() > 2


def test_a_tie_goes_to_what_the_model_named(questions: Path) -> None:
    table = read_questions(questions, splits=["train"]).head(1)
    probs = [[0.1, 0.4, 0.1, 0.4]]
    assert average_probes(fill_probes(table, probs, [3]))["prediction"].item() == 3
    second = fill_probes(table, [[0.1, 0.4, 0.1, 0.4]], [1], order=1)
    assert average_probes(pl.concat([second, fill_probes(table, probs, [3])]))["prediction"].item() == 3


def refuse(questions: Path, probes: Path | list[Path], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_beliefs(questions, probes if isinstance(probes, list) else [probes])


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
        ([None, 0.5, 0.5, 0.0], "missing, NaN or negative"),
        ([float("nan"), 0.5, 0.5, 0.0], "missing, NaN or negative"),
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
    beliefs, _ = read_beliefs(questions, [write_table(tmp_path, make_probes(questions))])
    write_beliefs(beliefs, tmp_path / "out" / "beliefs.parquet")
    assert pl.read_parquet(tmp_path / "out" / "beliefs.parquet").equals(beliefs)
    with pytest.raises(UserError, match="cannot write"):
        write_beliefs(beliefs, tmp_path / "out" / "beliefs.parquet" / "again.parquet")
    with pytest.raises(UserError, match="cannot write"):
        write_beliefs(beliefs, tmp_path / "set")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"beliefs.parquet"}
