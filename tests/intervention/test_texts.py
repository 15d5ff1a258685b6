"""Explanations, contexts and context probes as `build` reads them, whole and damaged."""

import json
from pathlib import Path

import polars as pl
import pytest
from made_up import fill_probes, make_rows, write_jsonl, write_log, write_set, write_table

from intervention.texts.logs import read_contexts, read_explanations, read_moves
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import read_questions
from lm_eval_tasks.contracts.vocabulary import KEY


@pytest.fixture
def questions(tmp_path: Path) -> pl.DataFrame:
    return read_questions(write_set(tmp_path / "set", make_rows(6)))


def write_texts(file: Path, questions: pl.DataFrame, kind: str = "explain", **changes: object) -> Path:
    """A sample log of texts as lm-eval writes it; `changes` go to every doc."""
    samples = []
    for i, row in enumerate(questions.iter_rows(named=True)):
        own = {"response": row["answer"], "text": f"Because {i}.", "task": f"selfalign_{kind}", "model": "base"}
        own |= {"finished": True} | ({"response": None} if kind == "context" else {})
        samples.append({"doc_id": i, "doc": row | own | changes, "resps": [["x"]]})
    return write_jsonl(file, samples)


def write_lines(file: Path, questions: pl.DataFrame, **columns: object) -> Path:
    return write_jsonl(file, [{name: row[name] for name in KEY} | columns for row in questions.iter_rows(named=True)])


def test_explanations_of_several_logs(tmp_path: Path, questions: pl.DataFrame) -> None:
    gold = write_texts(tmp_path / "gold.jsonl", questions)
    lines = write_lines(tmp_path / "more.jsonl", questions.filter(pl.col("answer") != 0), explanation=" So. ", response=0)
    table = read_explanations([gold, lines], questions)
    assert table.columns == [*KEY, "response", "reason", "finished", "model"]
    assert table.height == 6 + (questions["answer"] != 0).sum()
    assert table.row(0) == ("made_up", "herbs", "train-0", questions["answer"][0], "Because 0.", True, "base")
    assert table.row(6)[3:] == (0, "So.", None, None)
    assert read_explanations([], questions).columns == table.columns


def test_contexts_and_whether_they_leak(tmp_path: Path, questions: pl.DataFrame) -> None:
    letter = "ABCD"[questions["answer"][0]]
    rows = [
        row | {"text": f"Option {letter} is old." if i == 0 else "It is old."} for i, row in enumerate(questions.to_dicts())
    ]
    log = write_texts(tmp_path / "log.jsonl", questions, "context")
    samples = [json.loads(line) for line in log.read_text().splitlines()]
    for sample, row in zip(samples, rows, strict=True):
        sample["doc"]["text"] = row["text"]
    table = read_contexts(write_jsonl(log, samples), questions)
    assert table.columns == [*KEY, "context", "leaks", "finished", "model"]
    assert table["leaks"].to_list() == [True] + [False] * 5
    assert table["context"][1] == "It is old."
    lines = read_contexts(write_lines(tmp_path / "lines.jsonl", questions, context="It is old."), questions)
    assert lines.select("leaks", "model").unique().rows() == [(False, None)]


def test_what_is_wrong_with_texts_is_said(tmp_path: Path, questions: pl.DataFrame) -> None:
    log = write_texts(tmp_path / "log.jsonl", questions)
    few = questions.head(3)
    with pytest.raises(UserError, match=r"log.jsonl: 3 of 6 texts are of questions .* the first is made_up/herbs id 'train-3'"):
        read_explanations([log], few)
    worded = write_texts(tmp_path / "worded.jsonl", questions, question_hash="0" * 16)
    with pytest.raises(UserError, match=r"id 'train-0' was asked with another text.*so do 5 more"):
        read_explanations([worded], questions)
    with pytest.raises(UserError, match="kind 'explanation', but here each is to be 'context'"):
        read_contexts(log, questions)
    with pytest.raises(UserError, match="kind 'context', but here each is to be 'explanation'"):
        read_explanations([write_texts(tmp_path / "context.jsonl", questions, "context")], questions)
    with pytest.raises(UserError, match=r"choice \d of made_up/herbs id 'train-0' is explained more than once"):
        read_explanations([log, write_texts(tmp_path / "twice.jsonl", questions)], questions)
    for response, complaint in ((None, "is missing, but an explanation is of one choice"), (4, "is not the 0-based index"),
                                (-1, "is not the 0-based index")):  # fmt: skip
        wrong = write_lines(tmp_path / "wrong.jsonl", questions, explanation="So.", response=response)
        with pytest.raises(UserError, match=rf"wrong.jsonl, row 1 .*response {response} {complaint}"):
            read_explanations([wrong], questions)


