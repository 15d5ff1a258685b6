"""Xiezhi as published becomes the paper's questions in the paper's split; what is not the paper's is said."""

import gzip
import json
import random
from pathlib import Path

import polars as pl
import pytest
from conftest import ROOT, run_command
from layouts import LABELS, make_xiezhi, read_config, write_xiezhi
from made_up import write_jsonl

from intervention.sources import xiezhi
from intervention.sources.xiezhi import PAPER_ROWS, PAPER_TEST, describe_split, hash_table, read_xiezhi, shuffle_rows
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import read_questions

REFERENCE = ROOT.parent / "shared/reference"
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="the paper's data (shared/reference) is not here")


def read_lines(file: Path) -> list[dict]:
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


@needs_reference
def test_engineering_is_the_papers_to_the_last_row() -> None:
    file = REFERENCE / "xiezhi_raw/engineering.jsonl.gz"
    table, origin = read_xiezhi([file])
    for line in read_lines(REFERENCE / "xiezhi_raw/engineering_split_ids.jsonl.gz"):
        found = table.filter(pl.col("split") == line["split"])["id"].to_list()
        assert found == [str(number) for number in line["ids"]]
    for split in ("test", "dev"):
        theirs = pl.DataFrame(read_lines(REFERENCE / f"questions/engineering/{split}.jsonl.gz"))
        ours = table.filter(pl.col("split") == split)
        for name in ("question", "choices", "answer"):
            assert ours[name].to_list() == theirs[name].to_list()
    assert origin.notes[0] == "engineering: the split is the paper's (its 250 test questions, in its order)."
    assert "the options of 10 rows; the first is gold" in origin.notes[1]
    assert not origin.dropped
    assert table["topics"].to_list()[0] == read_lines(file)[int(table["id"][0])]["labels"]


@needs_reference
@pytest.mark.parametrize("domain", ["engineering", "history", "jurisprudence"])
def test_the_order_of_the_test_and_dev_ids_is_the_papers(domain: str) -> None:
    order = shuffle_rows({})[domain]
    for split, numbers in (("test", order[:250]), ("dev", order[250:260])):
        theirs = pl.DataFrame(read_lines(REFERENCE / f"questions/{domain}/{split}.jsonl.gz"))
        assert theirs["id"].to_list() == numbers
        if split == "test":
            assert hash_table(theirs) == PAPER_TEST[domain]


def test_the_order_of_later_labels_depends_on_all_rows_before() -> None:
    generator = random.Random(42)
    for label, count in PAPER_ROWS.items():
        expected = list(range(count))
        generator.shuffle(expected)
        assert shuffle_rows({"history": 8958, "economics": 5})[label.lower()] == expected
    assert shuffle_rows({"history": 5000})["engineering"] == shuffle_rows({})["engineering"]
    assert shuffle_rows({"history": 5000})["jurisprudence"] != shuffle_rows({})["jurisprudence"]
    assert sorted(shuffle_rows({"economics": 5})["economics"]) == [0, 1, 2, 3, 4]


def test_the_repository_gives_a_domain_a_label_numbered_over_both_files(tmp_path: Path) -> None:
    inter = make_xiezhi(300, ("Engineering",)) + make_xiezhi(5, ("History", "Engineering"), "both")
    spec = (
        make_xiezhi(280, ("History",))
        + make_xiezhi(4, ("Engineering",), "more")
        + make_xiezhi(270, ("Jurisprudence", "Literature"))
    )
    folder = write_xiezhi(tmp_path / "XiezhiBenchmark", inter, spec)
    table, origin = read_xiezhi([folder])
    assert table["domain"].unique().sort().to_list() == ["engineering", "history", "jurisprudence"]
    numbered = table.filter(pl.col("domain") == "engineering").sort(pl.col("id").cast(pl.Int64))
    assert numbered["question"].to_list() == [row["question"] for row in inter + spec[280:284]]
    assert (
        table.group_by("domain", "split").len().filter(pl.col("split") != "train")["len"].sort().to_list()
        == [10] * 3 + [250] * 3
    )
    generator = random.Random(42)
    orders = [list(range(n)) for n in (309, 285, 3872, 270)]
    for order in orders:
        generator.shuffle(order)
    found = table.filter(pl.col("domain") == "jurisprudence")["id"].to_list()
    assert found == [str(number) for number in orders[3]]
    assert (
        "engineering: the split is NOT the paper's (rows with 4 options: engineering has 309, in the paper 5,089)."
        in origin.notes
    )
    assert any("history has 285, in the paper 8,958" in note for note in origin.notes)
    place = table.filter(pl.col("question").str.starts_with("both")).group_by("question").agg(pl.col("split"))
    mixed = sum("test" in splits and set(splits) != {"test"} for splits in place["split"].to_list())
    assert any(
        note.startswith("5 questions stand in several domains") and f"; {mixed} of them" in note for note in origin.notes
    )
    files = [folder / xiezhi.FOLDERS[1] / name for name in xiezhi.FILES]
    assert read_xiezhi(files)[0].equals(table)
    assert read_xiezhi([folder / xiezhi.FOLDERS[1]])[0].equals(table)
    literature, other = read_xiezhi([folder], ["Literature", "literature"])
    assert (literature.height, literature["domain"].unique().to_list()) == (270, ["literature"])
    assert other.notes == ["literature: the paper does not split it; it is split here in the paper's way."]


