"""Questions of one's own in other columns and forms become those of the contract, or one line says why not."""

import json
import resource
from pathlib import Path

import polars as pl
import pytest
from conftest import run_command
from layouts import read_config
from made_up import make_rows, write_jsonl

from intervention.sources.layout import make_layout
from intervention.sources.own import read_own
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import read_questions

NASTY = "{{ 7 * 7 }} <script>alert(1)</script> \x1b[31m, | \"q\" \n'x' é 漢字"
COLUMNS = ["question=stem", "choices=opa,opb,opc,opd", "answer=cop", "id=key"]
SET = ["source=mine", "domain=herbs", "split=train"]
LETTERS = "ABCDEFGHIJ"
OBJECT = b'{"key": 1, "stem": {"a": 1}, "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": 0}'


def flatten(row: dict, **change: object) -> dict:
    """A made-up question with a column a choice."""
    choices = dict(zip(("opa", "opb", "opc", "opd"), row["choices"]))
    return {"key": row["id"], "stem": row["question"], "cop": row["answer"]} | choices | change


def write(place: Path, kind: str, rows: list[dict]) -> Path:
    file = place / f"mine.{kind}"
    table = pl.DataFrame(rows, infer_schema_length=None)
    if kind == "csv":
        table.write_csv(file)
    elif kind == "parquet":
        table.write_parquet(file)
    else:
        write_jsonl(file, rows)
    return file


def read(kind: str, file: Path, columns: list[str] = COLUMNS, constants: list[str] = SET, **options: str):
    return read_own(kind, [file], make_layout(columns, constants, **options))


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("form", ["index", "number", "letter", "text"])
def test_every_kind_of_file_and_answer_gives_the_same_questions(tmp_path: Path, kind: str, form: str) -> None:
    rows = make_rows(40)
    rows[0] |= {"question": NASTY, "choices": [NASTY, "1", "null", "D"]}
    write_as = {
        "index": lambda row: row["answer"],
        "number": lambda row: row["answer"] + 1,
        "letter": lambda row: LETTERS[row["answer"]],
        "text": lambda row: row["choices"][row["answer"]],
    }[form]
    file = write(tmp_path, kind, [flatten(row, cop=write_as(row), note=i) for i, row in enumerate(rows)])
    said, origin = read(kind, file, answers=form)
    inferred, told = read(kind, file)
    for name in ("id", "question", "choices", "answer"):
        assert said[name].to_list() == [row[name] for row in rows]
    assert said.equals(inferred)
    assert said.select(pl.col("source", "domain", "split").unique()).row(0) == ("mine", "herbs", "train")
    assert origin.notes == [f"mine.{kind}: columns passed over: note."]
    assert f"--answers {form} would say" in " ".join(told.notes)


def test_choices_are_a_list_or_one_text_with_a_separator_or_fewer_columns(tmp_path: Path) -> None:
    rows = make_rows(8)
    for row in rows[:4]:
        row["choices"] = row["choices"][:3]
        row["answer"] = 2
    expected = [row["choices"] for row in rows]
    wide = write(tmp_path, "csv", [{"opd": None} | flatten(row, topics="roots") for row in rows])
    table, _ = read("csv", wide, answers="index")
    assert table["choices"].to_list() == expected
    assert table["topics"].to_list() == [["roots"]] * 8
    for kind in ("jsonl", "parquet"):
        file = write(
            tmp_path,
            kind,
            [{"id": row["id"], "q": row["question"], "options": row["choices"], "answer": row["answer"]} for row in rows],
        )
        table, _ = read(kind, file, ["choices=options", "question=q"], answers="index")
        assert (table["choices"].to_list(), table["answer"].to_list()) == (expected, [row["answer"] for row in rows])
    joined = [
        {"id": row["id"], "question": row["question"], "choices": "\n".join(row["choices"]), "answer": "C"} for row in rows
    ]
    table, _ = read("jsonl", write(tmp_path, "jsonl", joined), [], separator="\\n")
    assert table["choices"].to_list() == expected
    assert table["answer"].to_list() == [2] * 8


