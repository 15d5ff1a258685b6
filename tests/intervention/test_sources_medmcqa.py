"""MedMCQA's right choices are right whichever way its files count them, or the file is refused."""

import gzip
import json
from pathlib import Path

import datasets
import polars as pl
import pytest
import yaml
from conftest import ROOT, run_command
from layouts import MEDMCQA_FEATURES, OPTIONS, make_medmcqa, read_config, write_medmcqa
from made_up import write_jsonl

from intervention.sources import medmcqa
from intervention.sources.medmcqa import read_medmcqa
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import read_questions

REFERENCE = ROOT.parent / "shared/reference"
NUMBERS = datasets.Features(MEDMCQA_FEATURES | {"cop": datasets.Value("int64")})


def write_raw(folder: Path, train: list[dict], validation: list[dict]) -> Path:
    """The files that the authors publish."""
    folder.mkdir()
    write_jsonl(folder / "train.json", train)
    write_jsonl(folder / "dev.json", validation)
    write_jsonl(
        folder / "test.json", [{name: row[name] for name in ("id", "question", *OPTIONS)} for row in make_medmcqa(3, "test")]
    )
    return folder


def test_the_hubs_layout_and_the_authors_files_give_the_same_questions(tmp_path: Path) -> None:
    hub = write_medmcqa(tmp_path / "hub", make_medmcqa(40, "train"), make_medmcqa(12, "validation"))
    raw = write_raw(tmp_path / "raw", make_medmcqa(40, "train", 1), make_medmcqa(12, "validation", 1))
    ours, origin = read_medmcqa(str(hub))
    table, told = read_medmcqa(str(raw))
    assert ours.equals(table)
    assert origin.notes[0] == "`cop` counts the choices from 0, as a ClassLabel does."
    assert told.notes[0] == "`cop` counts the choices from 1, because it holds a 4."
    assert table.group_by("split").len().sort("split").rows() == [("dev", 10), ("test", 12), ("train", 30)]
    row = table.filter(pl.col("id") == "validation/5").row(0, named=True)
    assert row == {
        "id": "validation/5", "source": "medmcqa", "domain": "medicine", "subject": "Herbs", "split": "test", "answer": 1,
        "question": "What validation heals 5?", "choices": ["sage 5", "ivy 5", "yew 5", "rue 5"],
        "explanation": "It heals 5.", "topics": ["Leaves"],
    }  # fmt: skip
    assert table.filter(pl.col("id") == "validation/4")["topics"].to_list() == [[]]


def test_demonstrations_are_drawn_from_train_and_always_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write_raw(tmp_path / "raw", make_medmcqa(40, "train", 1), make_medmcqa(4, "validation", 1))
    table, origin = read_medmcqa(str(raw))
    dev = table.filter(pl.col("split") == "dev")
    assert dev["id"].to_list() == read_medmcqa(str(raw))[0].filter(pl.col("split") == "dev")["id"].to_list()
    assert dev["id"].str.starts_with("train/").all()
    assert dev["id"].n_unique() == 10
    assert "drawn from MedMCQA's train split with the seed 42" in origin.notes[2]
    assert origin.seeds == {"dev questions": 42}
    monkeypatch.setattr(medmcqa, "PAPER_DEV", (7, 3, 30))
    names = [f"train/{row}" for row in (7, 3, 30)]
    theirs = pl.DataFrame({"id": names}).join(table, on="id", maintain_order="left")
    monkeypatch.setattr(medmcqa, "PAPER_DEV_HASH", medmcqa.hash_table(theirs))
    table, origin = read_medmcqa(str(raw))
    assert table.filter(pl.col("split") == "dev")["id"].to_list() == names
    assert "that the paper demonstrates with" in origin.notes[2]


def test_rows_without_one_explained_answer_are_left_out_and_counted(tmp_path: Path) -> None:
    train = make_medmcqa(40, "train", 1)
    train[0]["choice_type"] = "multi"
    train[1]["exp"] = " "
    train[2]["exp"] = None
    train[3]["opb"] = ""
    train[4]["cop"] = None
    table, origin = read_medmcqa(str(write_raw(tmp_path / "raw", train, make_medmcqa(4, "validation", 1))))
    assert table.height == 39
    assert origin.dropped == {"choice_type is not single": 1, "no answer": 1, "a text is missing": 1, "no explanation": 2}
    assert not {f"train/{i}" for i in range(5)} & set(table["id"])


@pytest.mark.parametrize("layout", ["raw", "hub"])
def test_a_cop_that_can_be_read_in_two_ways_is_refused_unless_it_is_said(tmp_path: Path, layout: str) -> None:
    def write(name: str, cops: list[int]) -> str:
        rows = [row | {"cop": cop} for row, cop in zip(make_medmcqa(len(cops), "train"), cops)]
        if layout == "raw":
            return str(write_raw(tmp_path / name, rows, rows[:1]))
        return str(write_medmcqa(tmp_path / name, rows, rows[:1], NUMBERS))

    with pytest.raises(UserError, match=r"cop holds neither 0 nor 4, so .* cannot be told. Say --first 0 or 1"):
        read_medmcqa(write("few", [1, 2, 3]))
    assert read_medmcqa(str(tmp_path / "few"), 0)[0].sort("id")["answer"].to_list() == [1, 2, 3, 1]
    assert read_medmcqa(str(tmp_path / "few"), 1)[0].sort("id")["answer"].to_list() == [0, 1, 2, 0]
    with pytest.raises(UserError, match="cop holds both 0 and 4"):
        read_medmcqa(write("both", [0, 4, 2]))
    with pytest.raises(UserError, match=r"train, row 2 \(id 'train/1'\): cop 4 is no choice, where 0 is the first"):
        read_medmcqa(str(tmp_path / "both"), 0) if layout == "raw" else read_medmcqa(write("second", [1, 4, 1]), 0)
    with pytest.raises(UserError, match=r"cop 0 is no choice, where 1 is the first"):
        read_medmcqa(write("zero", [0, 1, 2]), 1)
    with pytest.raises(UserError, match=r"cop 7 is no choice, where 1 is the first"):
        read_medmcqa(write("seven", [1, 4, 7]))
    with pytest.raises(UserError, match="--first 2 is neither 0 nor 1"):
        read_medmcqa(str(tmp_path / "few"), 2)


