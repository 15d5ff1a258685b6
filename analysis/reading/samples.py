"""Any sample logs of lm-eval (`--log_samples`), of whatever task: which samples two of them share, and how each was scored."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from scipy.special import log_softmax

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.finding import find_files
from lm_eval_tasks.contracts.logs.lines import Line, parse_lines

PATTERNS = ("samples_*.jsonl", "samples_*.jsonl.gz")
LACKING = "sample log (samples_*.jsonl). Was lm_eval run with --log_samples --output_path?"
NEEDED = ("doc_id", "doc", "doc_hash", "filtered_resps", "metrics")
UNCONDITIONAL = "acc_mutual_info"  # the metric of a task that asks each choice once more, without the question
NO_MEANS = ("ece", "letter_skew")  # metrics of this project that are no means of what is logged of samples
OWN = ("question_hash", "order", "draw")  # what tells samples of this project's tasks apart, whose docs hold answers too


class Samples(NamedTuple):
    """The samples of one log or of several tasks' logs.

    Attributes:
        table: a row a sample and filter: `task`, `filter`, `sample` (what tells it apart within a task), `doc_id`, `doc_hash`,
            `prompt_hash` (null in old logs), `logprobs` (of the choices, normalised; null where answers are generated), and a
            column a metric, as lm-eval scored it.
        metrics: the names of these columns.
    """

    table: pl.DataFrame
    metrics: list[str]


def read_samples(path: Path) -> Samples:
    """The samples of a log, or of the logs of several tasks in a folder, however deep.

    Raises:
        UserError: no log, several of one task, a line that is cut, no sample of lm-eval, or without a number as a score.
    """
    files = find_files(path, "a sample log", LACKING, PATTERNS)
    by_task: dict[str, Path] = {}
    for file in files:
        if other := by_task.get(task := name_task(file)):
            raise UserError(f"{path} holds several logs of the task {task} ({other.name} and {file.name}). Name one of them.")
        by_task[task] = file
    rows = [row for task, file in by_task.items() for row in _read_log(task, file)]
    metrics = sorted({name for row in rows for name in row["_scores"]})
    own = {"task": pl.String, "filter": pl.String, "sample": pl.String, "doc_id": pl.Int64, "doc_hash": pl.String}
    own |= {"prompt_hash": pl.String, "logprobs": pl.List(pl.Float64)}
    schema = own | dict.fromkeys(metrics, pl.Float64)
    table = pl.DataFrame([{name: row.get(name) for name in own} | row["_scores"] for row in rows], schema=schema)
    return Samples(table, metrics)


def name_task(file: Path) -> str:
    """The task of a log, which lm-eval writes into its name before the time.

    >>> name_task(Path("samples_mmlu_anatomy_2026-11-28T14-35-02.986968.jsonl"))
    'mmlu_anatomy'
    >>> name_task(Path("samples_mine.jsonl"))
    'mine'
    """
    return re.sub(r"(_\d{4}-\d\d-\d\dT[\d.-]+)?\.jsonl(\.gz)?$", "", file.name.removeprefix("samples_"))


def _read_log(task: str, file: Path) -> list[dict[str, Any]]:
    rows = [_read_sample(line, task) for line in parse_lines(file)]
    if not rows:
        raise UserError(f"{file} holds no samples. Ask again.")
    return rows


def _read_sample(line: Line, task: str) -> dict[str, Any]:
    value = line.value
    if not isinstance(value, dict) or (lacking := [name for name in NEEDED if name not in value]):
        what = f"has no {lacking[0]}" if isinstance(value, dict) else "is no object"
        raise UserError(f"{line.where} is no sample of lm-eval: it {what}. Name a log that lm_eval --log_samples wrote.")
    doc = value["doc"]
    known = isinstance(doc, dict) and all(name in doc for name in OWN)
    doc_hash = "/".join(str(doc[name]) for name in OWN) if known else str(value["doc_hash"])
    scores = {name: value.get(name) for name in value["metrics"] if not (known and name in NO_MEANS)}
    scores = {name: float(score) for name, score in scores.items() if isinstance(score, (bool, int, float))}
    for name, score in scores.items():
        if not np.isfinite(score):
            raise UserError(f"{line.where}: {name} is {score}, which is no score. Ask again.")
    return {
        "task": task,
        "filter": value.get("filter", "none"),
        "sample": doc_hash if known else str(value["doc_id"]),
        "doc_id": int(value["doc_id"]),
        "doc_hash": doc_hash,
        "prompt_hash": value.get("prompt_hash"),
        "logprobs": _read_choices(value),
        "_scores": scores,
    }


def _read_choices(value: Mapping[str, Any]) -> list[float] | None:
    """The log-probabilities of a sample's choices among each other; None where it has none."""
    answers: Sequence[Any] = value["filtered_resps"]
    if len(answers) < 2 or not all(isinstance(answer, (list, tuple)) and len(answer) == 2 for answer in answers):
        return None
    try:
        loglikelihoods = [float(answer[0]) for answer in answers]
    except (TypeError, ValueError):
        return None
    if UNCONDITIONAL in value["metrics"]:
        loglikelihoods = loglikelihoods[: len(loglikelihoods) // 2]
    return log_softmax(loglikelihoods).tolist() if np.isfinite(loglikelihoods).all() else None
