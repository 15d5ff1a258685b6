"""Real question banks through and through: question sets, the audit and its copy, the tasks, and lm-eval's own command."""

import gzip
import json
import os
import sys
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from conftest import ROOT, run_command
from pack import build

from intervention.__main__ import app
from intervention.auditing.cleaning import DROPPED, SHOWN
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import read_questions

REFERENCE = (ROOT / "../shared/reference").resolve()
pytestmark = [
    pytest.mark.launched,
    pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"the real question banks are not at {REFERENCE}"),
]
BANKS = REFERENCE / "banks"
ARC = [f"{split}={BANKS}/arc_easy/{split}.jsonl.gz" for split in ("train", "test")]
# How each bank becomes a question set, and how many questions of each split were published.
MADE = {
    "mmlu": (["mmlu", "--data", BANKS / "mmlu"], {"train": 1531, "dev": 285, "test": 14042}),
    "cmmlu": (["cmmlu", "--data", BANKS / "cmmlu"], {"dev": 335, "test": 11582}),
    "ceval": (["ceval", "--data", BANKS / "ceval"], {"dev": 260, "test": 1346}),
    "xiezhi": (["xiezhi", "Engineering.jsonl.gz"], {"train": 4829, "dev": 10, "test": 250}),
    "medmcqa": (["medmcqa", "--data", "dev.jsonl.gz"], {"test": 210}),
    "arc": (["jsonl", *ARC], {"train": 2251, "test": 2376}),
    "truthfulqa": (["jsonl", "truthfulqa.jsonl"], {"train": 552, "dev": 10, "test": 237}),
}
LONG = 14  # questions of TruthfulQA with more than ten choices


def read_lines(file: Path) -> list[dict]:
    with gzip.open(file, "rt") as stream:
        return [json.loads(line) for line in stream]


def list_raw(name: str) -> list[tuple[str, tuple[str, ...]]]:
    """The questions and choices of a bank as its own files have them, read by nothing of this project."""
    if name == "mmlu":
        rows = pl.read_parquet(BANKS / "mmlu/all/*.parquet").iter_rows(named=True)
        return [(row["question"], tuple(row["choices"])) for row in rows]
    if name in ("cmmlu", "ceval"):
        tables = [pl.read_parquet(file) for file in (BANKS / name).rglob("*.parquet")]
        rows = [row for table in tables for row in table.iter_rows(named=True)]
        return [(row.get("question") or row["Question"], tuple(row[letter] for letter in "ABCD")) for row in rows]
    if name == "xiezhi":
        rows = read_lines(REFERENCE / "xiezhi_raw/engineering.jsonl.gz")
        return [(row["question"], tuple(row["options"].split("\n"))) for row in rows]
    if name == "medmcqa":
        rows = read_lines(REFERENCE / "medmcqa_raw/sample.jsonl.gz")
        return [(row["question"], tuple(row[f"op{letter}"] for letter in "abcd")) for row in rows]
    if name == "arc":
        rows = [row for split in ("train", "test") for row in read_lines(BANKS / f"arc_easy/{split}.jsonl.gz")]
        return [(row["question"], tuple(row["choices"])) for row in rows]
    return [(row["question"], tuple(row["choices"])) for row in make_truthfulqa() if len(row["choices"]) <= 10]


def make_truthfulqa() -> list[dict]:
    """TruthfulQA as a file of one's own: the best answer among the incorrect ones, in a position of its own."""
    rows = []
    for i, row in enumerate(read_lines(BANKS / "truthfulqa.jsonl.gz")):
        choices = [text.strip() for text in row["Incorrect Answers"].split(";") if text.strip()]
        answer = i % (len(choices) + 1)
        choices.insert(answer, row["Best Answer"])
        rows.append({"id": str(i), "question": row["Question"], "choices": choices, "answer": answer})
    return rows


