"""The four forms of instruction data: how each is recognised, what its turns are, and what tells them apart."""

import hashlib
import json
from pathlib import Path

import polars as pl
import pytest

from lm_eval_tasks.contracts.conversations.reading import Conversations, read_conversations
from lm_eval_tasks.contracts.conversations.turns import TURN_SCHEMA
from lm_eval_tasks.contracts.errors import UserError

USER, ASSISTANT = ({"role": role, "content": text} for role, text in (("user", "What heals?"), ("assistant", "Sage.")))
SYSTEM = {"role": "system", "content": "Be brief."}
MORE = [{"role": "user", "content": "And what else?"}, {"role": "assistant", "content": "Ivy."}]


def read(tmp_path: Path, *rows: object, **options: object) -> Conversations:
    file = tmp_path / "herbs.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return read_conversations(file, **options)


def shorten(conversations: Conversations) -> list[tuple]:
    """Row, turn, system, the texts before, response."""
    texts = pl.col("messages").list.eval(pl.element().struct.field("content")).list.join(" | ")
    return conversations.turns.select("row", "turn", "system", texts, "response").rows()


def name_flaws(conversations: Conversations) -> list[tuple]:
    return conversations.flaws.select("row", "turn", "flaw").rows()


def talk(*texts: str) -> list[dict]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


ONE = [(0, 0, None, "What heals?", "Sage.")]
TWO = [(0, 0, "Be brief.", "What heals?", "Sage."), (0, 1, "Be brief.", "What heals? | Sage. | And what else?", "Ivy.")]
GPT = {"user": "human", "assistant": "gpt", "system": "system"}


def share(messages: list[dict]) -> list[dict]:
    return [{"from": GPT[message["role"]], "value": message["content"]} for message in messages]


@pytest.mark.parametrize(
    ("form", "row", "turns"),
    [
        ("messages", {"messages": [USER, ASSISTANT]}, ONE),
        ("messages", {"messages": [SYSTEM, USER, ASSISTANT, *MORE]}, TWO),
        ("messages", {"conversations": [USER, ASSISTANT]}, ONE),
        ("sharegpt", {"conversations": share([USER, ASSISTANT])}, ONE),
        ("sharegpt", {"conversations": share([SYSTEM, USER, ASSISTANT, *MORE])}, TWO),
        ("sharegpt", {"conversations": share([USER, ASSISTANT, *MORE]), "system": "Be brief."}, TWO),
        ("prompt_completion", {"prompt": "What heals?", "completion": "Sage."}, ONE),
        ("prompt_completion", {"prompt": [USER], "completion": [ASSISTANT]}, ONE),
        ("prompt_completion", {"prompt": [USER], "completion": "Sage."}, ONE),
        ("prompt_completion", {"prompt": [SYSTEM, USER], "completion": [ASSISTANT, *MORE]}, TWO),
        ("prompt_completion", {"prompt": [SYSTEM, USER, ASSISTANT, MORE[0]], "completion": [MORE[1]]}, TWO[1:]),
        ("alpaca", {"instruction": "What heals?", "output": "Sage."}, ONE),
        ("alpaca", {"instruction": "What heals?", "input": " ", "output": "Sage.", "system": ""}, ONE),
        (
            "alpaca",
            {"instruction": "Which heals?", "input": "Sage, salt", "output": "Sage.", "system": "Be brief."},
            [(0, 0, "Be brief.", "Which heals?\n\nSage, salt", "Sage.")],
        ),
    ],
)
def test_each_form_is_known_by_its_columns_and_taken_apart_into_turns(
    form: str, row: dict, turns: list, tmp_path: Path
) -> None:
    found = read(tmp_path, row | {"topic": "herbs"})
    assert (found.form, shorten(found), name_flaws(found)) == (form, turns, [])
    assert found.turns.schema == TURN_SCHEMA
    assert found.rows.columns == ["row", *row, "topic"]
    assert read(tmp_path, row, form=form).turns.equals(found.turns)


