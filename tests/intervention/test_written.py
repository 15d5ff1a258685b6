"""What is found wrong with texts that a model wrote: each flaw in texts of one's own, counted, with its interval."""

from pathlib import Path

import polars as pl
import pytest
from conftest import run_command
from made_up import make_rows, write_jsonl, write_set
from test_texts import write_texts

from intervention.auditing.written import WRITTEN, find_written
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import KNOWLEDGE
from lm_eval_tasks.contracts.questions import read_questions

N = 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A question set of a few questions, each about a bridge, whose choices are materials; gold is the second."""
    rows = [
        row | {"question": f"Bridge {i} is built of _____", "choices": ["steel", "wood", "plain steel", "stone"], "answer": 1}
        for i, row in enumerate(make_rows(N))
    ]
    return write_set(tmp_path / "set", rows)


def count(folder: Path, kind: str, text: str, **changes: object) -> set[str]:
    """What is found where one text is this, and the others are in order."""
    questions = read_questions(folder)
    log = write_texts(folder.parent / f"{kind}.jsonl", questions, kind, text="Bridges are old.", **changes)
    samples = pl.read_ndjson(log).to_dicts()
    samples[0]["doc"]["text"] = text
    _, findings = find_written(write_jsonl(log, samples), folder)
    assert set(findings["finding"]) <= {name for names in WRITTEN.values() for name in names}
    assert set(findings["n"]) <= {0, 1, N}
    return set(findings.filter(pl.col("n") == 1)["finding"])


@pytest.mark.parametrize(
    ("text", "context", "explanation"),
    [
        ("Trees grow slowly.", set(), set()),
        ("", {"empty"}, {"empty"}),
        ("It is a tree. It is a tree.", {"repeats a sentence"}, {"repeats a sentence"}),
        (f"It rots. {KNOWLEDGE[20:90]}", {"copies the prompt's demonstration"}, {"copies the prompt's demonstration"}),
        (
            "Bridge 0 is built of wood.",
            {"repeats the question", "names the answer and no other choice"},
            {"repeats the question"},
        ),
        (
            "Wood.",
            {"nothing but a choice", "gives the answer away", "names the answer and no other choice"},
            {"nothing but a choice"},
        ),
        (
            "Stone.",
            {"nothing but a choice", "names other choices and not the answer"},
            {"nothing but a choice", "names other choices and not its own", "states another choice"},
        ),
        ("Plain steel rusts.", {"names other choices and not the answer"}, {"names other choices and not its own"}),
        ("Steel rusts and wood rots.", set(), set()),
        ("Option B is a plant.", {"names a letter", "gives the answer away"}, {"names a letter"}),
        ("Option C is a metal.", {"names a letter"}, {"names a letter"}),
        (
            "The answer is stone, wood rots.",
            set(),
            {"states another choice"},
        ),
    ],
)
def test_each_flaw_is_found(folder: Path, text: str, context: set[str], explanation: set[str]) -> None:
    assert count(folder, "context", text) == context
    assert count(folder, "explain", text) == explanation


def test_cut_texts_are_counted_among_those_of_which_it_is_known(folder: Path) -> None:
    questions = read_questions(folder)
    log = write_texts(folder.parent / "log.jsonl", questions, "context")
    samples = pl.read_ndjson(log).to_dicts()
    for sample, finished in zip(samples, (True, False, False, None), strict=True):
        sample["doc"]["finished"] = finished
    kind, findings = find_written(write_jsonl(log, samples), folder)
    assert kind == "context"
    cut = findings.row(by_predicate=pl.col("finding") == "cut at the limit of tokens", named=True)
    assert (cut["n"], cut["of"], cut["split"]) == (2, 3, "train")
    assert (round(cut["low"], 3), round(cut["high"], 3)) == (0.208, 0.939)
    assert cut["example"].endswith(questions["id"][1])


def test_the_command_prints_a_table_a_log_and_refuses_texts_of_other_questions(folder: Path) -> None:
    questions = read_questions(folder)
    logs = [write_texts(folder.parent / f"{kind}.jsonl", questions, kind) for kind in ("context", "explain")]
    done = run_command("python", "-m", "intervention", "requests", "audit", *map(str, logs), "--questions", str(folder))
    assert done.returncode == 0, done.stderr
    assert f"{logs[0]}: {N} texts (context)" in done.stdout
    assert f"{logs[1]}: {N} texts (explanation)" in done.stdout
    assert "Not found: empty; cut at the limit of tokens;" in done.stdout
    other = write_set(folder.parent / "other", make_rows(N))
    with pytest.raises(UserError, match="was asked with another text, choices or answer"):
        find_written(logs[0], other)
    with pytest.raises(UserError, match=r"response .* is not the 0-based index of a choice"):
        find_written(write_texts(folder.parent / "bad.jsonl", questions, response=9), folder)