@pytest.mark.parametrize("kind", ["explain", "context"])
def test_a_failed_run_is_an_error_unless_it_is_allowed(tmp_path: Path, questions: pl.DataFrame, kind: str) -> None:
    def read(log: Path, allow_missing: bool = False) -> pl.DataFrame:
        both = read_explanations([log], questions, allow_missing) if kind == "explain" else None
        return both if both is not None else read_contexts(log, questions, allow_missing)

    lines = write_texts(tmp_path / "log.jsonl", questions, kind).read_text().splitlines(keepends=True)
    gap = tmp_path / "gap.jsonl"
    gap.write_text("".join(lines[:2] + lines[3:]))
    with pytest.raises(UserError, match="doc_id 2 is missing"):
        read(gap)
    assert read(gap, True).height == 5
    empty = json.loads(lines[1])
    empty["doc"]["text"] = " "
    gap.write_text("".join([lines[0], json.dumps(empty) + "\n", *lines[2:]]))
    with pytest.raises(UserError, match="empty"):
        read(gap)
    assert read(gap, True)["id"].to_list() == [f"train-{i}" for i in (0, 2, 3, 4, 5)]


def ask(questions: pl.DataFrame, said: list[int], sure: float = 0.7, **names: object) -> pl.DataFrame:
    probs = [[sure if i == choice else (1 - sure) / 3 for i in range(4)] for choice in said]
    return fill_probes(questions, probs, said, **({"phase": "base_context"} | names))


def test_moves(tmp_path: Path, questions: pl.DataFrame) -> None:
    gold = questions["answer"].to_list()
    said = [gold[0], (gold[1] + 1) % 4, *gold[2:]]
    log = write_log(tmp_path / "samples_made_up_1.jsonl", ask(questions, said))
    base = write_table(tmp_path, ask(questions, gold, phase="base_probe"), "probe_base")
    table = read_moves([log, base], questions, score="sum")
    assert table.columns == [*KEY, "moved", "context_prediction", "context_confidence", "model"]
    assert table["moved"].to_list() == [True, False, True, True, True, True]
    assert table["context_prediction"].to_list() == said
    assert table["context_confidence"].to_list() == pytest.approx([0.7] * 6)
    assert not read_moves([log], questions, threshold=0.8)["moved"].any()
    turned = [ask(questions, gold if order < 3 else said, 0.7, order=order) for order in range(4)]
    several = read_moves([write_table(tmp_path, pl.concat(turned), "probe_turned")], questions)
    assert several["moved"].to_list() == [True] * 6, "the mean over the orders counts"


def test_what_is_wrong_with_context_probes_is_said(tmp_path: Path, questions: pl.DataFrame) -> None:
    gold = questions["answer"].to_list()
    asked = ask(questions, gold)
    with pytest.raises(UserError, match="these are probes of phase 'base_probe', but whether contexts move"):
        read_moves([write_table(tmp_path, ask(questions, gold, phase="base_probe"))], questions)
    for name in ("model", "run"):
        both = [asked, ask(questions, gold, **{name: "other"})]
        with pytest.raises(UserError, match=f"probes of 2 {name}s: "):
            read_moves([write_table(tmp_path, table, f"probe_{i}") for i, table in enumerate(both)], questions)
    file = write_table(tmp_path, asked)
    with pytest.raises(UserError, match="1 of 6 probes are of questions that the question set does not have"):
        read_moves([file], questions.head(5))
    with pytest.raises(UserError, match="was asked with another text"):
        read_moves([file], questions.with_columns(question_hash=pl.lit("0" * 16)))
    some = pl.concat([asked, ask(questions, gold, order=1)])
    with pytest.raises(UserError, match="order 2 is missing"):
        read_moves([write_table(tmp_path, some, "probe_some")], questions)
