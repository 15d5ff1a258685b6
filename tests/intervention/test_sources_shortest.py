"""The shortest command on one's own file works: names, ids, splits and choices that it does not say are made up, and said."""

import json
import re
from pathlib import Path

import polars as pl
import pytest
from conftest import run_command
from layouts import read_config
from made_up import make_rows, write_jsonl

from intervention.sources.layout import make_layout
from intervention.sources.own import read_own
from intervention.sources.splits import group_questions, parse_splits, split_questions
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import read_questions

BARE = ("question", "choices", "answer")


def make_bare(n: int = 100, **change: object) -> list[dict]:
    return [{name: row[name] for name in BARE} | change for row in make_rows(n)]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_file_of_questions_choices_and_answers_is_enough(tmp_path: Path, kind: str) -> None:
    rows, file = make_bare(), tmp_path / f"my-herbs.{kind}"
    if kind == "csv":
        wide = [
            {"question": row["question"], "answer": "ABCD"[row["answer"]]} | dict(zip("ABCD", row["choices"], strict=True))
            for row in rows
        ]
        pl.DataFrame(wide).write_csv(file)
    elif kind == "parquet":
        pl.DataFrame([row | {"answer": "ABCD"[row["answer"]]} for row in rows]).write_parquet(file)
    else:
        write_jsonl(file, rows)
    done = run_command("python", "-m", "intervention", "questions", kind, file, "--output", tmp_path / "set")
    assert done.returncode == 0, done.stderr
    assert "source and domain: 'my-herbs', after the file; --set source=NAME says otherwise" in done.stdout
    assert "(train=0.7,dev=10,test=0.3, a count at most 1/4 of a domain; seed 0)" in done.stdout
    table = read_questions(tmp_path / "set")
    assert dict(table.group_by("split").len().iter_rows()) == {"train": 63, "dev": 10, "test": 27}
    assert table.select(pl.col("source", "domain").unique()).row(0) == ("my-herbs", "my-herbs")
    gold = {row["question"]: row["choices"][row["answer"]] for row in rows}
    assert all(row["choices"][row["answer"]] == gold[row["question"]] for row in table.iter_rows(named=True))
    assert all(re.fullmatch(r"my-herbs/\d+", name) for name in table["id"])
    manifest = json.loads((tmp_path / "set/manifest.json").read_text())
    assert manifest["config"]["source"]["splits"] == {"train": 0.7, "dev": 10, "test": 0.3}
    assert manifest["seeds"] == {"splits": 0}
    assert "seed of the splits: 0" in (tmp_path / "set/README.md").read_text()


def test_splits_are_of_each_domain_decided_by_the_seed_and_recorded(tmp_path: Path) -> None:
    rows = [row | {"domain": domain} for domain, n in (("herbs", 40), ("annals", 60)) for row in make_bare(n)]
    file = write_jsonl(tmp_path / "mine.jsonl", rows)

    def divide(words: str, seed: int = 0) -> pl.DataFrame:
        table, origin = read_own("jsonl", [file], splits=parse_splits(words), seed=seed)
        assert origin.config["splits"] == parse_splits(words)
        assert origin.seeds == {"splits": seed}
        return table

    def count(table: pl.DataFrame) -> list[tuple]:
        return table.group_by("domain", "split").len().sort("domain", "split").rows()

    one = divide("train=0.7,dev=10,test=0.3")
    assert count(one) == [
        ("annals", "dev", 10), ("annals", "test", 15), ("annals", "train", 35),
        ("herbs", "dev", 10), ("herbs", "test", 9), ("herbs", "train", 21),
    ]  # fmt: skip
    assert one.equals(divide("train=0.7,dev=10,test=0.3"))
    assert not one.equals(divide("train=0.7,dev=10,test=0.3", seed=1))
    assert count(divide("train=20,test=15")) == [
        ("annals", "test", 15), ("annals", "train", 20), ("herbs", "test", 15), ("herbs", "train", 20)
    ]  # fmt: skip
    _, origin = read_own("jsonl", [file], splits=parse_splits("train=20,test=15"))
    assert origin.dropped == {"in none of --splits": 30}
    with pytest.raises(
        UserError, match=r"--splits train=30,dev=10,test=1.0: the domain 'herbs' has 40 questions, which are too"
    ):
        divide("train=30,dev=10,test=1.0")


