"""The contract of free-form questions: what it takes, what it refuses and says, and how answers are compared."""

from pathlib import Path

import polars as pl
import pytest
from conftest import ROOT
from free_form import make_free_form, write_free_form
from pack import make_questions, write_questions

from lm_eval_tasks.contracts.answers import is_accepted, merge_answers, normalise_answer
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.free_form import (
    FREE_FORM,
    FREE_FORM_SCHEMA,
    MULTIPLE_CHOICE,
    check_free_form,
    find_set_kind,
    hash_free_form,
    read_free_form,
)
from lm_eval_tasks.contracts.questions import read_questions


def test_a_free_form_set_is_read_with_splits_and_hashes(tmp_path: Path) -> None:
    rows = make_free_form(6)
    folder = write_free_form(tmp_path / "set", {"herbs": {"train": rows[:3], "test": rows[3:]}})
    table = read_free_form(folder)
    assert table.columns == [*FREE_FORM_SCHEMA, "split", "question_hash"]
    assert table["answers"].to_list() == [row["answers"] for row in rows]
    assert table["split"].to_list() == ["train"] * 3 + ["test"] * 3
    assert table["question_hash"].n_unique() == 6
    assert read_free_form(folder, ["herbs"], ["test"])["id"].to_list() == [row["id"] for row in rows[3:]]
    assert find_set_kind(folder) is FREE_FORM
    with pytest.raises(UserError, match="has no domain 'rocks'; it has herbs"):
        read_free_form(folder, ["rocks"])


def test_the_two_kinds_are_told_apart_in_one_sentence_that_says_what_to_do(tmp_path: Path) -> None:
    free = write_free_form(tmp_path / "free", {"herbs": {"test": make_free_form(3)}})
    choices = write_questions(tmp_path / "choices", {"herbs": {"test": make_questions(3)}})
    assert find_set_kind(choices) is MULTIPLE_CHOICE
    with pytest.raises(UserError, match=r"free-form questions.*no choices.*selfalign_answer_greedy") as raised:
        read_questions(free)
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match=r"multiple-choice questions.*no accepted.*selfalign_probe") as raised:
        read_free_form(choices)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"answers": []}, r"row 2 \(id 'q-1'\): answers .* is empty; write an accepted text or drop the row"),
        ({"answers": None}, "answers None is missing"),
        ({"answers": ["Rome", " \u200b"]}, "answers .* hold a blank one"),
        ({"answers": ["Rome", None]}, "answers .* hold a blank one"),
        ({"question": " "}, "question ' ' is blank"),
        ({"source": None}, "source None is missing"),
    ],
)
def test_what_breaks_the_contract_is_named_with_its_row(change: dict, told: str) -> None:
    rows = [{"domain": "herbs"} | row for row in make_free_form(3)]
    rows[1] |= change
    with pytest.raises(UserError, match=told):
        check_free_form(pl.DataFrame(rows, FREE_FORM_SCHEMA), "mine.parquet")


def test_the_hash_is_of_the_question_and_of_every_answer_in_its_order() -> None:
    versions = [("q", ["a", "b"]), ("q", ["b", "a"]), ("q", ["ab"]), ("q", ["a"]), ("p", ["a", "b"]), ("q1:", ["a", "b"])]
    table = pl.DataFrame(versions, {"question": pl.String, "answers": pl.List(pl.String)}, orient="row")
    assert hash_free_form(table).n_unique() == len(versions)


@pytest.mark.parametrize(
    "alike",
    [
        ("The Beatles", "beatles", "  BEATLES. ", "“Beatles”"),
        ("1,000", "1000", "1000.0", "one thousand", "１０００"),
        ("3", "3.0", "three", "3.00"),
        ("0.5", ".5", "0.50"),
        ("twenty-one", "21", "twenty one"),
        ("1,250,000", "1.25 million", "1250000"),
        ("4 July 1776", "July 4, 1776", "1776-07-04", "4th of July 1776", "Jul. 4, 1776", "1776-7-4"),
        ("1914-1918", "1914–1918", "1914 - 1918"),
        ("U.S.A.", "USA", "u.s.a"),
        ("J.K. Rowling", "J. K. Rowling", "JK Rowling"),
        ("Jean-Paul Sartre", "Jean Paul Sartre"),
        ("rock & roll", "rock and roll", "Rock and Roll"),
        ("O'Brien", "O’Brien", "OBrien"),
        ("St. Louis", "St Louis"),
        ("-20", "−20"),
        ("Straße", "STRASSE"),
    ],
)
def test_what_says_the_same_is_the_same(alike: tuple[str, ...]) -> None:
    assert len({normalise_answer(text) for text in alike}) == 1, [normalise_answer(text) for text in alike]


def test_what_says_something_else_stays_apart() -> None:
    texts = ["C", "C++", "C#", "20", "-20", "2.0.1", "Vitamin A", "Vitamin", "hepatitis B", "1776", "1776-07-04", "1976", "5%"]
    texts += ["19 84", "1984", "31", "3.1", "1.5", "15", "हिन्दी", "हिंदी भाषा", "東京", "京都", "?", "!"]
    assert len({normalise_answer(text) for text in texts}) == len(texts)


def test_an_accepted_text_is_any_alias_and_a_blank_one_never_is() -> None:
    assert is_accepted("the St. Louis", ["Saint Louis", "St Louis"])
    assert not is_accepted("Louis", ["Saint Louis", "St Louis"])
    assert not is_accepted(" ", ["Saint Louis"])
    assert merge_answers(["A", "a", "the A", None, "\t", "B"]) == ["A", "B"]


def test_normalising_twice_is_normalising_once() -> None:
    for file in (ROOT / "README.md", ROOT / "CHANGELOG.md"):
        for line in file.read_text(encoding="utf-8").splitlines():
            once = normalise_answer(line)
            assert normalise_answer(once) == once
