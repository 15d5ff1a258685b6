"""Numbers of answers: what one model says to one question, and how well many answers are calibrated and free of letters."""

import math
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from scipy.special import ndtri

LEVEL = 0.95  # of every interval
BINS = 15  # of confidence (Guo et al. 2017, arXiv 1706.04599, section 5)
# Of letter priors (PriDe, see intervention/believing/letters.py).
FEW = 30  # of fewer questions a mean is too uncertain to correct by; the sets there gave it 58 and more
LEAST = 1e-12  # a probability that a model rounded to zero has no logarithm


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

    >>> probe = read_probe([math.log(0.1), math.log(0.3)], answer=1)
    >>> round(probe["confidence"], 3), round(probe["choice_mass"], 3), probe["prediction"], probe["correct"]
    (0.75, 0.4, 1, True)
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

    >>> normalise_loglikelihoods([-4.0, -6.0], bare=[-3.0, -7.0], choices=["salt", "a goat"])
    {'loglikelihoods_per_character': [-1.0, -1.0], 'loglikelihoods_pmi': [-1.0, 1.0]}
    """
    if not all(map(math.isfinite, bare)):
        raise ValueError(f"the model gave the log-likelihoods {list(bare)} without the question, of which one is not finite")
    return Normalised(
        loglikelihoods_per_character=[value / len(choice) for value, choice in zip(loglikelihoods, choices, strict=True)],
        loglikelihoods_pmi=[value - alone for value, alone in zip(loglikelihoods, bare, strict=True)],
    )


def compute_ece(correct: np.ndarray, confidence: np.ndarray) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599, section 2) of n answers, NaN where there are none.

    The distance of confidence from accuracy, averaged over bins of equal width in confidence and weighted by their answers.

    >>> compute_ece(np.array([1, 0, 1, 1]), np.array([0.9, 0.9, 0.6, 0.6]))  # |0.5 - 0.9| and |1 - 0.6|
    0.4
    """
    if not len(correct):
        return float("nan")
    bins = np.digitize(confidence, np.linspace(0, 1, BINS + 1)[1:-1], right=True)
    return float(np.abs(np.bincount(bins, correct - confidence, BINS)).sum() / len(correct))


def compute_letter_skew(gold: np.ndarray, correct: np.ndarray) -> float:
    """The population standard deviation of recall per letter (RStd of Zheng et al. 2024, arXiv 2309.03882, section 2).

    Recall of a letter: the share of the n questions whose gold stands at it (0 is A) that are answered right. A letter at which
    gold never stands has none.

    >>> compute_letter_skew(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]))  # always "A"
    0.5
    """
    asked, right = np.bincount(gold), np.bincount(gold, correct)
    return float(np.std(right[asked > 0] / asked[asked > 0]))


def compute_wilson(share: np.ndarray | float, n: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval (1927) at `LEVEL` of shares of n questions, two arrays of their shape; (0, 1) where n is 0.

    A share may be a mean over seeds, and so no whole number of questions.

    >>> low, high = compute_wilson(0.8, 100)
    >>> round(float(low), 3), round(float(high), 3)
    (0.711, 0.867)
    """
    z = ndtri((1 + LEVEL) / 2)
    n = np.asarray(n, dtype=float)
    share = np.where(n > 0, share, 0.5)
    with np.errstate(divide="ignore", invalid="ignore"):
        centre, spread = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
        low, high = (centre - spread) / (1 + z**2 / n), (centre + spread) / (1 + z**2 / n)
    low, high = (np.where(n > 0, np.clip(bound, 0, 1), empty) for bound, empty in ((low, 0.0), (high, 1.0)))
    return np.minimum(low, share), np.maximum(high, share)  # rounding may leave 0 or 1 just outside
