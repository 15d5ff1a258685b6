"""What a score of texts does to a model's answers: how often they are right, and how well their probabilities say so."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from lm_eval_tasks.contracts.logs.averages import average_probes, pad_lists
from lm_eval_tasks.contracts.logs.probe_table import CLOZE, LOGLIKELIHOODS, SCORED_BY
from lm_eval_tasks.contracts.logs.rescoring import rescore_probes
from lm_eval_tasks.contracts.logs.samples import read_probes
from lm_eval_tasks.contracts.logs.scores import compute_ece, compute_wilson
from lm_eval_tasks.contracts.vocabulary import KEY

_COLUMNS = (*KEY, "answer", "probs", "choice_mass", "prediction", "scoring", "score", "draw", "order", *LOGLIKELIHOODS)


def compare_scores(probes: Sequence[Path]) -> pl.DataFrame:
    """One row a score: how a base model's answers to all questions are calibrated by it.

    Args:
        probes: sample logs and probe tables of one base model, files or folders.

    Returns:
        `score`, `questions`, `accuracy` with its Wilson interval at 95%, mean `confidence`, `ece` and the multi-class `brier`
        score (0 to 2), of probabilities averaged over draws. Empty where letters were scored, or where a table has no
        log-likelihoods.
    """
    table = read_probes(probes, _COLUMNS)
    if (table["scoring"] != CLOZE).any() or any(table[name].null_count() for name in LOGLIKELIHOODS):
        return pl.DataFrame()
    where = ", ".join(map(str, probes))
    return pl.DataFrame([_describe_answers(average_probes(rescore_probes(table, name, where)), name) for name in SCORED_BY])


def _describe_answers(table: pl.DataFrame, score: str) -> dict[str, object]:
    answer, confidence = table["answer"].to_numpy(), table["confidence"].to_numpy()
    correct = table["prediction"].to_numpy() == answer
    distance = pad_lists(table["probs"], 0).copy()
    distance[np.arange(len(answer)), answer] -= 1
    low, high = map(float, compute_wilson(correct.mean(), len(correct)))
    return (
        {"score": score, "questions": table.height, "accuracy": correct.mean(), "low": low, "high": high}
        | {"confidence": confidence.mean(), "ece": compute_ece(correct, confidence)}
        | {"brier": (distance**2).sum(axis=1).mean()}
    )