def test_one_question_of_too_many_choices_stops_no_bank(tmp_path: Path) -> None:
    rows = make_rows(60)
    rows[7]["choices"] = [f"choice {i}" for i in range(13)]
    table, origin = read_own("jsonl", [write_jsonl(tmp_path / "bank.jsonl", rows)])
    assert set(table["id"]) == {row["id"] for row in rows} - {rows[7]["id"]}
    assert f"bank.jsonl: left out, with more than 10 choices: {rows[7]['id']}." in origin.notes
    assert origin.dropped["with more than 10 choices"] == 1
    with pytest.raises(UserError, match=r"bank.jsonl, row 8 \(id 'train-7'\): choices .* are more than 10"):
        read_own("jsonl", [tmp_path / "bank.jsonl"], strict=True)


def test_more_than_ten_choices_are_refused(tmp_path: Path) -> None:
    rows = [{"id": "a", "question": "q", "choices": "0;1;2;3;4;5;6;7;8;9;10", "answer": "A"}]
    with pytest.raises(UserError, match=r"row 1 \(id 'a'\): choices .* are more than 10"):
        read("csv", write(tmp_path, "csv", rows), [], separator=";", answers="letter")


def test_files_name_their_splits_and_rows_without_an_id_their_files(tmp_path: Path) -> None:
    rows = [{name: value for name, value in flatten(row).items() if name != "key"} for row in make_rows(6)]
    for split in ("train", "test"):
        pl.DataFrame(rows).write_csv(tmp_path / f"{split}ing.tsv", separator="\t")
    files = [f"train={tmp_path / 'training.tsv'}", f"test={tmp_path / 'testing.tsv'}"]
    table, origin = read_own("csv", files, make_layout(COLUMNS[:3], SET[:2]))
    assert table["id"].to_list() == [f"{name}/{i}" for name in ("training", "testing") for i in range(1, 7)]
    assert table["split"].to_list() == ["train"] * 6 + ["test"] * 6
    assert "no column 'id'" in origin.notes[0]
    with pytest.raises(UserError, match=r"test=.*testing.tsv differs from --split train. Leave out one"):
        read_own("csv", files, make_layout(COLUMNS[:3], SET))


def test_unknown_columns_of_plain_lines_are_named(tmp_path: Path) -> None:
    rows = [row | {"levle": 1, "why | not": 2} for row in make_rows(3)]
    _, origin = read_own("jsonl", [write_jsonl(tmp_path / "mine.jsonl", rows)])
    assert origin.notes == ["mine.jsonl: columns passed over: levle, why | not."]


BAD = [
    ({"cop": "7"}, {"answers": "index"}, r"row 3 \(id 'train-2'\): answer '7' is not a whole number that counts .*\(39 of 40"),
    ({"cop": None}, {}, r"row 3 .*answer None is missing"),
    ({"cop": "0"}, {"answers": "number"}, r"row \d+ .*is not a whole number that counts the choices from 1"),
    ({"cop": "ivy"}, {}, r"row 3 .*answer 'ivy' is not a whole .*39 of 40 answers are: --answers index\)"),
    ({"cop": "E"}, {"answers": "letter"}, r"row 1 .*is not the letter of a choice of its row \(no answer is"),
    ({"opa": " "}, {}, r"row 3 .*hold an empty one"),
    ({"opb": None}, {}, r"row 3 .*hold an empty one"),
    ({"opb": None, "opc": None, "opd": None}, {}, r"row 3 .*are fewer than 2"),
    ({"stem": ""}, {}, r"row 3 .*question (None is missing|'' is blank)"),
    ({"key": "train-0"}, {}, r"id 'train-0' occurs more than once"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "options", "message"), BAD)
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_bad_row_is_named(tmp_path: Path, kind: str, change: dict, options: dict, message: str) -> None:
    rows = [{name: None if value is None else str(value) for name, value in flatten(row).items()} for row in make_rows(40)]
    rows[2] |= change
    with pytest.raises(UserError, match=message):
        read(kind, write(tmp_path, kind, rows), **options)


