"""Made-up free-form questions in tests, and question sets of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from pack import write_layout

from lm_eval_tasks.contracts.free_form import FREE_FORM_SCHEMA
from lm_eval_tasks.contracts.questions import read_questions

COLOURS = ("green", "grey", "white", "red", "blue", "brown", "black")


def make_free_form(n: int, name: str = "q") -> list[dict[str, Any]]:
    """Made-up questions, each with two accepted texts."""
    return [
        {"id": f"{name}-{i}", "source": "made_up", "question": f"What colour is {name} {i}?"}
        | {"answers": [f"{COLOURS[i % 7]} {i}", f"{COLOURS[i % 7]}-{i}th"]}
        for i in range(n)
    ]


def write_free_form(folder: Path, configs: Mapping[str, Mapping[str, list[dict[str, Any]]]]) -> Path:
    """A free-form question set: domain -> split -> rows."""
    tables = {
        domain: {
            split: pl.DataFrame([{"domain": domain, "topics": []} | row for row in rows], FREE_FORM_SCHEMA)
            for split, rows in splits.items()
        }
        for domain, splits in configs.items()
    }
    return write_layout(folder, tables)


def convert_free_form(questions: Path, folder: Path) -> Path:
    """A question set without its choices: gold is what is accepted."""
    columns = ("id", "source", "subject", "question")
    configs: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in read_questions(questions).iter_rows(named=True):
        own = {name: row[name] for name in columns} | {"answers": [row["choices"][row["answer"]]]}
        configs.setdefault(row["domain"], {}).setdefault(row["split"], []).append(own)
    return write_free_form(folder, configs)
