"""Free-form questions of one's own: files with accepted answers in place of choices become a free-form question set."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest
from conftest import ROOT, run_command
from made_up import make_rows, write_jsonl

from intervention.sources.joining import join_sets
from intervention.sources.layout import make_layout
from intervention.sources.own import read_own
from intervention.sources.questions import write_questions
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.free_form import FREE_FORM_SCHEMA, read_free_form

BANK = ROOT.parent / "shared/reference/banks/entity_questions"
ROWS = [
    {"question": f"Where does herb {i} grow?", "answers": [f"Rome {i}", f"Roma {i}"], "relation": "home"} for i in range(40)
]


def write_rows(folder: Path, kind: str, rows: list[dict]) -> Path:
    file = folder / f"herbs.{kind}"
    if kind == "jsonl":
        return write_jsonl(file, rows)
    table = pl.DataFrame(rows)
    table.write_parquet(file) if kind == "parquet" else table.write_csv(file)
    return file


def convert(kind: str, file: Path, output: Path, columns: list[str] = [], **options: str) -> pl.DataFrame:  # noqa: B006
    table, origin = read_own(kind, [file], make_layout(columns, **options))
    write_questions(table, output, [], {}, origin)
    return read_free_form(output)


def test_every_kind_of_file_gives_the_same_free_form_set(tmp_path: Path) -> None:
    sets = {}
    for kind in ("jsonl", "csv", "parquet"):
        rows = ROWS if kind != "csv" else [row | {"answers": " | ".join(row["answers"])} for row in ROWS]
        options = {"separator": " | "} if kind == "csv" else {}
        sets[kind] = convert(kind, write_rows(tmp_path, kind, rows), tmp_path / kind, ["subject=relation"], **options)
    assert sets["jsonl"].equals(sets["csv"])
    assert sets["jsonl"].equals(sets["parquet"])
    table = sets["jsonl"].sort(pl.col("id").str.extract(r"(\d+)").cast(pl.Int64))
    assert table.columns == [*FREE_FORM_SCHEMA, "split", "question_hash"]
    assert table["answers"].to_list() == [row["answers"] for row in ROWS]
    assert table["id"].to_list() == [f"herbs/{i}" for i in range(1, 41)]
    assert table.select(pl.col("source", "domain", "subject").unique()).row(0) == ("herbs", "herbs", "home")
    assert set(table["split"]) == {"train", "dev", "test"}


def test_answers_in_a_csv_file_are_one_text_or_a_json_list_and_what_was_taken_is_said(tmp_path: Path) -> None:
    single = write_rows(tmp_path, "csv", [{"question": f"Where is {i}?", "answer": f"Rome, {i}"} for i in range(9)])
    table, origin = read_own("csv", [single], make_layout(["answers=answer"]))
    assert sorted(table["answers"].to_list()) == sorted([f"Rome, {i}"] for i in range(9))
    assert "each text of 'answer' is one accepted answer" in " ".join(origin.notes)
    lists = write_rows(tmp_path, "csv", [row | {"answers": json.dumps(row["answers"])} for row in ROWS])
    table, origin = read_own("csv", [lists], make_layout())
    assert sorted(table["answers"].to_list()) == sorted(row["answers"] for row in ROWS)
    assert "every text of 'answers' is a JSON list" in " ".join(origin.notes)


def test_answers_that_say_the_same_are_merged_and_counted_and_numbers_become_text(tmp_path: Path) -> None:
    rows = [
        {"question": "When?", "answers": [1776, "1,776", " "]},
        {"question": "Who?", "answers": ["The Earl", "earl", "Duke"]},
    ]
    table, origin = read_own("jsonl", [write_jsonl(tmp_path / "a.jsonl", rows)], make_layout(split="test"))
    assert table["answers"].to_list() == [["1776"], ["The Earl", "Duke"]]
    assert "answers that say the same as another of their question, or nothing: 3" in " ".join(origin.notes)


def test_the_same_text_twice_is_on_one_side_of_the_split(tmp_path: Path) -> None:
    rows = [{"question": f"Where is {i // 2}{'?' if i % 2 else ' ?'}", "answers": [f"{i}"]} for i in range(80)]
    table, _ = read_own("jsonl", [write_jsonl(tmp_path / "a.jsonl", rows)], make_layout())
    sides = table.group_by(pl.col("question").str.extract(r"(\d+)")).agg(pl.col("split").n_unique())
    assert sides.height == 40
    assert sides["split"].max() == 1


@pytest.mark.parametrize(
    ("rows", "columns", "options", "told"),
    [
        ([{"question": "q", "answers": []}], [], {}, r"row 1 \(id 'herbs/1'\): answers .* is empty"),
        ([{"question": "q", "answers": [" ", "\t"]}], [], {}, r"row 1 .*answers .*hold a blank one"),
        ([{"question": "q", "answers": None}, {"question": "p", "answers": ["a"]}], [], {}, "answers None is missing"),
        ([{"question": "q", "answers": ["a"]}], [], {"answers": "index"}, "--answers index .* have no choices"),
        ([{"question": "q", "answers": ["a"]}], [], {"separator": "|"}, "holds lists, so --separator does not fit"),
        ([{"question": "q", "answers": "a"}, {"question": "q", "answers": {"b": 1}}], [], {}, "line 2: answers"),
        ([{"question": "q"}], ["answers=alias"], {}, "no column 'alias'"),
        ([{"question": "q", "choices": ["a"]}], ["answers=b", "choices=c"], {}, "Leave out one of them"),
    ],
)
def test_answers_that_cannot_be_used_are_named(tmp_path, rows, columns, options, told) -> None:
    file = write_jsonl(tmp_path / "herbs.jsonl", rows)
    with pytest.raises(UserError, match=told) as raised:
        read_own("jsonl", [file], make_layout(columns, **options))
    assert "\n" not in str(raised.value)


def test_a_file_with_choices_is_multiple_choice_whatever_else_it_has_and_the_kinds_do_not_mix(tmp_path: Path) -> None:
    rows = [row | {"answers": ["sleep"]} for row in make_rows(8)]
    choices = write_jsonl(tmp_path / "choices.jsonl", rows)
    assert "choices" in read_own("jsonl", [choices], make_layout())[0].columns
    free = write_jsonl(tmp_path / "free.jsonl", [row | {"split": "train"} for row in ROWS])
    with pytest.raises(UserError, match=r"choices.jsonl are multiple choice, those of .*free.jsonl free form"):
        read_own("jsonl", [choices, free], make_layout())


def test_the_card_and_the_command_say_what_the_set_is(tmp_path: Path) -> None:
    file = write_rows(tmp_path, "jsonl", ROWS)
    done = run_command("python", "-m", "intervention", "questions", "jsonl", file, "--output", tmp_path / "set")
    assert done.returncode == 0, done.stderr
    assert "accepted answers" in done.stdout
    card = (tmp_path / "set/README.md").read_text()
    assert "Free-form questions" in card
    assert "multiple-choice" not in card.lower()
    assert "letters" not in card


def test_free_form_sets_are_joined_with_their_like_alone(tmp_path: Path) -> None:
    one = convert("jsonl", write_rows(tmp_path, "jsonl", ROWS), tmp_path / "one")
    other = [row | {"source": "other", "id": f"{i}"} for i, row in enumerate(ROWS)]
    convert("jsonl", write_jsonl(tmp_path / "other.jsonl", other), tmp_path / "two")
    table, _ = join_sets([str(tmp_path / "one"), str(tmp_path / "two")])
    assert table.height == 2 * one.height
    assert "answers" in table.columns
    choices, origin = read_own("jsonl", [write_jsonl(tmp_path / "c.jsonl", make_rows(20))], make_layout())
    write_questions(choices, tmp_path / "choices", [], {}, origin)
    with pytest.raises(UserError, match="these are multiple-choice questions"):
        join_sets([str(tmp_path / "one"), str(tmp_path / "choices")])


@pytest.mark.skipif(not BANK.is_dir(), reason="shared/reference/banks/entity_questions is not there")
def test_entity_questions_are_read_whole(tmp_path: Path) -> None:
    files = sorted(BANK.glob("*.jsonl.gz"))
    parts = {file: [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()] for file in files}
    rows = [row for part in parts.values() for row in part]
    layout = make_layout(["subject=relation_label"], ["domain=entities", "source=entity_questions"])
    named, _ = read_own("jsonl", files, layout)
    found = dict(named.group_by("split").len().iter_rows())
    assert found == {split: sum(row["split"] == split for row in rows) for split in ("dev", "test")}
    # Its dev questions are far more than a few-shot prompt shows: without their splits all are divided anew.
    plain = []
    for file, part in parts.items():
        plain.append(write_jsonl(tmp_path / file.stem, [{k: v for k, v in row.items() if k != "split"} for row in part]))
    table, origin = read_own("jsonl", plain, layout)
    write_questions(table, tmp_path / "set", [], {}, origin)
    read = read_free_form(tmp_path / "set")
    assert read.height == len(rows)
    assert read["answers"].list.first().sort().to_list() == sorted(row["answers"][0].strip() for row in rows)