def test_answers_that_can_be_read_in_two_ways_are_refused(tmp_path: Path) -> None:
    rows = [flatten(row, cop=i % 2 + 1) for i, row in enumerate(make_rows(6))]
    with pytest.raises(UserError, match=r"can be read as index .*; or number .*Say which with --answers"):
        read("csv", write(tmp_path, "csv", rows))
    same = [flatten(row, opa="A", opb="B", opc="C", opd="D", cop="ABCD"[i % 4]) for i, row in enumerate(make_rows(6))]
    assert read("csv", write(tmp_path, "csv", same))[0]["answer"].to_list() == [0, 1, 2, 3, 0, 1]
    other = [flatten(row, opa="D", opb="C", opc="B", opd="A", cop="ABCD"[i % 4]) for i, row in enumerate(make_rows(6))]
    with pytest.raises(UserError, match=r"can be read as letter .*; or text "):
        read("csv", write(tmp_path, "csv", other))
    twice = [flatten(row, opa="x", opb="x", cop="x") for row in make_rows(2)]
    table, origin = read("csv", write(tmp_path, "csv", twice))
    assert table["answer"].to_list() == [0, 0]
    assert "2 answers stand twice among their choices; the first is gold" in " ".join(origin.notes)


WORDS = [
    (["questoin=stem"], [], {}, r"--column questoin=stem: write NAME=VALUE, with one of the names id, source"),
    (["question"], [], {}, "--column question: write NAME=VALUE"),
    (["question=a", "question=b"], [], {}, "--column names 'question' twice"),
    (["question=a,b"], [], {}, "only choices can come from several columns"),
    ([], ["answer=1"], {}, "--set answer=1: write NAME=VALUE, with one of the names source, domain, subject, split"),
    (["domain=d"], ["domain=herbs"], {}, "'domain' is mapped to a column and set to a value"),
    ([], ["split=tset"], {}, "--split tset is none of train, dev, test"),
    ([], [], {"separator": ""}, "--separator is empty"),
]


