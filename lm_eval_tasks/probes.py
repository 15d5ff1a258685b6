"""What one model says to one question: from the log-likelihoods of its choices to the columns of a probe."""

import math
from collections.abc import Sequence
from typing import TypedDict


class Probe(TypedDict):
    """The columns of a probe, in the order in which the choices were shown."""

    loglikelihoods: list[float]  # nats
    probs: list[float]  # softmax over the choices, sums to 1
    choice_mass: float  # sum of exp(loglikelihoods)
    prediction: int
    confidence: float
    correct: bool


def read_probe(loglikelihoods: Sequence[float], answer: int) -> Probe:
    """Normalise the log-likelihoods (nats) of a question's choices; `answer` is the index of gold.

    Raises:
        ValueError: a log-likelihood is NaN or infinite.
    """
    values = [float(value) for value in loglikelihoods]
    if not all(map(math.isfinite, values)):
        raise ValueError(f"the model gave the log-likelihoods {values}, of which one is not a finite number")
    top = max(values)
    weights = [math.exp(value - top) for value in values]
    probs = [weight / math.fsum(weights) for weight in weights]
    prediction = values.index(top)
    return Probe(
        loglikelihoods=values,
        probs=probs,
        choice_mass=math.fsum(map(math.exp, values)),
        prediction=prediction,
        confidence=probs[prediction],
        correct=prediction == answer,
    )
