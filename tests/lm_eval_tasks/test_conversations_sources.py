"""Instruction data from files of every kind, folders and the Hub; what cannot be read is said in one line."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from hub_server import Hub, Repo

from lm_eval_tasks.contracts.conversations.reading import read_conversations
from lm_eval_tasks.contracts.errors import UserError

ROWS = [
    {"instruction": "What heals?", "input": "", "output": "Säge\n🌿", "topic": "herbs"},
    {"instruction": "What salts?", "input": "Salt, soot", "output": "NA", "topic": "007"},
]
TALK = [{"role": "user", "content": "What heals?"}, {"role": "assistant", "content": "Sage."}]
LINES = "".join(f"{json.dumps(row)}\n" for row in ROWS)


def write(file: Path, rows: list[dict] = ROWS) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    table, packed = pl.DataFrame(rows), file.suffix == ".gz"
    match file.name.removesuffix(".gz").rpartition(".")[2]:
        case "parquet":
            table.write_parquet(file)
            return file
        case "csv" | "tsv" as kind:
            text = table.write_csv(separator="\t" if kind == "tsv" else ",")
        case "json":
            text = json.dumps(rows, indent=1)
        case _:
            text = "\n".join(map(json.dumps, rows))
    file.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return file


@pytest.mark.parametrize(
    "name",
    ["a.jsonl", "a.jsonl.gz", "a.ndjson", "a.json", "a.json.gz", "a.csv", "a.csv.gz", "a.tsv", "a.parquet", "a.v2.JSONL"],
)
def test_files_of_every_kind_hold_the_same(name: str, tmp_path: Path) -> None:
    found = read_conversations(write(tmp_path / name))
    assert found.rows.drop("row").to_dicts() == ROWS
    assert found.turns["response"].to_list() == ["Säge\n🌿", "NA"]
    assert found.flaws.is_empty()


def test_a_json_file_may_be_of_lines_and_lines_may_be_blank(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(f"\n{LINES}\n  \n{LINES}")
    assert read_conversations(file).rows.height == 4


def test_messages_as_text_in_a_column_are_read_as_json(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    pl.DataFrame({"messages": [json.dumps(TALK), "no list"]}).write_csv(file)
    found = read_conversations(file)
    assert found.turns["response"].to_list() == ["Sage."]
    assert found.flaws.select("row", "flaw").rows() == [(1, "not_text")]


def test_values_that_no_type_of_a_table_holds_are_kept_as_json(tmp_path: Path) -> None:
    odd = [{"messages": TALK, "a": [1, "x", [2]], "b": {}}, {"messages": TALK, "a": {"c": 1}, "b": {}}]
    for name in ("a.jsonl", "a.json"):
        (tmp_path / name).write_text(json.dumps(odd) if name == "a.json" else "\n".join(map(json.dumps, odd)))
        found = read_conversations(tmp_path / name)
        assert found.turns.height == 2
        assert [[json.loads(text) for text in found.rows[name]] for name in "ab"] == [[[1, "x", [2]], {"c": 1}], [{}, {}]]


def test_parquet_with_parts_and_further_keys_of_messages(tmp_path: Path) -> None:
    parts = [[{"type": "text", "text": text}] for text in ("What heals?", "Sage.")]
    rows = [{"messages": [m | {"content": part, "weight": 1} for m, part in zip(TALK, parts)]}]
    file = tmp_path / "a.parquet"
    pl.DataFrame(rows).write_parquet(file)
    assert read_conversations(file).turns.row(0, named=True)["messages"] == [{"role": "user", "content": "What heals?"}]


def test_a_folder_of_files_is_read_in_order(tmp_path: Path) -> None:
    for name, topic in (("b.csv", "two"), ("a.jsonl", "one"), ("deep/c.parquet", "three")):
        write(tmp_path / name, [ROWS[0] | {"topic": topic}])
    write(tmp_path / "d.jsonl", [{"instruction": "x", "output": "y", "id": 7}])
    for name in ("manifest.json", "dataset_infos.json", ".cache/e.jsonl", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    found = read_conversations(tmp_path)
    assert found.rows["topic"].to_list() == ["one", "two", None, "three"]
    assert found.rows["id"].to_list() == [None, None, 7, None]
    assert found.ids.to_list() == ["0", "1", "7", "3"]
    assert found.turns["response"].to_list() == ["Säge\n🌿", "Säge\n🌿", "y", "Säge\n🌿"]


def test_the_split_of_a_folder_is_told_by_its_paths(tmp_path: Path) -> None:
    for name in ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"):
        write(tmp_path / name, [ROWS[0] | {"topic": name[5:14]}])
    assert read_conversations(tmp_path).rows["topic"].to_list() == ["train-000"] * 2
    found = read_conversations(tmp_path, split="test")
    assert (found.split, found.rows["topic"].to_list()) == ("test", ["test-0000"])
    with pytest.raises(UserError, match=r"has no split 'dev'; it has test, train\."):
        read_conversations(tmp_path, split="dev")


def write_card(folder: Path, header: str) -> None:
    (folder / "README.md").write_text(f"---\n{header}---\n\nHerbs.\n")


SETS = """\
configs:
- config_name: herbs
  data_files:
  - {split: train, path: herbs/train-*.parquet}
  - {split: test, path: [herbs/test.jsonl]}
