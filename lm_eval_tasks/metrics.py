"""What is logged of an answer, and the metrics of lm-eval's result table.

A metric's value for one row is a number, which lm-eval logs with the sample. Those that are no mean over rows (calibration,
letters, averages over the orders of a question) need more than it to be summed up: their values are `Row`s, numbers that carry
the answer they come from.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lm_eval_tasks import moved
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.scores import compute_ece, compute_letter_skew, normalise_loglikelihoods, read_probe

logger = logging.getLogger(__name__)


def __getattr__(name: str) -> Any:
    return moved.find_name(__name__, name)


class Answer(NamedTuple):
    """A model's answer to a question, in one order of its choices."""

    question: str
    order: int
    gold: int
    probs: tuple[float, ...]
    mass: float

    @property
    def prediction(self) -> int:
        """The index of the most probable choice."""
        return self.probs.index(max(self.probs))

    @property
    def confidence(self) -> float:
        """The probability of the prediction."""
        return max(self.probs)

    @property
    def correct(self) -> bool:
        """Whether the prediction is gold."""
        return self.prediction == self.gold

    @property
    def brier(self) -> float:
        """The multi-class Brier score (Brier 1950): squared distance of the probabilities from gold, 0 to 2."""
        return sum((p - (i == self.gold)) ** 2 for i, p in enumerate(self.probs))


class Row(float):
    """The value of a metric for one row of a log, with the answer that it comes from."""

    answer: Answer

    def __new__(cls, value: float, answer: Answer) -> "Row":
        """The number `value` that carries `answer`."""
        self = super().__new__(cls, value)
        self.answer = answer
        return self

    def __getnewargs__(self) -> tuple[float, Answer]:
        """What makes the number anew where lm-eval gathers it from another process."""
        return float(self), self.answer


def log_probe(doc: dict[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """Log the probe beside its question, and return the metrics of one row.

    Args:
        doc: the question as shown; gets the columns of a probe.
        results: log-likelihood (nats) of each choice and whether it is the greedy continuation; where option texts are
            scored, then the same after the bare cue.

    Raises:
        UserError: a log-likelihood is no finite number.
    """
    n = len(doc["choices"])
    loglikelihoods = [loglikelihood for loglikelihood, _ in results]
    try:
        probe = read_probe(loglikelihoods[:n], doc["answer"])
        normalised = normalise_loglikelihoods(loglikelihoods[:n], loglikelihoods[n:], doc["choices"]) if results[n:] else {}
    except ValueError as error:
        raise UserError(f"{doc['task']}, {doc['source']}/{doc['domain']} id {doc['id']!r}: {error}.") from error
    doc.update(probe, **normalised)
    answer = read_answer(doc)
    metrics = {
        "acc": float(answer.correct),
        "confidence": answer.confidence,
        "brier": answer.brier,
        "choice_mass": answer.mass,
        "ece": Row(abs(answer.confidence - answer.correct), answer),
        "letter_skew": Row(answer.correct, answer),
    }
    for name, values in normalised.items():
        metrics[name.replace("loglikelihoods", "acc")] = float(values.index(max(values)) == doc["answer"])
    return metrics


def log_rotated_probe(doc: dict[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """`log_probe` of a task that asks each question in every order of its choices: the metrics carry the row's answer."""
    metrics = log_probe(doc, results)
    answer = read_answer(doc)
    rows = {name: Row(value, answer) for name, value in metrics.items()}
    # After `acc`, whose standard error lm-eval does not know, so that this takes its place in the table.
    return rows | {"acc_stderr": rows["acc"]}


def read_answer(doc: dict[str, Any]) -> Answer:
    """The answer that a logged probe holds, in the order shown."""
    name = f"{doc['source']}/{doc['domain']}/{doc['id']}"
    return Answer(name, doc["order"], doc["answer"], tuple(doc["probs"]), doc["choice_mass"])


def join_orders(rows: Sequence[Row]) -> list[Answer]:
    """One answer a question: probabilities averaged by choice over all orders of the choices, in the question's own order.

    A question that was not asked in every order is left out.
    """
    joined = []
    for orders in group_orders(rows).values():
        n = len(orders[0].probs)
        if len(orders) == n:
            probs = [[answer.probs[(i - answer.order) % n] for i in range(n)] for answer in orders]
            gold = (orders[0].gold + orders[0].order) % n
            mass = float(np.mean([answer.mass for answer in orders]))
            joined.append(Answer(orders[0].question, 0, gold, tuple(np.mean(probs, axis=0).tolist()), mass))
    return joined


def group_orders(rows: Sequence[Row]) -> dict[str, list[Answer]]:
    """The answers to each question."""
    asked: dict[str, list[Answer]] = defaultdict(list)
    for row in rows:
        asked[row.answer.question].append(row.answer)
    return asked


def measure_ece(rows: Sequence[Row]) -> float:
    """The expected calibration error of the answers as shown."""
    return _compute_ece_of([row.answer for row in rows])


def measure_letter_skew(rows: Sequence[Row]) -> float:
    """The letter skew of the answers as shown; where choices are turned through all orders, every order counts."""
    gold = np.array([row.answer.gold for row in rows], dtype=int)
    return compute_letter_skew(gold, np.array([row.answer.correct for row in rows], dtype=float))


def _compute_ece_of(answers: Sequence[Answer]) -> float:
    correct = np.array([answer.correct for answer in answers], dtype=float)
    return compute_ece(correct, np.array([answer.confidence for answer in answers], dtype=float))


def average_acc(rows: Sequence[Row]) -> float:
    """Accuracy of the averaged probabilities; says how many questions were not asked in all orders and so left out."""
    correct = [answer.correct for answer in join_orders(rows)]
    if missing := len(group_orders(rows)) - len(correct):
        logger.warning("%d questions were not asked in all orders of their choices: the result table leaves them out.", missing)
    return _mean(correct)


def average_acc_stderr(rows: Sequence[Row]) -> float:
    """Standard error of that accuracy over questions (not over rows, which are not independent)."""
    correct = [answer.correct for answer in join_orders(rows)]
    return float(np.std(correct, ddof=1) / np.sqrt(len(correct))) if len(correct) > 1 else float("nan")


def average_confidence(rows: Sequence[Row]) -> float:
    """Mean confidence of the averaged probabilities."""
    return _mean([answer.confidence for answer in join_orders(rows)])


def average_brier(rows: Sequence[Row]) -> float:
    """Mean multi-class Brier score of the averaged probabilities."""
    return _mean([answer.brier for answer in join_orders(rows)])


def average_choice_mass(rows: Sequence[Row]) -> float:
    """Mean over questions of the mean mass on any choice."""
    return _mean([answer.mass for answer in join_orders(rows)])


def average_ece(rows: Sequence[Row]) -> float:
    """Expected calibration error of the averaged probabilities."""
    return _compute_ece_of(join_orders(rows))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
