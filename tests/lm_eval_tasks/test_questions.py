import polars as pl
import pytest

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import (
    QUESTION_SCHEMA,
    check_questions,
    check_unique,
    hash_questions,
    read_questions,
    rotate_choices,
)

GOOD = {
    "id": "1",
    "source": "s",
    "domain": "d",
    "subject": None,
    "question": "Which?",
    "choices": ["a", "b", "c"],
    "answer": 2,
    "explanation": None,
    "topics": [],
}


def make_table(*changes):
    return pl.DataFrame([GOOD | change for change in changes], schema=QUESTION_SCHEMA)


def test_a_right_question_passes_unchanged():
    table = make_table(
        {}, {"id": "2", "choices": list("abcdefghij"), "answer": 9}, {"id": "3", "choices": ["x", "y"], "answer": 0}
    )
    assert check_questions(table, "here").equals(table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": 3}, "answer 3 is not the 0-based index"),
        ({"answer": -1}, "answer -1 is not"),
        ({"answer": None}, "answer None is missing"),
        ({"choices": ["a"], "answer": 0}, "fewer than 2"),
        ({"choices": list("abcdefghijk")}, "more than 10"),
        ({"choices": ["a", None, "c"]}, "hold an empty one"),
        ({"choices": ["a", " ", "c"]}, "hold an empty one"),
        ({"choices": None}, "choices None is missing"),
        ({"question": "  "}, "blank"),
        ({"id": None}, "id None is missing"),
    ],
)
def test_the_first_wrong_question_is_named(change, message):
    with pytest.raises(UserError, match=message) as error:
        check_questions(make_table({}, change), "set/test.parquet")
    assert "set/test.parquet, row 2" in str(error.value)


def test_a_missing_column_and_a_wrong_type_are_named():
    with pytest.raises(UserError, match="no column 'choices'"):
        check_questions(make_table({}).drop("choices"), "here")
    with pytest.raises(UserError, match="not of the contract's type"):
        check_questions(make_table({}).with_columns(answer=pl.lit("two")), "here")


def test_an_id_that_occurs_twice_is_named():
    check_unique(make_table({}, {"domain": "other"}), "here")
    with pytest.raises(UserError, match=r"id '1' occurs more than once"):
        check_unique(make_table({}, {"question": "Another?"}), "here")


@pytest.mark.parametrize("order", [0, 1, 2, 3, 7])
def test_rotating_shows_from_a_choice_on_and_rotates_back(order):
    table = make_table({}, {"id": "2", "choices": ["x", "y"], "answer": 0})
    shown = rotate_choices(table, order)
    assert shown["choices"][0].to_list() == ["abc"[(i + order) % 3] for i in range(3)]
    assert shown["choices"][1].to_list() == ["xy"[(i + order) % 2] for i in range(2)]
    assert rotate_choices(shown, -order).equals(table)


def test_the_hash_sees_text_choices_order_and_answer_and_nothing_else():
    same = hash_questions(make_table({}, {"id": "9", "explanation": "why", "domain": "e"}))
    assert same.n_unique() == 1
    different = hash_questions(
        make_table(
            {}, {"question": "What?"}, {"choices": ["b", "a", "c"]}, {"answer": 1}, {"choices": ["a", "b\x1fc"], "answer": 1}
        )
    )
    assert different.n_unique() == 5


def test_the_miniature_world_is_a_question_set(questions):
    table = read_questions(questions)
    assert table["question_hash"].null_count() == 0
    assert set(table["split"]) == {"train", "dev", "test"}
    herbs = read_questions(questions, ["herbs"], ["test"])
    assert set(herbs["domain"]) == {"herbs"}
    with pytest.raises(UserError, match=r"no domain 'nowhere'; it has annals, customs, engines, herbs"):
        read_questions(questions, ["nowhere"])
    with pytest.raises(UserError, match="not a data set folder"):
        read_questions(questions.parent)
