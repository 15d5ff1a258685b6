"""What is logged of an answer, and the metrics of lm-eval's result table.

A metric's value for one row is a number, which lm-eval logs with the sample. Those that are no mean over rows (calibration,
letters, averages over the orders of a question) need more than it to be summed up: their values are `AnswerValue`s,
numbers that carry the answer they come from.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lm_eval_tasks import moved
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs import scores
from lm_eval_tasks.contracts.questions import name_question

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


class AnswerValue(float):
    """The value of a metric for one row of a log, with the answer that it comes from."""

    answer: Answer

    def __new__(cls, value: float, answer: Answer) -> "AnswerValue":
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
        probe = scores.read_probe(loglikelihoods[:n], doc["answer"])
        normalised = (
            scores.normalise_loglikelihoods(loglikelihoods[:n], loglikelihoods[n:], doc["choices"]) if results[n:] else {}
        )
    except ValueError as error:
        raise UserError(f"{doc['task']}, {name_question(doc)}: {error}.") from error
    doc.update(probe, **normalised)
    answer = read_answer(doc)
    metrics = {
        "acc": float(answer.correct),
        "confidence": answer.confidence,
        "brier": answer.brier,
        "choice_mass": answer.mass,
        "ece": AnswerValue(abs(answer.confidence - answer.correct), answer),
        "letter_skew": AnswerValue(answer.correct, answer),
    }
    for name, values in normalised.items():
        metrics[name.replace("loglikelihoods", "acc")] = float(values.index(max(values)) == doc["answer"])
    return metrics


def log_rotated_probe(doc: dict[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """`log_probe` of a task that asks each question in every order of its choices: the metrics carry the row's answer."""
    metrics = log_probe(doc, results)
    answer = read_answer(doc)
    values = {name: AnswerValue(value, answer) for name, value in metrics.items()}
    # After `acc`, whose standard error lm-eval does not know, so that the table has this one there.
    return values | {"acc_stderr": values["acc"]}


def read_answer(doc: dict[str, Any]) -> Answer:
    """The answer that a logged probe holds, in the order shown."""
    return Answer(name_question(doc), doc["order"], doc["answer"], tuple(doc["probs"]), doc["choice_mass"])


def join_orders(values: Sequence[AnswerValue]) -> list[Answer]:
    """One answer a question: probabilities averaged by choice over all orders of the choices, in the question's own order.

    A question that was not asked in every order is left out.
    """
    joined = []
    for orders in group_orders(values).values():
        n = len(orders[0].probs)
        if len(orders) == n:
            probs = [[answer.probs[(i - answer.order) % n] for i in range(n)] for answer in orders]
            gold = (orders[0].gold + orders[0].order) % n
            mass = float(np.mean([answer.mass for answer in orders]))
            joined.append(Answer(orders[0].question, 0, gold, tuple(np.mean(probs, axis=0).tolist()), mass))
    return joined


def group_orders(values: Sequence[AnswerValue]) -> dict[str, list[Answer]]:
    """The answers to each question."""
    asked: dict[str, list[Answer]] = defaultdict(list)
    for value in values:
        asked[value.answer.question].append(value.answer)
    return asked


def measure_ece(values: Sequence[AnswerValue]) -> float:
    """The expected calibration error of the answers as shown."""
    return _compute_ece_of([value.answer for value in values])


def measure_letter_skew(values: Sequence[AnswerValue]) -> float:
    """The letter skew of the answers as shown; where choices are rotated through all orders, every order counts."""
    gold = np.array([value.answer.gold for value in values], dtype=int)
    return scores.compute_letter_skew(gold, np.array([value.answer.correct for value in values], dtype=float))


def _compute_ece_of(answers: Sequence[Answer]) -> float:
    correct = np.array([answer.correct for answer in answers], dtype=float)
    return scores.compute_ece(correct, np.array([answer.confidence for answer in answers], dtype=float))


def average_acc(values: Sequence[AnswerValue]) -> float:
    """Accuracy of the averaged probabilities; says how many questions were not asked in all orders and so left out."""
    correct = [answer.correct for answer in join_orders(values)]
    if missing := len(group_orders(values)) - len(correct):
        logger.warning("%d questions were not asked in all orders of their choices: the result table leaves them out.", missing)
    return _mean(correct)


def average_acc_stderr(values: Sequence[AnswerValue]) -> float:
    """Standard error of that accuracy over questions (not over rows, which are not independent)."""
    correct = [answer.correct for answer in join_orders(values)]
    return float(np.std(correct, ddof=1) / np.sqrt(len(correct))) if len(correct) > 1 else float("nan")


def average_confidence(values: Sequence[AnswerValue]) -> float:
    """Mean confidence of the averaged probabilities."""
    return _mean([answer.confidence for answer in join_orders(values)])


def average_brier(values: Sequence[AnswerValue]) -> float:
    """Mean multi-class Brier score of the averaged probabilities."""
    return _mean([answer.brier for answer in join_orders(values)])


def average_choice_mass(values: Sequence[AnswerValue]) -> float:
    """Mean over questions of the mean mass on any choice."""
    return _mean([answer.mass for answer in join_orders(values)])


def average_ece(values: Sequence[AnswerValue]) -> float:
    """Expected calibration error of the averaged probabilities."""
    return _compute_ece_of(join_orders(values))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
