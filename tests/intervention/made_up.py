"""Made-up questions and probes in the contract's columns, and the folders and logs that hold them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from intervention.believing.source import Beliefs, Source, read_beliefs
from intervention.build import Inputs, Plan, build_instructions
from intervention.sources.questions import convert_jsonl
from intervention.texts.additions import Texts
from lm_eval_tasks.contracts.logs.probe_table import PER_CHOICE, SCORED_BY, complete_probes, write_probes
from lm_eval_tasks.contracts.questions import read_configs, read_questions, rotate_choices


def make_rows(n: int = 120, seed: int = 0, domain: str = "herbs", split: str = "train", choices: int = 4) -> list[dict]:
    """`n` questions as lines of JSON hold them."""
    rng = np.random.default_rng(seed)
    return [
        {
            "id": f"{split}-{i}",
            "source": "made_up",
            "domain": domain,
            "split": split,
            "question": f"What does the {i}th of the {domain} bring?",
            "choices": [
                f"{word} {i}" for word in rng.permutation(["sleep", "luck", "rain", "gold", "mirth", "frost"])[:choices]
            ],
            "answer": int(rng.integers(choices)),
            "explanation": f"The {i}th is known for it.",
        }
        for i in range(n)
    ]


def write_jsonl(file: Path, rows: list[dict]) -> Path:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def write_set(folder: Path, rows: list[dict]) -> Path:
    """A question set."""
    convert_jsonl([write_jsonl(folder.with_suffix(".jsonl"), rows)], folder)
    return folder


def make_probes(questions: Path, seed: int = 0, right: float = 0.5, **names: object) -> pl.DataFrame:
    """A probe of every train and test question: gold comes first in a share `right` of them, often above 0.5."""
    rng = np.random.default_rng(seed)
    table = read_questions(questions, splits=("train", "test"))
    probs, prediction = [], []
    for n, answer in table.select(pl.col("choices").list.len(), "answer").iter_rows():
        weights = rng.dirichlet(np.full(n, 0.4))
        first = answer if rng.random() < right else int(rng.integers(n))
        top = int(weights.argmax())
        weights[[first, top]] = weights[[top, first]]
        probs.append(weights.tolist())
        prediction.append(first)
    return fill_probes(table, probs, prediction, **names)


def fill_probes(questions: pl.DataFrame, probs: list[list[float]], prediction: list[int], **names: object) -> pl.DataFrame:
    """The probe table of questions for which a model gave `probs`."""
    defaults = {"model": "base", "run": "", "phase": "base_probe", "scoring": "cloze", "draw": 0, "order": 0, "task": "made_up"}
    table = questions.with_columns(
        probs=pl.Series(probs, dtype=pl.List(pl.Float64)),
        prediction=pl.Series(prediction, dtype=pl.Int64),
        confidence=pl.Series([row[i] for row, i in zip(probs, prediction, strict=True)]),
        correct=pl.Series(prediction) == questions["answer"],
        **{name: pl.lit(value) for name, value in (defaults | names).items()},
    )
    return complete_probes(table, "made up")


def write_table(folder: Path, table: pl.DataFrame, name: str = "probes") -> Path:
    file = folder / f"{name}.parquet"
    write_probes(table, file)
    return file


def write_log(file: Path, probes: pl.DataFrame) -> Path:
    """A sample log as lm-eval writes it, in the order in which the choices were shown; of texts by every score alike."""
    logs = pl.col("probs").list.eval(pl.element().log())
    probes = probes.with_columns(pl.coalesce(name, logs).alias(name) for score, name in SCORED_BY.items() if score != "sum")
    n = pl.col("choices").list.len().cast(pl.Int64)
    shown = rotate_choices(probes, pl.col("order"), PER_CHOICE).with_columns(
        (pl.col(name) - pl.col("order")) % n for name in ("answer", "prediction")
    )
    rows = [{"doc_id": i, "doc": doc, "resps": [["-1.0", "False"]]} for i, doc in enumerate(shown.to_dicts())]
    return write_jsonl(file, rows)


def believe(questions: Path, probes: Sequence[Path], threshold: float | None = None, seed: int = 0) -> Beliefs:
    """What the base model believes, by these probes."""
    return read_beliefs(read_questions(questions), questions, Source(probes, threshold=threshold), seed)


class Study:
    """A question set, probes, contexts and general instructions in one folder, and builds of them."""

    def __init__(self, folder: Path, rows: list[dict], **names: object) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.questions = write_set(folder / "set", rows)
        self.table = make_probes(self.questions, **names)
        contexts = [
            {name: row[name] for name in ("source", "domain", "id")} | {"context": f"Know: {row['choices'][row['answer']]}."}
            for row in rows
        ]
        general = [{"instruction": f"Say {i}.", "input": "" if i % 2 else f"in {i}", "output": f"{i}"} for i in range(300)]
        self.inputs = Inputs(
            self.questions,
            Source([write_table(folder, self.table)]),
            str(write_jsonl(folder / "general.jsonl", general)),
            Texts(contexts=write_jsonl(folder / "contexts.jsonl", contexts)),
        )

    def build(self, name: str = "out", inputs: Inputs | None = None, **plan: Any) -> dict[str, pl.DataFrame]:
        """Build, and read back what was written."""
        inputs = inputs or self.inputs
        if "threshold" in plan:
            inputs = replace(inputs, beliefs=replace(inputs.beliefs, threshold=plan.pop("threshold")))
        self.balance, self.notes = build_instructions(inputs, Plan(**({"domain": "herbs"} | plan)), self.folder / name)
        configs = read_configs(self.folder / name)
        return {config.removeprefix("herbs_"): pl.read_parquet(files["train"]) for config, files in configs.items()}


def own(table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(pl.col("condition") != "general")


def says(table: pl.DataFrame, name: str) -> list[str]:
    return table[name].list.get(0).struct.field("content").to_list()
