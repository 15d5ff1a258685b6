"""General instructions from files of every kind and from data sets."""

import json
from pathlib import Path

import datasets
import polars as pl
import pytest
from made_up import says, write_jsonl

from intervention.sources.general import name_source, read_general
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.rules import Rule

ROWS = [{"instruction": f"Say {i}.", "input": "" if i % 2 else f"in {i}", "output": f"{i}"} for i in range(20)]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "folder"])
def test_all_kinds_of_files_give_the_same_rows(tmp_path: Path, kind: str) -> None:
    table = pl.DataFrame(ROWS)
    if kind == "jsonl":
        source = write_jsonl(tmp_path / "general.jsonl", ROWS)
    elif kind == "csv":
        source = tmp_path / "general.csv"
        table.write_csv(source)
    elif kind == "parquet":
        source = tmp_path / "general.parquet"
        table.write_parquet(source)
    else:  # what the Hub would give; `load_dataset` reads it alike
        source = tmp_path / "general"
        (source / "data").mkdir(parents=True)
        datasets.Dataset.from_list(ROWS).to_parquet(str(source / "data/train-00000-of-00001.parquet"))
    rows = read_general(str(source), 20, 0, "letter", Rule(), "sum")
    assert dict(zip(says(rows, "prompt"), says(rows, "completion"), strict=True)) == {
        f"Say {i}." if i % 2 else f"Say {i}.\n\nin {i}": f"{i}" for i in range(20)
    }
    assert set(rows["source"]) == {"general"}
    assert rows["id"].to_list() != sorted(rows["id"].to_list(), key=int)


def test_input_may_be_missing(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "g.jsonl", [{"instruction": "Say it.", "output": "It."}])
    assert says(read_general(str(source), 1, 0, "text", Rule(), "sum"), "prompt") == ["Say it."]


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"g.jsonl has no column 'output' .what is answered."):
        read_general(str(write_jsonl(tmp_path / "g.jsonl", [{"instruction": "Say it."}])), 1, 0, "text", Rule(), "sum")
    with pytest.raises(UserError, match=r"nowhere.jsonl is not a file"):
        read_general(str(tmp_path / "nowhere.jsonl"), 1, 0, "text", Rule(), "sum")
    with pytest.raises(UserError, match=r"/empty, config 'default', split 'train' cannot be read: "):
        (tmp_path / "empty").mkdir()
        read_general(str(tmp_path / "empty"), 1, 0, "text", Rule(), "sum")
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "train.jsonl").write_text(json.dumps({"text": "x"}) + "\n")
    with pytest.raises(UserError, match=r"has no column 'instruction' .what is asked."):
        read_general(str(folder), 1, 0, "text", Rule(), "sum")


def test_a_data_set_of_the_hub_keeps_its_name() -> None:
    assert name_source("vicgalle/alpaca-gpt4") == "vicgalle/alpaca-gpt4"