def test_what_is_not_there_is_named_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"openlifescienceai/medmcqa, .* cannot be read: .*where there is a network") as caught:
        read_medmcqa()
    assert "\n" not in str(caught.value)
    odd = write_jsonl(tmp_path / "questions.json", make_medmcqa(3, "train", 1))
    with pytest.raises(UserError, match=r"questions.json: which split is this\? Name the file train.json or dev.json"):
        read_medmcqa(str(odd))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty, config 'default', split 'validation' cannot be read"):
        read_medmcqa(str(tmp_path / "empty"))
    twice = write_raw(tmp_path / "twice", make_medmcqa(4, "train", 1), make_medmcqa(4, "validation", 1))
    write_jsonl(twice / "val.jsonl", make_medmcqa(4, "validation", 1))
    with pytest.raises(UserError, match=r"has two files of one split, dev.json and val.jsonl"):
        read_medmcqa(str(twice))
    other = datasets.Dataset.from_list([{"question": "q"}])
    (tmp_path / "other/data").mkdir(parents=True)
    for split in ("train", "validation"):
        other.to_parquet(str(tmp_path / f"other/data/{split}.parquet"))
    with pytest.raises(UserError, match=r"split 'validation' has no column 'opa'"):
        read_medmcqa(str(tmp_path / "other"))
    table, origin = read_medmcqa(str(write_jsonl(tmp_path / "dev.json", make_medmcqa(8, "validation", 1))))
    assert (table.height, table["split"].unique().to_list()) == (8, ["test"])
    assert origin.notes[-1] == "There are no train questions, so there are no dev questions."


def test_a_folder_of_which_the_files_changed_is_read_again(tmp_path: Path) -> None:
    """`datasets` caches a folder with a card by the card."""
    hub = write_medmcqa(tmp_path / "hub", make_medmcqa(12, "train"), make_medmcqa(4, "validation"))
    files = [{"split": split, "path": f"data/{split}-*"} for split in ("train", "validation")]
    header = {"configs": [{"config_name": "default", "data_files": files}]}
    (hub / "README.md").write_text(f"---\n{yaml.safe_dump(header)}---\n")
    assert read_medmcqa(str(hub))[0]["question"].str.contains("train").sum() == 12
    data = datasets.Dataset.from_list(make_medmcqa(12, "other"), features=MEDMCQA_FEATURES)
    data.to_parquet(str(hub / "data/train-00000-of-00001.parquet"))
    assert read_medmcqa(str(hub))[0]["question"].str.contains("other").sum() == 12


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the paper's data (shared/reference) is not here")
def test_answers_of_the_authors_files_are_the_papers(tmp_path: Path) -> None:
    with gzip.open(REFERENCE / "medmcqa_raw/sample.jsonl.gz", "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    theirs = {}
    for split in ("dev", "test"):
        with gzip.open(REFERENCE / f"questions/medicine/{split}.jsonl.gz", "rt", encoding="utf-8") as stream:
            theirs |= {(row["question"], *row["choices"]): row["answer"] for row in map(json.loads, stream)}
    table, origin = read_medmcqa(str(write_raw(tmp_path / "raw", rows[:10], rows[10:])))
    assert (table.height, origin.dropped) == (210, {})
    for question, choices, answer in table.select("question", "choices", "answer").iter_rows():
        assert theirs[question, *choices] == answer
    test = table.filter(pl.col("split") == "test")
    assert test["id"].to_list() == [f"validation/{i}" for i in range(200)]
    # At their own places in the train split the ten demonstrations are known as the paper's.
    blank = dict.fromkeys(rows[0])
    train = [blank] * (max(medmcqa.PAPER_DEV) + 1)
    for place, row in zip(medmcqa.PAPER_DEV, rows):
        train[place] = row
    table, origin = read_medmcqa(str(write_raw(tmp_path / "placed", train, rows[10:])))
    assert table.filter(pl.col("split") == "dev")["id"].to_list() == [f"train/{place}" for place in medmcqa.PAPER_DEV]
    assert origin.notes[2] == "The dev questions are the ten of MedMCQA's train split that the paper demonstrates with."


def test_the_command_writes_the_set_and_its_card(tmp_path: Path) -> None:
    hub = write_medmcqa(tmp_path / "hub", make_medmcqa(40, "train"), make_medmcqa(12, "validation"))
    done = run_command("python", "-m", "intervention", "questions", "medmcqa", "--data", hub, "--output", tmp_path / "set")
    assert (done.returncode, done.stderr) == (0, "")
    assert "`cop` counts the choices from 0" in done.stdout
    assert read_questions(tmp_path / "set", ["medicine"]).height == 52
    config = read_config(tmp_path / "set")
    assert config["terms"] == [{"part": "questions", "source": "medmcqa", "licence": "apache-2.0", "note": ""}]
    card = (tmp_path / "set/README.md").read_text()
    assert "license: apache-2.0" in card
    assert "@inproceedings{pal2022medmcqa" in card
    assert "seed of the dev questions: 42" in card
