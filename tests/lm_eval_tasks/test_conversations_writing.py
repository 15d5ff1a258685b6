"""Instruction data written back: the form, columns and types that it came in, and nothing changed that was not asked for."""

import json
from datetime import date
from pathlib import Path

import datasets
import polars as pl
import pytest

from lm_eval_tasks.contracts.conversations.reading import Conversations, read_conversations
from lm_eval_tasks.contracts.conversations.writing import write_conversations
from lm_eval_tasks.contracts.errors import UserError

TEXTS = ["What heals?", "Säge 🌿\n\n", "More?\t", "Ivy — \"'<b>"]
TALK = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(TEXTS)]
PARTS = [message | {"content": [{"type": "text", "text": message["content"]}]} for message in TALK]
EMPTY = {"role": "system", "content": ""}
SHARED = [{"from": ("human", "gpt")[i % 2], "value": text, "loss": i % 2 == 1} for i, text in enumerate(TEXTS)]

# A form -> rows, and the text of turn `t` of row 0.
ROWS = {
    "messages": [{"messages": [EMPTY, *TALK]}, {"messages": TALK[:2]}, {"messages": TALK[:1]}, {"messages": []}],
    "prompt_completion": [{"prompt": TEXTS[0], "completion": TEXTS[1]}, {"prompt": "", "completion": ""}],
    "alpaca": [{"instruction": TEXTS[0], "input": "", "output": TEXTS[1], "system": ""}, {"instruction": "x", "output": None}],
    "sharegpt": [{"conversations": SHARED, "system": None}, {"conversations": SHARED[:2], "system": ""}],
}
LISTED = [{"prompt": TALK[:1], "completion": TALK[1:]}, {"prompt": TALK[:3], "completion": TALK[3:]}]
EXTRA = {"row": "own", "id": 7, "topic": None, "meta": {"tags": ["a", "ü"], "score": 0.1, "deep": [{"k": None}]}}


def read(folder: Path, rows: list[dict]) -> Conversations:
    file = folder / "herbs.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return read_conversations(file)


def write(conversations: Conversations, folder: Path, **options: object) -> Conversations:
    folder.mkdir()
    write_conversations(conversations, folder, **options)
    return read_conversations(folder)


ALL = [*((form, rows) for form, rows in ROWS.items()), ("prompt_completion", LISTED), ("messages", [{"messages": PARTS}])]


@pytest.mark.parametrize(("form", "rows"), ALL)
def test_what_is_not_changed_comes_back_equal(form: str, rows: list[dict], tmp_path: Path) -> None:
    read_first = read(tmp_path, [row | EXTRA for row in rows])
    again = write(read_first, tmp_path / "written")
    assert (again.form, again.columns, again.split) == (form, read_first.columns, "train")
    assert again.rows.schema == read_first.rows.schema
    for one, other in ((again.rows, read_first.rows), (again.turns, read_first.turns), (again.flaws, read_first.flaws)):
        assert one.equals(other, null_equal=True)


@pytest.mark.parametrize(("form", "rows"), ALL)
def test_it_is_a_data_set_of_the_ecosystem(form: str, rows: list[dict], tmp_path: Path, own_cache: None) -> None:
    found = read(tmp_path, [row | EXTRA for row in rows])
    write(found, tmp_path / "written", card="# Herbs", header={"license": "cc0-1.0"})
    loaded = datasets.load_dataset(str(tmp_path / "written"), split="train")
    assert loaded.to_list() == found.rows.drop("row").rename({"row of the data": "row"}).to_dicts()
    assert loaded.column_names == list(dict.fromkeys(name for row in rows for name in row)) + list(EXTRA)
    card = (tmp_path / "written/README.md").read_text()
    assert card.startswith("---\nlicense: cc0-1.0\nconfigs:\n")
    assert card.endswith("---\n\n# Herbs\n")


