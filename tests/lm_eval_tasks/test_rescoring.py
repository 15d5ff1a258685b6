"""Probes of texts are read by any score: the numbers are a softmax by hand, and what has no such score is refused."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from test_samples import CHOICES, LOGLIKELIHOODS, PER_CHARACTER, PMI, make_doc, write_log
from typer.testing import CliRunner

from lm_eval_tasks.__main__ import app
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.averages import average_orders
from lm_eval_tasks.contracts.logs.probe_table import SCORED_BY, write_probes
from lm_eval_tasks.contracts.logs.samples import read_probes
from lm_eval_tasks.contracts.logs.scores import read_probe
from lm_eval_tasks.contracts.questions import QUESTION_SCHEMA, hash_questions
from lm_eval_tasks.contracts.vocabulary import DEFAULT_SCORE, SCORES

VALUES = {"sum": LOGLIKELIHOODS, "per_character": PER_CHARACTER, "pmi": PMI}
READ = ("probs", "prediction", "confidence", "correct")


def softmax(values: Sequence[float]) -> list[float]:
    weights = [math.exp(value) for value in values]
    return [weight / sum(weights) for weight in weights]


def make_texts(number: int = 1, order: int = 0, **changes: object) -> dict:
    return make_doc(number, order, scoring="cloze", **changes)


@pytest.mark.parametrize("order", range(4))
@pytest.mark.parametrize("score", SCORES)
def test_probabilities_are_a_softmax_by_hand(tmp_path: Path, score: str, order: int) -> None:
    log = write_log(tmp_path, *(make_texts(i, order) for i in range(3)))
    for row in read_probes(log, score=score).iter_rows(named=True):
        assert row["probs"] == pytest.approx(softmax(VALUES[score]), abs=1e-15)
        assert row["prediction"] == int(np.argmax(VALUES[score]))
        assert row["confidence"] == max(row["probs"])
        assert row["correct"] == (CHOICES[row["prediction"]] == "two")
        assert row["choice_mass"] == pytest.approx(sum(map(math.exp, LOGLIKELIHOODS)))
        assert row["loglikelihoods"] == LOGLIKELIHOODS
        assert row["score"] == score


def test_the_sum_is_read_as_it_was_logged(tmp_path: Path) -> None:
    log = write_log(tmp_path, make_texts(1), make_texts(2, 3))
    assert read_probes(log, score="sum").equals(read_probes(log, score={"cloze": "sum", "letter": "sum"}))
    row, logged = read_probes(log, score="sum").row(0, named=True), make_texts(1)
    assert {name: row[name] for name in READ} == {name: logged[name] for name in READ}


@pytest.mark.parametrize("score", SCORES)
def test_a_table_is_of_one_score_and_gives_any_other(tmp_path: Path, score: str) -> None:
    log = write_log(tmp_path, *(make_texts(i, i % 4) for i in range(5)))
    read = read_probes(log, score=score)
    write_probes(read, tmp_path / "probes.parquet")
    assert read_probes(tmp_path / "probes.parquet").equals(read)  # where none is named it stays
    for other in SCORES:
        assert_frame_equal(read_probes(tmp_path / "probes.parquet", score=other), read_probes(log, score=other), rel_tol=1e-12)


def test_a_log_is_read_by_the_default_of_its_scoring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = write_log(tmp_path, make_texts(1))
    assert set(read_probes(log)["score"]) == {DEFAULT_SCORE["cloze"]}
    monkeypatch.setitem(DEFAULT_SCORE, "cloze", "pmi")
    assert read_probes(log).equals(read_probes(log, score="pmi"))


def test_letters_and_texts_in_one_folder_keep_their_rows(tmp_path: Path) -> None:
    docs = [make_texts(i) if i % 2 else make_doc(i) for i in range(6)]
    write_probes(read_probes(write_log(tmp_path, *docs), score={"letter": "sum", "cloze": "sum"}), tmp_path / "probes.parquet")
    table = read_probes(tmp_path / "probes.parquet", score={"letter": "sum", "cloze": "pmi"})
    assert table["id"].to_list() == [str(i) for i in range(6)]
    assert table["score"].to_list() == ["sum", "pmi"] * 3
    assert table["probs"][0].to_list() == make_doc()["probs"]
    assert table["probs"][1].to_list() == pytest.approx(softmax(PMI))


@pytest.mark.parametrize("order", range(4))
def test_of_choices_that_tie_the_first_one_shown_is_the_prediction(tmp_path: Path, order: int) -> None:
    log = write_log(tmp_path, make_texts(1, order, loglikelihoods_pmi=[-1.0, 2.0, 0.0, 2.0]))  # as they are shown
    assert read_probes(log, score="pmi")["prediction"].to_list() == [(1 + order) % 4]
    write_probes(read_probes(log), tmp_path / "probes.parquet")
    assert read_probes(tmp_path / "probes.parquet", score="pmi")["prediction"].to_list() == [(1 + order) % 4]


def test_questions_with_unlike_numbers_of_choices_are_read_together(tmp_path: Path) -> None:
    few = make_texts(2, **{name: make_texts(2)[name][:2] for name in ("choices", *SCORED_BY.values())})
    few |= read_probe(few["loglikelihoods"], few["answer"])
    few["question_hash"] = hash_questions(pl.DataFrame([{name: few[name] for name in QUESTION_SCHEMA}], QUESTION_SCHEMA))[0]
    table = read_probes(write_log(tmp_path, make_texts(1), few, make_texts(3)), score="pmi")
    assert [len(row) for row in table["probs"]] == [4, 2, 4]
    assert [row.to_list() for row in table["probs"]] == [pytest.approx(softmax(PMI[:n])) for n in (4, 2, 4)]


@pytest.mark.parametrize(
    ("docs", "score", "message"),
    [
        ([make_doc(1)], "pmi", r"--score pmi: .*jsonl, s/d id '1' was scored by letter, and of letters there is the sum alone"),
        ([make_texts(1)], "pmy", r"--score 'pmy' \(is 'pmi' meant\?\) is none of sum, per_character, pmi"),
        (
            [make_texts(1), make_texts(2, loglikelihoods_per_character=None)],
            "per_character",
            r"row 2 \(s/d id '2'\) has no loglikelihoods_per_character.* Read it with --score sum, or name the log",
        ),
    ],
)
def test_what_has_no_such_score_is_refused(tmp_path: Path, docs: list[dict], score: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_probes(write_log(tmp_path, *docs), score=score)
    assert read_probes(tmp_path, score="sum").height == len(docs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.with_columns(score=pl.lit("per_token")), "score 'per_token' is none of sum"),
        (lambda t: t.with_columns(scoring=pl.lit("letter")), "score 'pmi' is not sum, the only one of letters"),
    ],
)
def test_a_table_with_a_score_that_is_none_is_refused(tmp_path: Path, change: Callable, message: str) -> None:
    table = read_probes(write_log(tmp_path, make_texts(1)), score="pmi")
    write_probes(change(table), tmp_path / "probes.parquet")
    with pytest.raises(UserError, match=message):
        read_probes(tmp_path / "probes.parquet")


def test_several_scores_are_not_read_together(tmp_path: Path) -> None:
    for number, score in enumerate(("sum", "pmi")):
        log = write_log(tmp_path, make_texts(number), name=f"samples_t_{number}.jsonl")
        write_probes(read_probes(log, score=score), tmp_path / f"probes_{score}.parquet")
    tables = [tmp_path / "probes_sum.parquet", tmp_path / "probes_pmi.parquet"]
    with pytest.raises(UserError, match=r"several scores: .*probes_sum.parquet by sum and .*probes_pmi.parquet by pmi\. Read"):
        read_probes(tables)
    assert set(read_probes(tables, score="pmi")["score"]) == {"pmi"}


def test_the_table_command_takes_a_score_and_averages_keep_it(tmp_path: Path) -> None:
    log = write_log(tmp_path, *(make_texts(1, order) for order in range(4)))
    file = tmp_path / "probes.parquet"
    done = CliRunner().invoke(app, ["table", str(log), "--output", str(file), "--score", "per_character", "--average"])
    assert done.exit_code == 0, done.output
    assert read_probes(file).equals(average_orders(read_probes(log, score="per_character")).select(read_probes(file).columns))
    with pytest.raises(UserError, match=r"no loglikelihoods, so .* Read it with --score per_character"):
        read_probes(file, score="sum")


def test_each_score_has_a_column_of_its_name() -> None:
    assert [*SCORED_BY.values()] == ["loglikelihoods", *(f"loglikelihoods_{name}" for name in [*SCORES][1:])]
