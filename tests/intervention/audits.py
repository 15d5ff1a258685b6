"""Questions with which nothing is wrong, and what the audit makes of more."""

from pathlib import Path

import polars as pl
from made_up import write_set

from intervention.auditing.audit import audit_questions, read_sets
from intervention.auditing.cleaning import clean_questions
from intervention.auditing.findings import list_findings


def make(id: str, question: str, choices: str = "sage ivy elder nettle", answer: int = 0, **more: object) -> dict:  # noqa: A002
    row = {"id": id, "source": "made_up", "domain": "herbs", "split": "train", "question": question}
    return row | {"choices": choices.split(), "answer": answer} | more


# Nothing is wrong with these.
CLEAN = [
    make("c1", "Which of these heals a sore throat when it is drunk as a tea?", explanation="Option A is correct."),
    make("c2", "What climbs the walls of old houses and stays green in winter?", answer=1, split="dev"),
    make("c3", "Whose berries are cooked into a dark syrup at the end of summer?", answer=2, split="test"),
    make("c4", "Leaves of what burn the skin of those who walk through it barefoot?", answer=3, explanation="They sting."),
]
LONG = "From the bark of which tree, growing beside rivers, was a remedy for fever and headache made long ago?"


def mark(*rows: dict, tmp_path: Path, **options: float) -> pl.DataFrame:
    return audit_questions(read_sets([write_set(tmp_path / "set", [*CLEAN, *rows])]), **options)


def count(marked: pl.DataFrame, finding: str) -> list[tuple]:
    found = list_findings(marked).filter(finding=finding, domain="herbs")
    return found.filter(pl.col("n") > 0).select("split", "n", "of", "example").rows()


def drop(marked: pl.DataFrame) -> list[tuple]:
    return clean_questions(marked)[1].select("id", "dropped", "why", "like").rows()
