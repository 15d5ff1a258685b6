"""What one model says to one question: from the log-likelihoods of its choices to the columns of a probe."""

import math
from collections.abc import Sequence
from typing import TypedDict


class Normalised(TypedDict):
    """The normalised variants of log-likelihoods (OLMES, arXiv 2406.08446, section 3.3), where option texts are scored."""

    loglikelihoods_per_character: list[float]  # nats a character of the choice
    loglikelihoods_pmi: list[float]  # nats: less the log-likelihood after the bare cue


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


def normalise_loglikelihoods(loglikelihoods: Sequence[float], bare: Sequence[float], choices: Sequence[str]) -> Normalised:
    """The two variants of a question's log-likelihoods that do not favour short or common choices.

    Args:
        loglikelihoods: nats, one a choice.
        bare: nats, the same choices after the cue alone ("Answer:"), without the question.
        choices: the texts of the choices, none empty.

    Raises:
        ValueError: a log-likelihood is NaN or infinite.
    """
    if not all(map(math.isfinite, bare)):
        raise ValueError(f"the model gave the log-likelihoods {list(bare)} without the question, of which one is not finite")
    return Normalised(
        loglikelihoods_per_character=[value / len(choice) for value, choice in zip(loglikelihoods, choices, strict=True)],
        loglikelihoods_pmi=[value - alone for value, alone in zip(loglikelihoods, bare, strict=True)],
    )
