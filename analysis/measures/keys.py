"""What identifies the rows of tables, in which order they stand, and how sentences name a run."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from analysis.measures.metrics import ANSWERED, METRICS
from lm_eval_tasks.contracts.vocabulary import BASE, CONDITIONS, EVALUATION_SETS, PHASES, name_condition

PART = ("model", "domain")  # what one part of a study is of: a base model and a trained domain
CONDITION = ("condition", "ratio")
RUN_KEY = (*PART, *CONDITION, "seed")  # what tells runs of a study apart
BLOCK = (*PART, "phase", "split")  # whose runs were asked alike
GROUP = (*PART, *CONDITION, "phase", "split")  # what tells conditions' answers apart in a table of measures
QUESTION = ("source", "question_domain", "id")  # and questions: the trained domain is called `domain` there

_WORDS = {"condition": (BASE, *CONDITIONS), "phase": (*PHASES,), "split": (*EVALUATION_SETS,)}
_WORDS["metric"] = (*METRICS, *ANSWERED)


def sort_by_words(table: pl.DataFrame) -> pl.DataFrame:
    """Sort by what identifies a row, in the order of the vocabulary; columns that the table lacks are passed over.

    >>> sort_by_words(pl.DataFrame({"condition": ["mine", "incompatible", "base"], "split": ["homo", "id", "ood"]})).rows()
    [('base', 'ood'), ('incompatible', 'id'), ('mine', 'homo')]
    """
    keys = []
    for name in ("model", "domain", "metric", "phase", "condition", "ratio", "seed", "split"):
        if name in table.columns:
            order = _WORDS.get(name)
            column = pl.col(name)
            known = column.replace_strict(order, range(len(order)), default=len(order)) if order else column
            keys += [-known if name == "ratio" else known, column]
    return table.sort(keys, nulls_last=False, maintain_order=True)


def name_run(row: Mapping[str, Any]) -> str:
    """A run as sentences name it, by its condition, seed and trained domain; the base model by its name.

    >>> name_run({"condition": "mix", "ratio": 0.4, "seed": 1, "domain": "herbs", "model": "llama"})
    'mix 0.4, seed 1 (herbs, llama)'
    """
    domain = row.get("trained_domain") or row["domain"]
    if row["condition"] == BASE:
        return f"the base model {row['model']}"
    return f"{name_condition(row['condition'], row['ratio'])}, seed {row['seed']} ({domain}, {row['model']})"