def test_what_is_asked_twice_is_in_one_split() -> None:
    rows = make_rows(60)
    rows += [row | {"id": f"again-{i}", "question": f"  {row['question'].upper()} "} for i, row in enumerate(rows[:20])]
    rows += [  # other choices, the same answer
        row | {"id": f"other-{i}", "choices": [row["choices"][row["answer"]], "x", "y"], "answer": 0}
        for i, row in enumerate(rows[20:40])
    ]
    stem = [row | {"id": f"stem-{i}", "question": "Which of these is true?"} for i, row in enumerate(make_rows(60, 1))]
    table = pl.DataFrame([{name: row[name] for name in ("id", "source", "domain", *BARE)} for row in rows + stem])
    groups = group_questions(table)
    assert groups.n_unique() == 60 + 60  # a stem alone holds nothing together
    for seed in range(5):
        found, said = split_questions(table, {"train": 0.5, "dev": 10, "test": 0.5}, seed)
        assert pl.DataFrame([found, groups]).group_by("group").agg(pl.col("split").n_unique())["split"].max() == 1
        assert "40 that repeat another one" in said
        assert (found == "dev").sum() == 10


def test_a_small_file_has_all_splits_that_it_can_have(tmp_path: Path) -> None:
    for n, expected in ((1, {"train": 1}), (4, {"train": 2, "dev": 1, "test": 1}), (12, {"train": 6, "dev": 3, "test": 3})):
        table, _ = read_own("jsonl", [write_jsonl(tmp_path / "mine.jsonl", make_bare(n))])
        assert dict(table.group_by("split").len().iter_rows()) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train=0.7,test=0.2", "the shares are 0.9 in all, not 1"),
        ("train=0.7,tset=0.3", "write train=0.7,dev=10,test=0.3, each of train, dev, test at most once"),
        ("train=0.5,train=0.5", "at most once"),
        ("train", "train= is neither a count"),
        ("train=0", "train=0 is neither a count from 1 on"),
        ("train=-1", "train=-1 is neither"),
        ("train=1.5,test=0.5", "train=1.5 is neither"),
        ("train=nan", "train=nan is neither"),
    ],
)
def test_splits_that_are_none_are_refused(words: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        parse_splits(words)


def test_splits_are_named_or_made_but_not_both(tmp_path: Path) -> None:
    named, bare = write_jsonl(tmp_path / "a.jsonl", make_rows(5)), write_jsonl(tmp_path / "b.jsonl", make_bare(5))
    with pytest.raises(UserError, match=r"--splits divides questions, but those of .*a.jsonl name their split"):
        read_own("jsonl", [named], splits=parse_splits("train=1.0"))
    with pytest.raises(UserError, match=r"b.jsonl names no split, but .*a.jsonl does"):
        read_own("jsonl", [named, bare])
    assert not read_own("jsonl", [named])[1].seeds


def test_files_of_one_bank_have_one_name(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for names, domain in ((("train", "test"), "mine"), (("herbs_train", "herbs-test"), "herbs")):
        files = [write_jsonl(tmp_path / f"mine/{name}.jsonl", make_bare(5)) for name in names]
        table, _ = read_own("jsonl", [f"train={files[0]}", f"test={files[1]}"])
        assert table["domain"].unique().to_list() == [domain]
        assert table["split"].to_list() == ["train"] * 5 + ["test"] * 5
    one, two = (write_jsonl(tmp_path / f"{name}.jsonl", make_bare(5)) for name in ("one", "two"))
    with pytest.raises(UserError, match=r"train=.*one.jsonl has the domain 'one' and test=.* 'two' .*: --set domain=NAME"):
        read_own("jsonl", [f"train={one}", f"test={two}"])
    assert set(read_own("jsonl", [one, two])[0]["domain"]) == {"one", "two"}  # two banks


def test_json_lines_without_our_columns_are_refused_by_the_columns_that_they_have(tmp_path: Path) -> None:
    rows = [{"Question": "q", "answers": ["a"], "split": "dev"}] * 3
    message = r"a.jsonl has no column 'question' \(map one with --column question=COLUMN\); it has Question, answers, split"
    with pytest.raises(UserError, match=message):
        read_own("jsonl", [write_jsonl(tmp_path / "a.jsonl", rows)])


NUMBERS = [{"question": "How many?", "choices": ["1", "2", "3"], "answer": "3"}]


def test_answers_that_are_digits_among_the_choices_are_refused_in_every_kind_of_file(tmp_path: Path) -> None:
    jsonl = write_jsonl(tmp_path / "a.jsonl", NUMBERS)
    pl.DataFrame(NUMBERS).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame([row | {"choices": "1;2;3"} for row in NUMBERS]).write_csv(tmp_path / "a.csv")
    message = (
        r"the answers are ambiguous. '3' in row 1, among the choices '1', '2', '3', can be read as number \(.*from 1\): '3'; "
        r"or text \(.*\): '3'. Say which with --answers number or --answers text."
    )
    for kind, file, options in (
        ("jsonl", jsonl, {}),
        ("parquet", tmp_path / "a.parquet", {}),
        ("csv", tmp_path / "a.csv", {"separator": ";"}),
    ):
        with pytest.raises(UserError, match=message):
            read_own(kind, [file], make_layout(**options))
        for form in ("number", "text"):
            assert read_own(kind, [file], make_layout(answers=form, **options))[0]["answer"].to_list() == [2]
        with pytest.raises(UserError, match=r"answer '3' is not a whole number that counts the choices from 0"):
            read_own(kind, [file], make_layout(answers="index", **options))


def test_numbers_that_may_be_texts_are_refused_in_json_lines_too(tmp_path: Path) -> None:
    rows = [{"question": f"How many {i}?", "choices": [1, 2, 3, 4], "answer": 1 + i % 3} for i in range(6)]
    with pytest.raises(
        UserError, match=r"'1' in row 1, among the choices '1', '2', '3', '4', can be read as index \(.*\): '2'; or text"
    ):
        read_own("jsonl", [write_jsonl(tmp_path / "a.jsonl", rows)])
    read_own("jsonl", [tmp_path / "a.jsonl"], make_layout(answers="index"))
    rows[3] |= {"choices": ["many", "few", "some", "none"]}
    table, _ = read_own("jsonl", [write_jsonl(tmp_path / "a.jsonl", rows)])  # no texts, since one is not among its choices
    assert table["answer"].to_list() == [row["answer"] for row in rows]


def test_text_answers_of_json_lines_are_inferred_as_those_of_other_files(tmp_path: Path) -> None:
    rows = make_bare(40)
    letters = write_jsonl(tmp_path / "a.jsonl", [row | {"answer": "ABCD"[row["answer"]]} for row in rows])
    table, origin = read_own("jsonl", [letters])
    assert table["answer"].to_list() == [row["answer"] for row in rows]
    assert any("--answers letter would say" in note for note in origin.notes)


@pytest.mark.parametrize("mapped", [False, True])
def test_choices_that_are_numbers_keep_their_digits(tmp_path: Path, mapped: bool) -> None:
    line = (
        '{"id": 2.50, "question": "How, 3.0, many?", "choices": [3.0, 1e5, 0.10, 12345678901234567890, "3", -0], "answer": %s}'
    )
    file = tmp_path / "a.jsonl"
    file.write_text(
        line % ('"0.10"' if mapped else "2") + "\n\n" + '{"id": 7, "question": "q", "choices": ["3.0", "x"], "answer": '
    )
    with file.open("a") as stream:
        stream.write('"x"}\n' if mapped else "1}\n")
    table, _ = read_own("jsonl", [file])
    assert table["choices"].to_list() == [["3.0", "1e5", "0.10", "12345678901234567890", "3", "-0"], ["3.0", "x"]]
    assert table["id"].to_list() == ["2.50", "7"]
    assert table["question"].to_list() == ["How, 3.0, many?", "q"]
    assert table["answer"].to_list() == [2, 1]


def test_the_command_records_its_splits_and_refuses_wrong_ones(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "mine.jsonl", make_bare(20))
    words = ["python", "-m", "intervention", "questions", "jsonl", file, "--output", tmp_path / "set", "--splits"]
    done = run_command(*words, "train=10,test=0.5,dev=0.5", "--seed", "3")
    assert done.returncode == 0, done.stderr
    assert read_config(tmp_path / "set")["source"]["splits"] == {"train": 10, "test": 0.5, "dev": 0.5}
    wrong = run_command(*words, "train=0.2")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "the shares are 0.2 in all, not 1" in wrong.stderr