def write_set(name: str, folder: Path, *options: str) -> Path:
    """The question set that `python -m intervention questions` makes of a bank."""
    for file, source in (("Engineering.jsonl.gz", "xiezhi_raw/engineering"), ("dev.jsonl.gz", "medmcqa_raw/sample")):
        if not (folder / file).exists():
            (folder / file).symlink_to(REFERENCE / f"{source}.jsonl.gz")
    (folder / "truthfulqa.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in make_truthfulqa()))
    words = [str(folder / word) if (folder / str(word)).is_file() else str(word) for word in MADE[name][0]]
    app(["questions", *words, "--output", str(folder / name), *options], standalone_mode=False)
    return folder / name


@pytest.fixture(params=MADE)
def bank(request, share_folder):
    """Each bank: its name, and its question set."""
    name = request.param
    return name, share_folder(f"bank_{name}", lambda folder: write_set(name, folder)) / name


def test_every_question_is_read_and_every_text_stays_as_it_is(bank):
    name, folder = bank
    table = read_questions(folder)
    assert dict(table.group_by("split").len().iter_rows()) == MADE[name][1]
    found = [(row["question"], tuple(row["choices"])) for row in table.iter_rows(named=True)]
    assert Counter(found) == Counter(list_raw(name))
    assert table["answer"].null_count() == 0


def test_a_bank_is_audited_and_its_copy_is_asked_by_both_commands(bank, tmp_path):
    name, folder = bank
    app(["audit", str(folder), "--json", str(tmp_path / "audit.json"), "--fix", str(tmp_path / name)], standalone_mode=False)
    table = read_questions(tmp_path / name)
    assert table.filter(split="test").height == MADE[name][1]["test"]
    metadata = json.dumps({"questions": str(tmp_path / name)} | ({} if "dev" in MADE[name][1] else {"shots": 0}))
    asked = ["run", "--model", "dummy", "--metadata", metadata, "--limit", "3", "--log_samples", "--output_path"]
    ours = [sys.executable, "-m", "lm_eval_tasks", *asked, tmp_path / "ours", "--tasks", "selfalign_probe"]
    cloze = [*asked[1:], tmp_path / "cloze", "--tasks", "selfalign_probe_cloze"]
    plain = [Path(sys.executable).parent / "lm_eval", *asked, tmp_path / "plain", "--include_path", "lm_eval_tasks"]
    docs = []
    for words in ([*ours, "then", *cloze], [*plain, "--tasks", "selfalign_probe"]):
        # The stand-in of a model would ask the Hub for a tokenizer, for a minute where there is no network.
        done = run_command(*words, env=os.environ | {"HF_HUB_OFFLINE": "1"})
        assert done.returncode == 0, done.stderr
    for way in ("ours", "plain", "cloze"):
        (log,) = (tmp_path / way).rglob("samples_*")
        docs.append([json.loads(line)["doc"] for line in log.open()])
    assert [[doc["id"] for doc in part] for part in docs] == [table.filter(split="test")["id"].head(3).to_list()] * 3
    texts = [[(doc["question"], doc["choices"], doc["answer"]) for doc in part] for part in docs]
    assert texts[0] == texts[1] == texts[2] == table.filter(split="test").select("question", "choices", "answer").head(3).rows()


@pytest.mark.parametrize(("name", "dev"), [("mmlu", 5), ("cmmlu", 0), ("ceval", 0)])
def test_a_dev_question_that_is_asked_leaves_dev_where_enough_are_left(share_folder, tmp_path, caplog, name, dev):
    """CMMLU's subjects have five dev questions each, so the two that are asked stay: they are left out of what is asked."""
    folder = share_folder(f"bank_{name}", lambda folder: write_set(name, folder)) / name
    app(["audit", str(folder), "--fix", str(tmp_path / "fixed")], standalone_mode=False)
    dropped = [json.loads(line) for line in (tmp_path / "fixed" / DROPPED).read_text().splitlines()]
    left = [row["id"] for row in dropped if row["why"] == SHOWN]
    assert len(left) == dev
    before, after = (read_questions(path, splits=["dev"])["id"].to_list() for path in (folder, tmp_path / "fixed"))
    assert after == [row for row in before if row not in left]
    assert before[:5] == after[:5]
    task = build("selfalign_probe", questions=str(tmp_path / "fixed"))
    task.check()
    assert "dev question(s) are asked too" not in caplog.text
    assert ("2 of 11582 questions cannot be asked and are left out (shown as a demonstration: 2)" in caplog.text) == (
        name == "cmmlu"
    )
    if name == "mmlu":
        build("selfalign_probe", questions=str(folder)).check()
        assert "5 dev question(s) are asked too" in caplog.text


def test_questions_of_too_many_choices_are_named_and_refused_where_asked_to(tmp_path, capsys):
    write_set("truthfulqa", tmp_path)
    assert f"left out: {LONG} rows, with more than 10 choices" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"truthfulqa.jsonl, row 32 \(id '31'\): choices .* are more than 10"):
        write_set("truthfulqa", tmp_path, "--strict")