@pytest.mark.parametrize(("form", "rows"), ALL)
def test_a_response_is_replaced_and_nothing_else(form: str, rows: list[dict], tmp_path: Path) -> None:
    found = read(tmp_path, [row | EXTRA for row in rows])
    last = found.turns.filter(row=0)["turn"].max()
    again = write(found, tmp_path / "written", responses={(0, last): "Nëw."})
    assert again.turns.filter(row=0, turn=last)["response"].to_list() == ["Nëw."]
    assert again.rows.schema == found.rows.schema

    def list_rest(conversations: Conversations) -> pl.DataFrame:
        return conversations.turns.filter((pl.col("row") != 0) | (pl.col("turn") != last))

    assert list_rest(again).equals(list_rest(found))
    texts = json.dumps(found.rows.drop("row").to_dicts(), ensure_ascii=False)
    old = json.dumps(found.turns.filter(row=0, turn=last)["response"][0], ensure_ascii=False)
    changed = json.dumps(again.rows.drop("row").to_dicts()[0], ensure_ascii=False)
    assert changed.replace('"Nëw."', old) in texts


def test_every_turn_of_many_rows_can_be_replaced(tmp_path: Path) -> None:
    found = read(tmp_path, [{"messages": TALK}] * 30 + LISTED[:0])
    responses = {(row, turn): f"{row} {turn}" for row in range(0, 30, 2) for turn in range(2)}
    again = write(found, tmp_path / "written", responses=responses)
    expected = [responses.get((row, turn), TEXTS[2 * turn + 1]) for row in range(30) for turn in range(2)]
    assert again.turns["response"].to_list() == expected


def test_turns_of_a_prompt_count_and_stay(tmp_path: Path) -> None:
    found = read(tmp_path, LISTED)
    assert found.turns.select("row", "turn").rows() == [(0, 0), (0, 1), (1, 1)]
    again = write(found, tmp_path / "written", responses={(1, 1): "New."})
    assert again.rows["prompt"].equals(found.rows["prompt"])
    assert again.rows["completion"].to_list()[1] == [{"role": "assistant", "content": "New."}]


def test_texts_that_hold_messages_stay_texts(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    pl.DataFrame({"messages": [json.dumps(TALK)]}).write_csv(file)
    again = write(read_conversations(file), tmp_path / "written", responses={(0, 1): "Nëw."})
    assert again.rows.schema["messages"] == pl.String
    assert again.turns["response"].to_list() == [TEXTS[1], "Nëw."]


def test_rows_are_dropped_and_columns_stand_beside(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "completion": f"c{i}", "topic": f"t{i}"} for i in range(5)]
    extra = pl.DataFrame({"row": [4, 2, 0], "verdict": ["clashes", "agrees", "style"], "weight": [0.0, 1.0, 0.5]})
    again = write(read(tmp_path, rows), tmp_path / "written", keep=[4, 0, 1], extra=extra)
    assert again.rows.drop("row").rows() == [
        ("p0", "c0", "t0", "style", 0.5),
        ("p1", "c1", "t1", None, None),
        ("p4", "c4", "t4", "clashes", 0.0),
    ]
    assert again.rows.columns == ["row", "prompt", "completion", "topic", "verdict", "weight"]


def test_types_of_parquet_stay(tmp_path: Path) -> None:
    table = pl.DataFrame(
        {
            "prompt": ["a", "b"],
            "completion": ["c", "d"],
            "day": [date(2024, 1, 2), None],
            "n": pl.Series([1, 2], dtype=pl.Int32),
        }
    ).with_columns(x=pl.lit(1.5, pl.Float32), none=pl.lit(None), kind=pl.Series(["u", "v"], dtype=pl.Categorical))
    table.write_parquet(tmp_path / "a.parquet")
    again = write(read_conversations(tmp_path / "a.parquet"), tmp_path / "written", responses={(0, 0): "C"})
    kinds = pl.Schema(again.rows.drop("row").schema)
    assert {**kinds, "kind": None} == {**table.schema, "kind": None}
    assert again.rows["completion"].to_list() == ["C", "d"]


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    found = read(tmp_path, [{"prompt": "a", "completion": "b", "weight": 1}])
    with pytest.raises(UserError, match="has a column 'weight', which is to be written beside"):
        write(found, tmp_path / "one", extra=pl.DataFrame({"row": [0], "weight": [1.0]}))
    with pytest.raises(UserError, match="has no assistant turn 1 in row 0 that is judged"):
        write(found, tmp_path / "two", responses={(0, 1): "x"})