@pytest.mark.parametrize(("columns", "constants", "options", "message"), WORDS)
def test_a_wrong_word_is_named(columns: list[str], constants: list[str], options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_layout(columns, constants, **options)


def test_a_layout_that_does_not_fit_the_file_is_named(tmp_path: Path) -> None:
    rows = [flatten(row) for row in make_rows(4)]
    file = write(tmp_path, "csv", rows)
    for columns, constants, options, message in (
        (["question=steam", *COLUMNS[1:]], SET, {}, r"no column 'steam' \(--column question=steam\); it has key, stem, cop"),
        (COLUMNS[1:], SET, {}, r"has no column 'question' \(map one with --column question=COLUMN\)"),
        (["question=stem", "choices=opa", "answer=cop"], SET, {}, r"column 'opa' holds text, but choices are a list"),
        (COLUMNS, SET, {"separator": ";"}, "--separator is for choices in one column"),
        (COLUMNS, SET, {"answers": "colour"}, "--answers colour is none of index, number, letter, text"),
        (COLUMNS, ["domain=her/bs", *SET[::2]], {}, r"'her/bs' cannot be a domain"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            read("csv", file, columns, constants, **options)
    lists = write(tmp_path, "parquet", [{"id": ["a"], "question": "q", "choices": ["a", "b"], "answer": 0}])
    with pytest.raises(UserError, match="column 'id' holds lists, but id is one text"):
        read("parquet", lists, [])
    with pytest.raises(UserError, match="so --separator does not fit"):
        read("parquet", lists, ["id=question"], separator=";")
    with pytest.raises(UserError, match=r"column 'choices' holds lists; name it alone"):
        read("parquet", lists, ["choices=choices,question", "id=question"])
    odd = write(tmp_path, "parquet", [{"id": "1", "question": "q", "choices": {"text": ["a", "b"]}, "answer": 0}])
    with pytest.raises(UserError, match=r"column 'choices' \(Struct.*is neither text nor a list of texts"):
        read("parquet", odd, [])
    with pytest.raises(UserError, match=r"row 1 .*split 'train' differs from --split test"):
        read_own("jsonl", [write_jsonl(tmp_path / "b.jsonl", make_rows(2))], make_layout(split="test"))
    with pytest.raises(UserError, match=r"row 1 .*domain 'herbs' differs from --set domain=roots; leave out one"):
        read_own("jsonl", [tmp_path / "b.jsonl"], make_layout(constants=["domain=roots"]))


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("csv", b"", "cannot be read as a CSV file"),
        ("csv", b"stem,opa\n", r"has no column 'key' \(--column id=key\); it has stem, opa"),
        ("csv", b"key,stem,opa,opb,opc,opd,cop\n", "is empty. Name a file that holds at least one row"),
        ("csv", b"key,stem,opa,opb,opc,opd,cop\n1,q,a,b,c,d,0,more\n", "cannot be read as a CSV file"),
        ("csv", b"key,stem,opa,opb,opc,opd,cop\n1,q\xff,a,b,c,d,0\n", "cannot be read as a CSV file"),
        ("parquet", b"PAR1 no more", "cannot be read as a parquet file"),
        ("jsonl", b'{"stem": "q", ', "line 1 is not a whole line of JSON"),
        ("jsonl", b"", "is empty"),
        ("jsonl", OBJECT, "line 1: stem .*is not text"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, kind: str, content: bytes, message: str) -> None:
    file = tmp_path / f"mine.{kind}"
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"mine.{kind}.*{message}") as caught:
        read(kind, file)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="none is not a file"):
        read(kind, tmp_path / "none")


def test_the_command_writes_the_set_its_terms_and_what_it_decided(tmp_path: Path) -> None:
    rows = [flatten(row, rank=1) for row in make_rows(30)]
    file = write(tmp_path, "csv", rows)
    words = ["questions", "csv", f"train={file}", "--output", tmp_path / "set", "--licence", "CC BY 4.0"]
    for column in COLUMNS:
        words += ["--column", column]
    done = run_command("python", "-m", "intervention", *words, "--set", "source=mine", "--set", "domain=herbs")
    assert done.returncode == 0, done.stderr
    assert (
        "mine.csv: every answer is a whole number that counts the choices from 0, as --answers index would say." in done.stdout
    )
    assert "mine.csv: columns passed over: rank." in done.stdout
    assert read_questions(tmp_path / "set").height == 30
    config = read_config(tmp_path / "set")
    assert [(part["source"], part["licence"]) for part in config["terms"]] == [("mine", "cc-by-4.0")]
    card = (tmp_path / "set" / "README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-4.0\n")
    assert "| mine | cc-by-4.0 |" in card
    assert "columns passed over: rank." in card
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert list(manifest["inputs"]) == ["questions"]
    wrong = run_command(
        "python", "-m", "intervention", *words, "--answers", "letter", "--set", "source=m", "--set", "domain=herbs"
    )
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "--answers letter" in wrong.stderr


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    """No file may grow beyond 2 kB, which fails as a full disk does: in the middle of a write."""
    file = write(tmp_path, "csv", [row | {"choices": ";".join(row["choices"])} for row in make_rows(60)])
    words = ["questions", "csv", file, "--separator", ";", "--answers", "index", "--output", tmp_path / "set"]
    done = run_command(
        "python", "-m", "intervention", *words, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "Check the space" in done.stderr
    assert list(tmp_path.iterdir()) == [file]
