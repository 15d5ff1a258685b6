"""One answer to a question that was asked in several orders of its choices, or with several draws of demonstrations.

A model may favour a letter, whatever stands at it (Zheng et al. 2024, arXiv 2309.03882). Over all cyclic orders every choice
stands once at every letter, so what belongs to letters cancels in the mean. Imports neither torch nor lm_eval.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.probe_table import ASKED, LOGLIKELIHOODS, PROBE_KEY, PROBE_SCHEMA
from lm_eval_tasks.contracts.questions import list_varying, name_question
from lm_eval_tasks.contracts.vocabulary import KEY

TIE = 1e-12


def average_orders(table: pl.DataFrame) -> pl.DataFrame:
    """One row a question, model, phase, scoring and draw: probabilities averaged by choice over the orders that were asked.

    Args:
        table: a probe table (`PROBE_SCHEMA`), as `read_probes` gives it.

    Returns:
        `PROBE_SCHEMA`, with `order` and all log-likelihoods null and `choice_mass` the mean, then `orders` (how many were
        averaged) and `agreement` (the share of them whose own prediction is the average's), in the table's order of questions.

    Raises:
        UserError: a question was asked in some orders of its choices but not in all (see `check_orders`).
    """
    check_orders(table)
    key = [name for name in PROBE_KEY if name != "order"]
    averaged = average_probes(table, key).with_columns(
        pl.lit(None).cast(PROBE_SCHEMA[name]).alias(name) for name in ("order", *LOGLIKELIHOODS)
    )
    return averaged.with_columns(correct=pl.col("prediction") == pl.col("answer")).select(
        *PROBE_SCHEMA, pl.col("asked").alias("orders"), "agreement"
    )


def check_orders(table: pl.DataFrame, where: str = "the probes", groups: np.ndarray | None = None) -> None:
    """Raise a `UserError` naming the first question that lacks an order of its choices, where not just one order was asked.

    Just one order was asked where a task asked each question of a source and domain once a draw. A question asked in two
    wordings is refused too: its rows are not orders of one question.

    Args:
        table: a probe table.
        where: what an error names.
        groups: a number from 0 for each row, (n,), of which just the orders of one question have the same; found out where
            None.
    """
    asked = [*ASKED, "draw", "task", "source", "domain"]
    groups = number_groups(table, [*asked, "id"]) if groups is None else groups
    first = np.zeros(groups.max(initial=-1) + 1, dtype=np.int64)
    first[groups[::-1]] = np.arange(len(groups))[::-1]  # of several values at one position the last stays
    order, words = table["order"].fill_null(-1).to_numpy(), table["question_hash"].hash().to_numpy()
    orders = np.zeros(len(first), dtype=np.int64)
    for value in np.unique(order):
        orders += np.bincount(groups[order == value], minlength=len(orders)) > 0
    wanted = table["probs"].list.len().to_numpy()[first].astype(np.int64)
    reworded = np.zeros(len(first), dtype=bool)
    reworded[groups[words != words[first[groups]]]] = True
    used = np.flatnonzero(orders)
    first, orders, wanted, reworded = (values[used] for values in (first, orders, wanted, reworded))
    if not reworded.any() and ((orders == wanted).all() or (orders == 1).all()):
        return
    several = pl.col("_orders").max().over(asked) > 1
    wrong = (
        table.select(*asked, "id")[first]
        .with_columns(_orders=orders, _wanted=wanted, _reworded=reworded, _first=first)
        .filter(pl.col("_reworded") | ((pl.col("_orders") != pl.col("_wanted")) & several))
        .sort("_first")
        .head(1)
    )
    if not wrong.height:
        return
    row = wrong.row(0, named=True)
    name = name_question(row)
    rows = table.filter(groups == groups[row["_first"]])
    if row["_reworded"]:
        raise UserError(
            f"{where}: {name} was asked of {row['model']} in {rows['question_hash'].n_unique()} wordings (its question_hash "
            "differs). Name logs of one question set."
        )
    missing = next((order for order in range(row["_wanted"]) if order not in rows["order"].to_list()), None)
    raise UserError(
        f"{where}: {name} was asked of {row['model']} by {row['task']} in {row['_orders']} of the {row['_wanted']} orders of "
        f"its choices (order {missing} is missing), so what belongs to letters does not cancel. Ask it in every order (a "
        "--limit cuts between orders), or name the logs of one order."
    )


def average_probes(table: pl.DataFrame, key: Sequence[str] = KEY) -> pl.DataFrame:
    """One row a key: the mean of `probs` over all its rows, choice by choice, and what follows from it.

    A probe table speaks of the question's own order of choices, so positions are contents. Of choices that tie, the prediction
    is the one that the model named when it was asked first (lowest draw and order), else the first.

    Returns:
        The table's columns, of the row asked first, but `probs`, `prediction`, `confidence` and `choice_mass` (the mean), which
        speak of all; then `asked` (how many rows) and `agreement` (the share of them whose own prediction is this one).
    """
    presented = list_presentations(table, number_groups(table, key))
    means = presented.average()
    asked = means.asked
    mass = table["choice_mass"][presented.row]
    told = presented.count(mass.is_not_null().to_numpy())
    with np.errstate(invalid="ignore"):
        masses = presented.count(mass.fill_null(0).to_numpy()) / told
    return table[presented.first()].with_columns(
        write_lists("probs", means.probs, presented.choices),
        pl.Series("prediction", means.prediction),
        pl.Series("confidence", means.confidence),
        pl.Series("choice_mass", masses).fill_nan(None),
        pl.Series("asked", asked),
        pl.Series("agreement", presented.count(presented.named == means.prediction[presented.question]) / asked),
    )


class Means(NamedTuple):
    """Probabilities averaged over some of the times that Q questions with at most C choices were asked."""

    probs: np.ndarray  # (Q, C), 0 beyond a question's choices, NaN where it was not asked
    prediction: np.ndarray  # (Q,), -1 where it was not asked
    confidence: np.ndarray  # (Q,)
    asked: np.ndarray  # (Q,) how many times


class Presentations(NamedTuple):
    """What a model said each of the n times that it was asked one of Q questions, first draw and order first."""

    row: np.ndarray  # (n,) where in the probe table
    question: np.ndarray  # (n,) 0 to Q - 1
    draw: np.ndarray  # (n,)
    order: np.ndarray  # (n,) -1 where the orders were averaged before
    named: np.ndarray  # (n,) the prediction
    probs: np.ndarray  # (n, C), 0 beyond a question's choices
    choices: np.ndarray  # (Q,) how many it has

    def count(self, values: np.ndarray) -> np.ndarray:
        """Sums of `values` (n,) by question, (Q,): added up in the order of draws and orders, so always to the same bits."""
        return np.bincount(self.question, values, len(self.choices))

    def first(self) -> np.ndarray:
        """The row of the probe table in which each question was asked first, (Q,)."""
        return self._find_first(self.row)

    def select(self, chosen: np.ndarray) -> "Presentations":
        """Those of the times for which `chosen` (n,) is true, of the same questions."""
        if chosen.all():
            return self
        chosen = np.flatnonzero(chosen)
        parts = {name: values[chosen] for name, values in self._asdict().items() if name != "choices"}
        return self._replace(**parts)

    def average(self) -> Means:
        """The mean of the probabilities, choice by choice, and its prediction (see `average_probes`)."""
        asked = np.bincount(self.question, minlength=len(self.choices))
        with np.errstate(invalid="ignore"):
            probs = np.stack([self.count(column) for column in self.probs.T], axis=1) / asked[:, None]
        best = probs >= probs.max(axis=1, keepdims=True) - TIE
        prediction = best.argmax(axis=1)
        named, rows = self._find_first(self.named), np.arange(len(prediction))
        prediction = np.where(best[rows, named], named, prediction)
        return Means(probs, np.where(asked > 0, prediction, -1), probs[rows, prediction], asked)

    def _find_first(self, values: np.ndarray) -> np.ndarray:
        first = np.zeros(len(self.choices), dtype=np.int64)
        first[self.question[::-1]] = values[::-1]  # of several values at one position the last stays
        return first


def list_presentations(table: pl.DataFrame, question: np.ndarray) -> Presentations:
    """A probe table as arrays.

    Args:
        table: the columns `probs`, `prediction`, `draw` and `order` of a probe table.
        question: which question each row is of, (n,): 0 to Q - 1.
    """
    draw, order = (table[name].fill_null(-1).to_numpy() for name in ("draw", "order"))
    row = np.lexsort((order, draw))
    choices = np.zeros(question.max(initial=-1) + 1, dtype=np.int64)
    choices[question] = table["probs"].list.len().to_numpy()
    probs = pad_lists(table["probs"], 0)
    named = table["prediction"].to_numpy()
    return Presentations(row, question[row], draw[row], order[row], named[row], probs[row], choices)


def number_groups(table: pl.DataFrame, key: Sequence[str]) -> np.ndarray:
    """The number of each row's key, (n,): from 0, in the order in which the keys come first."""
    key = list_varying(table, key)
    groups = table.select(key).unique(maintain_order=True).with_row_index("_group")
    return table.select(key).join(groups, on=key, nulls_equal=True, maintain_order="left")["_group"].to_numpy().astype(np.int64)


def pad_lists(lists: pl.Series, fill: float) -> np.ndarray:
    """A column of lists as a matrix (n, longest), short rows filled up with `fill`."""
    lengths = lists.list.len().to_numpy()
    values = lists.explode(empty_as_null=False).to_numpy()
    longest = lengths.max(initial=1)
    if (lengths == longest).all():
        return values.reshape(-1, longest)
    matrix = np.full((len(lists), longest), fill, dtype=float)
    matrix[np.arange(longest) < lengths[:, None]] = values
    return matrix


def write_lists(name: str, values: np.ndarray, lengths: np.ndarray) -> pl.Series:
    """A column of lists with these lengths (n,) from their values one after the other, or from a padded matrix (n, C)."""
    if values.ndim > 1:
        values = values[np.arange(values.shape[1]) < lengths[:, None]]
    lists = pa.LargeListArray.from_arrays(np.append(0, np.cumsum(lengths)), values)
    return pl.Series(name, pl.from_arrow(lists))
