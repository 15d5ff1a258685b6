"""A question set says what its source said, in the contract's types, or nothing is written."""

import gzip
import json
from pathlib import Path

import datasets
import polars as pl
import pytest
from made_up import make_rows, write_jsonl, write_set

from intervention.sources.jsonlines import read_jsonl
from intervention.sources.questions import convert_jsonl
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import QUESTION_SCHEMA, read_questions

NASTY = "{{ cycler }} {% raw %} <script>alert(1)</script> \x00\x1b[31m \r\n\t \u2028 | `a` --- é 漢字 🌿 \\n"
STRINGS = datasets.List(datasets.Value("string"))


def load(folder: Path, config: str, cache: Path) -> datasets.DatasetDict:
    return datasets.load_dataset(str(folder), config, cache_dir=str(cache / "cache"))


def test_load_dataset_reads_what_was_written(tmp_path: Path) -> None:
    rows = make_rows(30) + make_rows(5, 1, split="dev") + make_rows(9, 2, domain="engines", split="test", choices=2)
    folder = write_set(tmp_path / "set", rows)
    herbs = load(folder, "herbs", tmp_path)
    assert {split: len(part) for split, part in herbs.items()} == {"train": 30, "dev": 5}
    assert herbs["train"].features["choices"] == herbs["train"].features["topics"] == STRINGS
    assert herbs["train"].features["answer"] == datasets.Value("int64")
    # `subject` was in no row; its type is pinned all the same.
    assert herbs["train"].features["subject"] == datasets.Value("string")
    expected = [{name: row.get(name, [] if name == "topics" else None) for name in QUESTION_SCHEMA} for row in rows]
    assert [*herbs["train"].to_list(), *herbs["dev"].to_list()] == expected[:35]
    assert load(folder, "engines", tmp_path)["test"].to_list() == expected[35:]
    assert read_questions(folder).height == 44


def test_text_stays_text(tmp_path: Path) -> None:
    rows = make_rows(4)
    rows[0] |= {
        "question": NASTY,
        "choices": [NASTY, "1", "null"],
        "answer": 0,
        "explanation": NASTY,
        "id": NASTY,
        "topics": [NASTY],
    }
    folder = write_set(tmp_path / "set", rows)
    first = load(folder, "herbs", tmp_path)["train"][0]
    assert [first[name] for name in ("question", "explanation", "id")] == [NASTY] * 3
    assert first["choices"] == [NASTY, "1", "null"]
    assert first["topics"] == [NASTY]
    assert read_questions(folder)["question"][0] == NASTY


def test_a_source_named_like_a_template_leaves_the_card_whole(tmp_path: Path) -> None:
    rows = [row | {"source": "{{ 7 * 7 }} | <b>"} for row in make_rows(4)]
    card = (write_set(tmp_path / "set", rows) / "README.md").read_text()
    assert r"| herbs  | {{ 7 \* 7 }} \| &lt;b&gt; | train |" in card


def test_a_folder_written_again_is_read_again(tmp_path: Path) -> None:
    """`datasets` caches local folders by their header alone."""
    rows = make_rows(8)
    folder = write_set(tmp_path / "set", rows)
    before = load(folder, "herbs", tmp_path)["train"]["answer"][:]
    write_set(folder, [row | {"answer": (row["answer"] + 1) % 4} for row in rows])
    assert load(folder, "herbs", tmp_path)["train"]["answer"][:] == [(answer + 1) % 4 for answer in before]


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    rows = make_rows(50) + make_rows(20, 1, split="test")
    one, two = write_set(tmp_path / "one", rows), write_set(tmp_path / "two", rows)
    files = [file.relative_to(one) for file in one.rglob("*") if file.is_file() and file.name != "manifest.json"]
    assert len(files) == 3
    assert all((one / file).read_bytes() == (two / file).read_bytes() for file in files)
    run_ids = [json.loads((folder / "manifest.json").read_text())["run"] for folder in (one, two)]
    assert run_ids[0] == run_ids[1]


