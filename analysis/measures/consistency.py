"""How alike two phases' choice distributions are: KL divergence, correlation of choice ranks, and the same first choice.

Pure functions on probe tables, for all questions at once: choices are padded to one matrix (n questions, most choices).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
import scipy
from scipy.special import log_softmax

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.averages import average_probes, check_orders, pad_lists
from lm_eval_tasks.contracts.logs.probe_table import ASKED
from lm_eval_tasks.contracts.questions import name_question
from lm_eval_tasks.contracts.vocabulary import KEY

DIGITS = 12  # of averaged probabilities
# What a comparison adds to a question.
COMPARED_SCHEMA = pl.Schema(
    {"kl_nats": pl.Float64, "rank_pearson": pl.Float64, "rank_undefined": pl.Boolean, "top1_agreement": pl.Boolean}
)


class Joined(NamedTuple):
    """Two probe tables joined by question."""

    table: pl.DataFrame  # the columns of `after`, and `loglikelihoods`, `probs`, `prediction` of before with `_before`
    only_before: int
    only_after: int


def read_logprobs(table: pl.DataFrame, suffix: str = "") -> np.ndarray:
    """Normalised log-probabilities (nats) of the choices, (n, most choices), padded with -inf.

    From the log-likelihoods where there are some, so that what is too small for a float is still told from zero.
    """
    logs = pl.coalesce(f"loglikelihoods{suffix}", pl.col(f"probs{suffix}").list.eval(pl.element().log()))
    return log_softmax(pad_lists(table.select(logs).to_series(), -np.inf), axis=1)


def measure_kl(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """KL(before || after) in nats a row, (n,), of log-probabilities; infinite where a choice became impossible.

    >>> measure_kl(np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])).round(4)
    array([0.1438])
    """
    with np.errstate(invalid="ignore"):
        terms = np.exp(before) * (before - after)
    terms[np.isneginf(after)] = np.inf
    terms[np.isneginf(before)] = 0
    return np.maximum(terms.sum(axis=1), 0)


def rank_densely(values: np.ndarray) -> np.ndarray:
    """Rank of each value in its row, from 0, smallest first; ties share a rank and leave no hole.

    >>> rank_densely(np.array([[0.4, 0.1, 0.4, 0.1, 0.0]]))
    array([[2., 1., 2., 1., 0.]])
    """
    order = np.argsort(values, axis=1)
    steps = np.diff(np.take_along_axis(values, order, axis=1), axis=1) > 0
    ranks = np.zeros(values.shape)
    np.put_along_axis(ranks, order[:, 1:], np.cumsum(steps, axis=1).astype(float), axis=1)
    np.put_along_axis(ranks, order[:, :1], 0.0, axis=1)
    return ranks


def rank_on_average(values: np.ndarray) -> np.ndarray:
    """Rank of each value in its row, smallest first; ties share the mean of their ranks."""
    return scipy.stats.rankdata(values, axis=1)


def correlate_ranks(
    before: np.ndarray, after: np.ndarray, known: np.ndarray, rank: Callable[[np.ndarray], np.ndarray] = rank_densely
) -> np.ndarray:
    """Pearson correlation of the ranks a row, (n,); NaN where all of a row's choices tie.

    Args:
        before: (n, most choices); padding is less than all values, so that it moves the ranks of a row alike.
        after: the same.
        known: (n, most choices), false in padding.
        rank: `rank_densely` (the paper's), or `rank_on_average` (Spearman's correlation).

    >>> before, after = np.array([[0.6, 0.3, 0.1]]), np.array([[0.3, 0.6, 0.1]])
    >>> correlate_ranks(before, after, after >= 0)
    array([0.5])
    """
    counts = known.sum(axis=1, keepdims=True)
    x, y = (rank(values) for values in (before, after))
    x, y = (np.where(known, r - np.where(known, r, 0).sum(axis=1, keepdims=True) / counts, 0) for r in (x, y))
    with np.errstate(invalid="ignore"):
        return np.clip((x * y).sum(axis=1) / np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1)), -1, 1)


def average_presentations(table: pl.DataFrame) -> pl.DataFrame:
    """One row a question, model and phase: probabilities averaged over draws and orders, choice by choice.

    The reader has rotated every presentation back to the question's own order, so choices meet by content. Where there is but
    one presentation of everything the table stays as it is; otherwise `loglikelihoods` become logarithms of the averages.

    Raises:
        UserError: the presentations of one id are not of one question, or lack some orders of its choices.
    """
    key = [*ASKED, *KEY]
    if not table.select(pl.struct(key).is_duplicated().any()).item():
        return table
    table = table.sort(*key, "draw", "order", maintain_order=True)
    starts = np.flatnonzero(table.select(~pl.struct(key).eq_missing(pl.struct(key).shift())).to_series().to_numpy())
    counts = np.diff(np.append(starts, table.height))[:, None]
    check_orders(table)
    logs = np.logaddexp.reduceat(read_logprobs(table), starts) - np.log(counts)
    # Rounded, so that choices that tie in the mean are not told apart by the order of a sum.
    probs = pl.col("probs").list.eval(pl.element().round(DIGITS))
    averaged = average_probes(table, key).select(table.columns).with_columns(probs)
    return averaged.with_columns(
        unpad(logs, averaged["probs"], "loglikelihoods"), correct=pl.col("prediction") == pl.col("answer")
    )


def unpad(matrix: np.ndarray, like: pl.Series, name: str) -> pl.Series:
    """The opposite of `pad_lists`: the rows of a matrix as lists that are as long as those of `like`."""
    column = pl.Series(name, matrix, dtype=pl.Array(pl.Float64, matrix.shape[1])).arr.to_list()
    return pl.DataFrame([column, like.list.len().alias("_n")]).select(pl.col(name).list.head("_n")).to_series()


def join_probes(before: pl.DataFrame, after: pl.DataFrame, on: Sequence[str] = KEY) -> Joined:
    """Join two probe tables by question (never by position).

    Args:
        before: at most one row a key.
        after: the same, or several runs asked the same questions.
        on: the key; (source, domain, id), with whatever else tells pairs apart.

    Raises:
        UserError: a key stands for two questions (names the first), or the two are not scored the same way.
    """
    columns = ("question_hash", "scoring", "loglikelihoods", "probs", "prediction")
    table = after.join(before.select(*on, *(pl.col(c).alias(f"{c}_before") for c in columns)), on=on, how="inner")
    other = table.filter(pl.col("question_hash") != pl.col("question_hash_before")).head(1)
    if other.height:
        raise UserError(
            f"{name_question(other.row(0, named=True))} is not the same question before and after (question_hash "
            f"{other['question_hash_before'][0]} and {other['question_hash'][0]}). Ask both models the same question set."
        )
    other = table.filter(pl.col("scoring") != pl.col("scoring_before")).head(1)
    if other.height:
        raise UserError(
            f"{name_question(other.row(0, named=True))} was scored by {other['scoring_before'][0]} before and by "
            f"{other['scoring'][0]} after. Ask both in one way of scoring."
        )
    return Joined(
        table.drop("question_hash_before", "scoring_before"),
        before.join(after, on=on, how="anti").height,
        after.join(before, on=on, how="anti").height,
    )


def compare_probes(table: pl.DataFrame) -> pl.DataFrame:
    """Consistency of every row of a joined table.

    Args:
        table: as `join_probes` gives it.

    Returns:
        The table with the columns of `COMPARED_SCHEMA`: `kl_nats` (nats, may be infinite), `rank_pearson` (0 where undefined),
        `rank_undefined` and `top1_agreement`.
    """
    kl = measure_kl(read_logprobs(table, "_before"), read_logprobs(table))
    before, after = pad_probs(table)
    ranks = correlate_ranks(before, after, after >= 0)
    undefined = np.isnan(ranks)
    return table.with_columns(
        pl.Series("kl_nats", kl),
        pl.Series("rank_pearson", np.where(undefined, 0, ranks)),
        pl.Series("rank_undefined", undefined),
        top1_agreement=pl.col("prediction") == pl.col("prediction_before"),
    )


def add_spearman(table: pl.DataFrame) -> pl.DataFrame:
    """Add `spearman` to a joined table: Spearman's correlation of the probabilities, 0 where `rank_undefined`."""
    before, after = pad_probs(table)
    return table.with_columns(spearman=np.nan_to_num(correlate_ranks(before, after, after >= 0, rank_on_average)))


def pad_probs(table: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities before and after of a joined table, each (n, most choices), padded with -1."""
    return pad_lists(table["probs_before"], -1), pad_lists(table["probs"], -1)
