"""By which score probes are read: where the texts of choices were scored, there are others than the sum of the log-likelihoods.

A log holds the log-likelihoods of all scores, and probabilities that are of the sum. What is compared has to be read by one
score. Imports neither torch nor lm_eval.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.averages import pad_lists, write_lists
from lm_eval_tasks.contracts.logs.probe_table import CLOZE, SCORED_BY
from lm_eval_tasks.contracts.names import name_unknown
from lm_eval_tasks.contracts.questions import name_question
from lm_eval_tasks.contracts.vocabulary import DEFAULT_SCORE, SCORES


def read_score(text: str) -> dict[str, str]:
    """The score that a text names, for each way of scoring.

    Raises:
        UserError: it is none.

    >>> read_score("pmi")
    {'letter': 'pmi', 'cloze': 'pmi'}
    """
    if unknown := name_unknown([text], SCORES):
        raise UserError(f"--score {unknown[0]} is none of {', '.join(SCORES)}.")
    return dict.fromkeys(DEFAULT_SCORE, text)


def find_score(config: Mapping[str, Any]) -> str:
    """The score that the configuration of a set or a run names; one of a version without scores is of the sum.

    >>> find_score({"score": "pmi"}), find_score({})
    ('pmi', 'sum')
    """
    return config.get("score") or "sum"


def rescore_probes(table: pl.DataFrame, score: str | Mapping[str, str], where: str | Path, start: int = 0) -> pl.DataFrame:
    """Probes whose `probs`, `prediction`, `confidence` and `correct` are of one score.

    The prediction is the first of the best choices as they were shown, as in a log.

    Args:
        table: the columns of a probe table, in the question's own order of choices.
        score: it, or one for each way of scoring.
        where: what an error names.
        start: how many rows of the file come before the table.

    Returns:
        The table. Rows that are of the score already stay as they are; `choice_mass` is always that of the sums.

    Raises:
        UserError: an unknown score, another one than the sum of letters, or a row without its log-likelihoods.
    """
    scores = read_score(score) if isinstance(score, str) else score
    wanted = table["scoring"].replace_strict(scores, default="sum", return_dtype=pl.String)
    others = (table["score"] != wanted).arg_true()
    if not len(others):
        return table
    rows = table[others]
    if (lettered := rows.filter(pl.col("scoring") != CLOZE)).height:
        row = lettered.row(0, named=True)
        raise UserError(
            f"--score {scores[row['scoring']]}: {where}, {name_question(row)} was scored by {row['scoring']}, and of letters "
            "there is the sum alone: all are one character long, and none was asked without its question. Leave out --score, "
            "or ask with a task whose name ends in _cloze."
        )
    column = SCORED_BY[scores[CLOZE]]
    if (lacking := rows[column].is_null().arg_true()).len():
        row, own = rows.row(lacking[0], named=True), rows["score"][lacking[0]]
        raise UserError(
            f"{where}, row {start + others[lacking[0]] + 1} ({name_question(row)}) has no {column}, so it cannot be read by "
            f"--score {scores[CLOZE]}: its probabilities are of the score {own}. Read it with --score {own}, or name the log "
            "that lm_eval wrote (an averaged table keeps no log-likelihoods)."
        )
    read = _compute_probes(rows, scores[CLOZE])
    if len(others) == table.height:
        return read
    kept = (table["score"] == wanted).arg_true()
    return pl.concat([table[kept], read])[np.argsort(pl.concat([kept, others]).to_numpy())]


def _compute_probes(table: pl.DataFrame, score: str) -> pl.DataFrame:
    """Probes by the log-likelihoods of a score, of which none is missing."""
    lists = table[SCORED_BY[score]]
    logs, lengths = pad_lists(lists, -np.inf), lists.list.len().to_numpy().astype(np.int64)
    top = logs.max(axis=1, keepdims=True)
    weights = np.exp(logs - top)
    probs = weights / weights.sum(axis=1, keepdims=True)
    choices = np.arange(logs.shape[1])
    shown = (choices - table["order"].fill_null(0).to_numpy()[:, None]) % lengths[:, None]
    prediction = np.where(logs == top, shown, len(choices)).argmin(axis=1)
    return table.with_columns(
        write_lists("probs", probs, lengths),
        pl.Series("prediction", prediction),
        pl.Series("confidence", probs[np.arange(len(probs)), prediction]),
        correct=pl.Series(prediction) == table["answer"],
        score=pl.lit(score),
    )


def keep_loglikelihoods(table: pl.DataFrame) -> pl.DataFrame:
    """Probes with `loglikelihoods` that are of their own score, as their probabilities are, and without those of the others."""
    others = [name for score, name in SCORED_BY.items() if score != "sum" and name in table.columns]
    if others and (table["score"] != "sum").any():
        held = {score: name for score, name in SCORED_BY.items() if name in table.columns}
        own = (pl.when(pl.col("score") == score).then(name) for score, name in held.items())
        table = table.with_columns(pl.coalesce(own).alias("loglikelihoods"))
    return table.drop(others)


def check_one_score(table: pl.DataFrame, files: Sequence[Path]) -> None:
    """Raise a `UserError` where the probes of texts are of several scores.

    Args:
        table: probes, with a column `_file`: the index in `files` of the file that each comes from.
        files: what an error names.
    """
    texts = pl.col("scoring") == CLOZE
    if table.select(pl.col("score").filter(texts).n_unique()).item() < 2:
        return
    rows = table.filter(texts).unique("score", maintain_order=True).to_dicts()
    told = " and ".join(f"{files[row['_file']]} by {row['score']}" for row in rows[:2])
    raise UserError(f"the probabilities are of several scores: {told}. Read all by one, with --score.")