def test_a_file_named_after_a_label_holds_that_label_alone(tmp_path: Path) -> None:
    for label in LABELS[:2]:
        write_jsonl(tmp_path / f"{label}.jsonl", make_xiezhi(265, ("Engineering", "History"), label))
    table, _ = read_xiezhi([tmp_path])
    assert table.group_by("domain").len().sort("domain").rows() == [("engineering", 265), ("history", 265)]
    assert table.filter(pl.col("domain") == "history")["question"].str.starts_with("History").all()
    rows = make_xiezhi(265, ("Engineering", "History"))
    rows[7]["labels"] = ["History"]
    write_jsonl(tmp_path / "engineering.jsonl", rows)
    with pytest.raises(UserError, match=r"engineering.jsonl, row 8 .*labels \['History'\] lack 'Engineering', after which"):
        read_xiezhi([tmp_path / "engineering.jsonl"])


def test_rows_that_are_no_questions_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = make_xiezhi(300, ("Engineering",))
    rows[3]["options"] += "\nfifth"
    rows[5]["answer"] = "something else"
    rows[9]["options"], rows[9]["answer"] = "x\nx\ny\nz", "x"
    rows[11]["options"], rows[11]["answer"] = "a\n \ny\nz", "a"
    rows[13]["options"] = None
    table, origin = read_xiezhi([write_jsonl(tmp_path / "Engineering.jsonl", rows)])
    assert table.height == 296
    assert set(map(str, range(300))) - set(table["id"]) == {"3", "5", "11", "13"}
    assert origin.dropped == {
        "engineering: not exactly 4 options": 1,
        "engineering: the answer is none of the options": 2,
        "engineering: a text is missing": 1,
    }
    assert table.filter(pl.col("id") == "9")["answer"].item() == 0
    assert "The answer stands twice among the options of 1 rows; the first is gold, as in the paper." in origin.notes


def test_a_split_from_other_rows_of_the_papers_number_is_not_the_papers() -> None:
    table = pl.DataFrame({"question": ["q"], "choices": [["a", "b"]], "answer": [0], "split": ["test"]})
    paper = {label.lower(): count for label, count in PAPER_ROWS.items()}
    assert describe_split(table, "history", paper) == "history: the split is NOT the paper's (the rows or their order differ)."
    assert describe_split(table, "science", paper).startswith("science: split in the paper's way, from as many rows")
    assert "engineering has 7, in the paper 5,089" in describe_split(table, "science", paper | {"engineering": 7})


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    good = write_jsonl(tmp_path / "Engineering.jsonl", make_xiezhi(265, ("Engineering",)))
    (tmp_path / "empty").mkdir()
    for files, domains, message in (
        ([tmp_path / "none"], [], r"none does not exist. Clone github.com/MikeGu721/XiezhiBenchmark"),
        ([tmp_path / "empty"], [], r"empty holds neither xiezhi_inter_eng/xiezhi.v1.1.json and .*Engineering.jsonl"),
        ([good], ["alchemy"], "has the label 'alchemy'; there are Engineering|engineering"),
        (
            [write_jsonl(tmp_path / "a.jsonl", make_xiezhi(3, ("Alchemy",)))],
            [],
            r"no row .* is of engineering, history, .*alchemy",
        ),
        (
            [write_jsonl(tmp_path / "b.jsonl", make_xiezhi(260, ("History",)))],
            [],
            "history has 260 rows with 4 options; more than 260",
        ),
        ([write_jsonl(tmp_path / "c.jsonl", [{"labels": "History"}])], [], "line 1: labels 'History' is not a list"),
    ):
        with pytest.raises(UserError, match=message):
            read_xiezhi(files, domains)


def test_the_command_writes_the_split_and_its_terms(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "History.jsonl", make_xiezhi(270, ("History",)))
    done = run_command("python", "-m", "intervention", "questions", "xiezhi", file, "--output", tmp_path / "set")
    assert done.returncode == 0, done.stderr
    assert "history: the split is NOT the paper's" in done.stdout
    table = read_questions(tmp_path / "set")
    expected, _ = read_xiezhi([file])
    assert table.filter(pl.col("split") == "dev")["id"].to_list() == expected.filter(pl.col("split") == "dev")["id"].to_list()
    config = read_config(tmp_path / "set")
    assert [(part["source"], part["licence"]) for part in config["terms"]] == [("xiezhi", "cc-by-nc-sa-4.0")]
    card = (tmp_path / "set/README.md").read_text()
    assert "license: cc-by-nc-sa-4.0" in card
    assert "@misc{gu2023xiezhi" in card
    assert 'load_dataset(FOLDER, "history", split="test")' in card
