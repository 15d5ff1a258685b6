"""Made-up instruction sets in the contract's columns, written as a folder that `datasets` reads."""

from pathlib import Path
from typing import Any

import polars as pl
import yaml

from intervention.instructions import INSTRUCTION_SCHEMA
from lm_eval_tasks.contracts.prompts import LETTERS


def make_row(number: int, condition: str = "incompatible", **values: Any) -> dict[str, Any]:
    """A row that asks for a letter: gold is the letter of `number`, the belief the one after it.

    `context` comes before the question, `reason` after the answer; other values stand in the columns of their names.
    """
    gold = number % 4
    ratio = float(condition.partition("-")[2]) if condition.startswith("mix-") else None
    says = (gold + 1) % 4 if condition == "self_aligning" else gold
    question = values.pop("question", f"What is the {number}th herb?")
    choices = values.pop("choices", [f"{word} {number}" for word in ("sage", "ivy", "rue", "moss")])
    listing = "\n".join([question, *(f"{a}. {b}" for a, b in zip(LETTERS, choices, strict=False))])
    context, reason = values.pop("context", None), values.pop("reason", None)
    turn = f"{context}\n\n{listing}" if context else listing
    response = f"{LETTERS[says]}. {choices[says]}" + (f"\n\n{reason}" if reason else "")
    return {
        "prompt": [{"role": "user", "content": turn}],
        "completion": [{"role": "assistant", "content": response}],
        "id": str(number),
        "source": "made_up",
        "domain": "herbs",
        "condition": condition.partition("-")[0],
        "ratio": ratio,
        "response_format": "letter",
        "agrees_with_belief": says != gold,
        "agrees_with_gold": says == gold,
        "gold_letter": LETTERS[gold],
        "belief_letter": LETTERS[(gold + 1) % 4],
        "response_letter": LETTERS[says],
        "order": 0,
        "confidence": 0.6 + 0.01 * (number % 7),
        "belief_rule": "threshold:0.5",
        "score": "sum",
        "threshold": 0.5,
        "match": "none",
        "explanation_from": "gold" if reason else None,
        "contradicts": None,
        "question_hash": "0",
    } | values


def make_general(number: int) -> dict[str, Any]:
    """A general instruction."""
    turns = {"prompt": [{"role": "user", "content": f"Say {number}."}]}
    turns["completion"] = [{"role": "assistant", "content": str(number)}]
    names = {"id": str(number), "source": "general", "domain": "general", "condition": "general", "response_format": "letter"}
    names["threshold"] = 0.5
    return dict.fromkeys(INSTRUCTION_SCHEMA) | turns | names


def make_table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=INSTRUCTION_SCHEMA)


def write_set(folder: Path, configs: dict[str, pl.DataFrame]) -> Path:
    """An instruction set: a parquet file a config, and the card whose header names them."""
    header = []
    for name, table in configs.items():
        (folder / name).mkdir(parents=True)
        table.write_parquet(folder / name / "train.parquet")
        header.append({"config_name": name, "data_files": [{"split": "train", "path": f"{name}/train.parquet"}]})
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': header})}---\n")
    return folder


def write_conditions(folder: Path, *conditions: str, n: int = 40, domain: str = "herbs") -> Path:
    """A set of some conditions of the same questions."""
    return write_set(
        folder, {f"{domain}_{name}": make_table([make_row(i, name, domain=domain) for i in range(n)]) for name in conditions}
    )