def test_plain_and_gzip_files_join_and_numbers_become_ids(tmp_path: Path) -> None:
    rows = [row | {"id": i} for i, row in enumerate(make_rows(6))]
    write_jsonl(tmp_path / "a.jsonl", rows[:2])
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as stream:
        stream.write("\n\n".join(json.dumps(row) for row in rows[2:]))  # blank lines, and none at the end
    convert_jsonl([tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"], tmp_path / "set")
    assert read_questions(tmp_path / "set")["id"].to_list() == list("012345")


def test_split_of_all(tmp_path: Path) -> None:
    bare = [{name: value for name, value in row.items() if name != "split"} for row in make_rows(5)]
    file = write_jsonl(tmp_path / "a.jsonl", [make_rows(6)[5], *bare])
    with pytest.raises(UserError, match=r"a.jsonl, row 2 .*split None is missing, though other rows name one"):
        convert_jsonl([file], tmp_path / "set")
    write_jsonl(file, bare)
    convert_jsonl([file], tmp_path / "set", "test")
    assert read_questions(tmp_path / "set")["split"].unique().to_list() == ["test"]
    with pytest.raises(UserError, match="--split tset is none of train, dev, test"):
        convert_jsonl([file], tmp_path / "other", "tset")
    with pytest.raises(UserError, match=r"row 1 .*split 'train' differs from --split test"):
        convert_jsonl([write_jsonl(tmp_path / "b.jsonl", make_rows(5))], tmp_path / "other", "test")


BAD = [
    ({"answer": 4}, r"row 3 \(id 'train-2'\): answer 4 is not the 0-based index .*--answers number, letter or"),
    ({"answer": -1}, r"row 3 .*answer -1 is not"),
    ({"answer": None}, r"row 3 .*answer None is missing"),
    ({"answer": "2"}, r"line 3: answer '2' is not a whole number. .*how answers are written: --answers index, number"),
    ({"answer": 1.5}, r"line 3: answer 1.5 is not a whole number"),
    ({"answer": True}, r"line 3: answer True is not a whole number"),
    ({"choices": ["one"], "answer": 0}, r"row 3 .*fewer than 2"),
    ({"choices": []}, r"row 3 .*fewer than 2"),
    ({"choices": [str(i) for i in range(11)]}, r"row 3 .*more than 10"),
    ({"choices": ["a", None, "b", "c"]}, r"row 3 .*hold an empty one"),
    ({"choices": "a, b"}, r"line 3: choices 'a, b' is not a list of which each item is text"),
    ({"choices": {"a": 1}}, r"line 3: choices .* is not a list"),
    ({"question": " \n"}, r"row 3 .*is blank"),
    ({"question": None}, r"row 3 .*question None is missing"),
    ({"id": None}, r"row 3 .*id None is missing"),
    ({"id": "train-0"}, r"id 'train-0' occurs more than once"),
    ({"split": "training"}, r"row 3 .*split 'training' is none of train, dev, test"),
    ({"domain": "../herbs"}, r"'../herbs' cannot be a domain"),
    ({"domain": "her*bs"}, r"'her\*bs' cannot be a domain"),
    ({"explanation": float("nan")}, r"line 3: explanation .*is not text"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_a_bad_row_is_named_and_nothing_written(tmp_path: Path, change: dict, message: str) -> None:
    rows = make_rows(6)
    rows[2] |= change
    with pytest.raises(UserError, match=message) as caught:
        convert_jsonl([write_jsonl(tmp_path / "a.jsonl", rows)], tmp_path / "set")
    assert "a.jsonl" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b'{"id": "1"}\n{"id": "2", "que', r"line 2 is not a whole line of JSON \(the file ends in the middle of it\)"),
        (b'{"id": "1"}\n{"id": "2"} {"id": "3"}\n', "line 2 is not a whole line of JSON"),
        (b'{"id": "1"}\n\n[1, 2]\n', r"line 3 is not a JSON object but '\[1, 2\]'"),
        (b'{"id": "1"}\n{"id": "\xff"}\n', "line 2 is not UTF-8"),
        (b"\xef\xbb\xbf{}\n", "line 1"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: bytes, message: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(text)
    with pytest.raises(UserError, match=message):
        read_jsonl(file, {"id": pl.String})


def test_a_cut_gzip_file_and_a_missing_one_are_named(tmp_path: Path) -> None:
    rows = "".join(json.dumps(row) + "\n" for row in make_rows(200))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(rows.encode())[:-50])
    with pytest.raises(UserError, match=r"a.jsonl.gz is cut or damaged"):
        convert_jsonl([tmp_path / "a.jsonl.gz"], tmp_path / "set")
    with pytest.raises(UserError, match=r"b.jsonl is not a file"):
        convert_jsonl([tmp_path / "b.jsonl"], tmp_path / "set")


def test_what_others_wrote_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="no command of selfalign wrote"):
        write_set(tmp_path / "mine", make_rows(4))
    (tmp_path / "file").write_text("a file")
    with pytest.raises(UserError, match="is a file, but a folder is to be written"):
        write_set(tmp_path / "file", make_rows(4))
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert (tmp_path / "file").read_text() == "a file"
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "mine.jsonl", "file", "file.jsonl"}


def test_the_card_counts(tmp_path: Path) -> None:
    rows = [row | {"answer": i % 2} for i, row in enumerate(make_rows(10))]
    card = (write_set(tmp_path / "set", rows) / "README.md").read_text()
    assert "| herbs  | made_up | train | 10        | 0.500  | 0.500  | 0.000  | 0.000  |" in card
