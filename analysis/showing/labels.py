"""The words and the order in which tables, figures and the page name things. The keys are those of the data."""

from collections.abc import Mapping
from typing import Any

import polars as pl

# Order: from what agrees most with the base model's beliefs to what agrees least.
CONDITIONS = {
    "harmonious": "The model was right. It is trained on the right answer.",
    "self_aligning": "The model was wrong. It is trained on its own wrong answer.",
    "mix": "The model was wrong. A share of the answers is its own, the rest is right.",
    "contextualized": "The model was wrong. It is trained on the right answer, with the knowledge it needs in the prompt.",
    "gold": "A random sample. It is trained on the right answer.",
    "incompatible": "The model was wrong. It is trained on the right answer.",
    "random_wrong": "The model was wrong. It is trained on another wrong answer.",
}
SPLITS = {
    "homo": "new questions, same source",
    "id": "same domain, other source",
    "ood": "other domains",
    "seen": "the trained questions",
}
PHASES = {
    "base_probe": "base model, few-shot",
    "base_chat": "base model, chat prompt",
    "base_context": "base model, few-shot, with the knowledge in the prompt",
    "tuned_chat": "tuned model, chat prompt",
    "tuned_probe": "tuned model, few-shot",
    "tuned_context": "tuned model, few-shot, with the knowledge in the prompt",
}
METRICS = {
    "accuracy": "accuracy",
    "confidence": "confidence",
    "choice_mass": "choice mass",
    "kl_nats": "KL(before || after), nats",
    "rank_pearson": "rank correlation",
    "top1_agreement": "same answer as before",
}
BASE = "base"
TESTS = ("homo", "id", "ood")  # the splits of questions that were not trained on
# What tells conditions' answers apart, and questions, in a table of measures.
GROUP = ("model", "domain", "condition", "ratio", "phase", "split")
QUESTION = ("source", "question_domain", "id")


def name_condition(condition: str, ratio: float | None) -> str:
    """The name of a condition in tables and figures: "self-aligning", "mix 0.4"."""
    name = condition.replace("_", "-")
    return name if ratio is None else f"{name} {ratio:g}"


def name_run(row: Mapping[str, Any]) -> str:
    """A run as sentences name it, by its condition, seed and trained domain; the base model by its name."""
    domain = row.get("trained_domain") or row["domain"]
    if row["condition"] == BASE:
        return f"the base model {row['model']}"
    return f"{name_condition(row['condition'], row['ratio'])}, seed {row['seed']} ({domain}, {row['model']})"


def name_split(split: str) -> str:
    """The name of a split in tables and figures."""
    return split.upper() if split != "seen" else "seen"


def sort_by_words(table: pl.DataFrame) -> pl.DataFrame:
    """Sort by what identifies a row, in the order of this module; columns that the table lacks are passed over."""
    words = {"condition": [BASE, *CONDITIONS], "phase": [*PHASES], "split": [*SPLITS], "metric": [*METRICS]}
    keys = []
    for name in ("model", "domain", "metric", "phase", "condition", "ratio", "seed", "split"):
        if name in table.columns:
            order = words.get(name)
            column = pl.col(name)
            known = column.replace_strict(order, range(len(order)), default=len(order)) if order else column
            keys += [-known if name == "ratio" else known, column]
    return table.sort(keys, nulls_last=False, maintain_order=True)