- config_name: salts
  data_files: salts/*.csv
"""


def test_the_configs_of_a_card_are_read(tmp_path: Path) -> None:
    for name in ("herbs/train-0.parquet", "herbs/train-1.parquet", "herbs/test.jsonl", "salts/a.csv", "other.jsonl"):
        write(tmp_path / name, [ROWS[0] | {"topic": name}])
    write_card(tmp_path, SETS)

    def list_topics(**options: str) -> list[str]:
        return read_conversations(tmp_path, **options).rows["topic"].to_list()

    assert list_topics(config="herbs") == ["herbs/train-0.parquet", "herbs/train-1.parquet"]
    assert list_topics(config="herbs", split="test") == ["herbs/test.jsonl"]
    assert list_topics(config="salts") == ["salts/a.csv"]
    for options, message in (
        ({}, "has several configs: name one of herbs, salts (--config)."),
        ({"config": "ivy"}, "has no config 'ivy': name one of herbs, salts (--config)."),
        ({"config": "herbs", "split": "dev"}, "config 'herbs' has no split 'dev': name one of train, test (--split)."),
    ):
        with pytest.raises(UserError) as error:
            list_topics(**options)
        assert message in str(error.value)
    (tmp_path / "salts/a.csv").unlink()
    with pytest.raises(UserError, match=r"README\.md names salts/\*\.csv, which does not exist"):
        list_topics(config="salts")
    for path in ("/gone/*.csv", "''"):
        write_card(tmp_path, f"configs:\n- {{config_name: herbs, data_files: {path}}}\n")
        with pytest.raises(UserError, match="which does not exist"):
            list_topics()
    write_card(tmp_path, "configs:\n- {config_name: herbs}\n")
    with pytest.raises(UserError, match="of its header name no files"):
        list_topics()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", "", "a.jsonl is empty. Name a file that holds"),
        ("a.json", "[]", "a.json is empty."),
        ("a.csv", "instruction,output\n", "a.csv is empty."),
        ("a.csv", "", "a.csv cannot be read: "),
        ("a.parquet", "none", "a.parquet cannot be read: "),
        ("a.json", '[{"output": 1}', "a.json is not whole JSON ("),
        ("a.json", '[{"output": 1}, 2]', "a.json, item 2 is not a JSON object but 2. Write one object a row"),
        ("a.jsonl", f'{LINES}{{"output": ', "a.jsonl, line 3 is not a whole line of JSON (the file ends in the middle of it)"),
        ("a.jsonl", f"{LINES}[1]\n", "a.jsonl, line 3 is not a JSON object but [1]"),
        ("a.jsonl", f"\ufeff{LINES}", "a.jsonl, line 1 is not"),
        ("a.jsonl.gz", LINES, "a.jsonl.gz is cut or damaged"),
        ("a.xlsx", "x", "a.xlsx is not of a kind that is read. Name JSON lines or JSON"),
    ],
)
def test_files_that_cannot_be_read_are_said(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as error:
        read_conversations(tmp_path / name)
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["gone.jsonl", "./gone", "/gone/data", "a/b/c", "~/data"])
def test_what_is_not_there_is_said(name: str) -> None:
    with pytest.raises(UserError, match=r"is neither a file nor a folder\. Name JSON lines or JSON"):
        read_conversations(name)


def test_options_that_do_not_fit_are_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no file of data"):
        read_conversations(tmp_path)
    file = write(tmp_path / "a.jsonl")
    with pytest.raises(UserError, match="is a file, which has no splits or configs"):
        read_conversations(file, split="train")
    with pytest.raises(UserError, match=r"has no configs: its README\.md has no"):
        read_conversations(tmp_path, config="herbs")


@pytest.mark.parametrize("value", [{"a": 1}, ["x"], 7, True])
def test_files_whose_columns_are_of_other_types_are_not_joined(value: object, tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl")
    write(tmp_path / "b.jsonl", [ROWS[0] | {"topic": value}])
    with pytest.raises(
        UserError, match=r"a\.jsonl has String in the column 'topic', but .*b\.jsonl has .*\. Read them apart\."
    ):
        read_conversations(tmp_path)


def test_files_whose_messages_have_other_keys_are_joined(tmp_path: Path) -> None:
    for name, more in (("a", {"weight": 1}), ("b", {"weight": 0.5, "name": "x"}), ("c", {}), ("d", {"weight": None})):
        write(tmp_path / f"{name}.jsonl", [{"messages": [message | more for message in TALK], "n": more.get("weight")}])
    found = read_conversations(tmp_path)
    assert found.turns["response"].to_list() == ["Sage."] * 4
    assert found.rows["n"].to_list() == [1, 0.5, None, None]
    assert [row[0]["weight"] for row in found.rows["messages"]] == [1, 0.5, None, None]


READ = """\
import json, sys
from lm_eval_tasks.contracts.conversations.reading import read_conversations
from lm_eval_tasks.contracts.errors import report_errors
with report_errors():
    found = read_conversations(sys.argv[1], split=sys.argv[2] or None)
    print(json.dumps([found.form, found.turns["response"].to_list(), found.flaws["flaw"].to_list()]))
"""


@pytest.mark.launched
def test_a_data_set_of_the_hub_is_read(hub: Hub, tmp_path: Path) -> None:
    image = [{"role": "user", "content": [{"type": "image"}]}, TALK[1]]
    texts = {"train": [{"messages": TALK}, {"messages": image}], "test": [{"messages": TALK * 2}]}
    files = {f"{split}.jsonl": "".join(f"{json.dumps(row)}\n" for row in rows).encode() for split, rows in texts.items()}
    hub.repos["anna/herbs"] = Repo(commits={"1" * 40: files})
    own = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    own["HF_DATASETS_CACHE"] = str(tmp_path / "cache")
    variables = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "HF_TOKEN")} | own

    def read(name: str, split: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", READ, name, split]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=variables)

    done = read("anna/herbs")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ["messages", ["Sage."], ["image"]]
    assert json.loads(read("anna/herbs", "test").stdout.splitlines()[-1])[1] == ["Sage.", "Sage."]
    for done in (read("anna/herbs", "dev"), read("anna/gone")):
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("error: anna/")