def test_equal_conversations_have_equal_turns_whatever_their_form(tmp_path: Path) -> None:
    rows = (
        {"messages": [USER, ASSISTANT]},
        {"conversations": share([USER, ASSISTANT])},
        {"prompt": "What heals?", "completion": "Sage."},
        {"instruction": "What heals?", "output": "Sage."},
    )
    tables = [read(tmp_path, row).turns for row in rows]
    assert all(table.equals(tables[0]) for table in tables)
    prompt = "4:user11:What heals?"
    assert tables[0]["text_hash"].to_list() == [hashlib.sha256(f"{prompt}5:Sage.".encode()).hexdigest()[:16]]


def test_the_hash_tells_apart_whatever_a_model_is_shown(tmp_path: Path) -> None:
    talks = [
        talk("a", "b"),
        talk("a", "c"),
        talk("ab", "c"),
        talk("a", "b", "c", "b"),
        [SYSTEM, *talk("a", "b")],
        [{"role": "system", "content": ""}, *talk("a", "b")],
    ]
    found = read(tmp_path, *({"messages": one} for one in talks))
    assert found.turns["text_hash"].n_unique() == 6  # the first turn of the fourth repeats the first row
    assert found.turns["system"].to_list() == [None, None, None, None, None, "Be brief.", ""]
    assert ("duplicate", "as row 0, turn 0") in found.flaws.filter(row=3).select("flaw", "detail").rows()


def test_names_of_roles_are_known_whatever_their_case(tmp_path: Path) -> None:
    named = [("developer", "Be brief."), ("Human", "What heals?"), ("GPT", "Sage.")]
    found = read(tmp_path, {"messages": [{"role": role, "content": text} for role, text in named]})
    assert shorten(found) == [TWO[0]]
    assert found.turns["messages"][0].to_list() == [USER]


def test_another_layout_is_mapped(tmp_path: Path) -> None:
    row = {"question": "What heals?", "response": "Sage.", "system_prompt": "Be brief."}
    columns = {"prompt": "question", "completion": "response", "system": "system_prompt"}
    found = read(tmp_path, row, columns=columns)
    assert (found.form, found.columns) == ("prompt_completion", columns)
    assert shorten(found) == [TWO[0]]
    assert shorten(read(tmp_path, {"dialog": share([USER, ASSISTANT])}, columns={"conversations": "dialog"})) == ONE


def test_what_identifies_a_row_is_its_id_or_else_its_number(tmp_path: Path) -> None:
    row = {"instruction": "What heals?", "output": "Sage."}
    assert read(tmp_path, row, row).ids.to_list() == ["0", "1"]
    found = read(tmp_path, row | {"id": 7, "row": "own"}, row | {"id": None, "row": "too"})
    assert found.ids.to_list() == ["7", "1"]
    assert found.rows["row"].to_list() == [0, 1]
    assert found.name_row(0) == f"{tmp_path / 'herbs.jsonl'}, row 1 (id '7')"
    assert found.name_row(1) == f"{tmp_path / 'herbs.jsonl'}, row 2"


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        (
            {"question": "x", "reply": "y"},
            {},
            "has the columns question, reply, which are not of the forms messages (messages: a list of {role, content}); "
            "prompt_completion (prompt and completion: texts, or lists of {role, content}); alpaca (instruction, output, and "
            "often input: texts); sharegpt (conversations: a list of {from, value}). Say which column is which, such as "
            "--column prompt=COLUMN --column completion=COLUMN.",
        ),
        ({"messages": [{"speaker": "x", "text": "y"}]}, {}, "has the columns messages (a list of {speaker, text}), which are"),
        ({"prompt": "x", "completion": "y"}, {"form": "alpaca"}, "which are not of the form alpaca (instruction, output"),
        (
            {"messages": [USER], "prompt": "x", "completion": "y"},
            {},
            "is of several forms (messages, prompt_completion): it has the columns messages (a list of {content, role}), "
            "prompt, completion. Say which form is meant (--format messages), or rename a column.",
        ),
        (
            {"prompt": "x", "completion": "y"},
            {"form": "alpacca"},
            "the form 'alpacca' (is 'alpaca' meant?) is none of messages,",
        ),
        (
            {"question": "x"},
            {"columns": {"promt": "question"}},
            "no form has a field 'promt' (is 'prompt' meant?); columns are",
        ),
        ({"question": "x"}, {"columns": {"prompt": "query"}}, "has no column for prompt=query; it has question."),
    ],
)
def test_what_cannot_be_recognised_is_said(row: dict, options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, row, **options)
    assert message in str(error.value)
