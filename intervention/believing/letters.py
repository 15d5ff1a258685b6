"""Which letters a model favours, whatever stands at them, and its probabilities without that.

PriDe (Zheng et al. 2024, "Large Language Models Are Not Robust Multiple Choice Selectors", arXiv 2309.03882, section 4): the
probability that is observed of the choice at a letter is taken as a prior of the letter times what the model thinks of the
choice, normalised. Over all cyclic orders every choice stands once at every letter, so the geometric mean of what is observed
at a letter is that letter's prior, times the same for all letters.
"""

import math
from typing import NamedTuple

import numpy as np
import polars as pl

from intervention.conditions import number_rows
from lm_eval_tasks.contracts.logs.averages import Presentations
from lm_eval_tasks.contracts.logs.scores import FEW, LEAST
from lm_eval_tasks.contracts.prompts import LETTERS

SHARE = 0.05  # of the questions, from which the prior is estimated (section 4.2 there)


class Prior(NamedTuple):
    """The letter prior of the questions with one number of choices."""

    probs: np.ndarray  # (choices,), sums to 1
    estimated_on: int  # questions
    asked: int  # questions that were asked in all cyclic orders


def estimate_priors(asked: Presentations, questions: pl.DataFrame, seed: int = 0) -> dict[int, Prior]:
    """The prior of each letter: the mean over questions of the normalised geometric mean, over orders, of what it was given.

    Args:
        asked: how the questions were asked; those that were asked in every order of their choices count.
        questions: the same questions, with the columns of `KEY`.
        seed: decides which 5% of them (at least one) the prior is estimated on.

    Returns:
        A prior for each number of choices of which some questions were asked in every order.
    """
    known = asked.order >= 0
    if not (cyclic := count_orders(asked) == asked.choices).any():
        return {}
    priors = {}
    numbers = np.full(len(cyclic), np.iinfo(np.uint64).max, dtype=np.uint64)
    numbers[cyclic] = number_rows(questions.filter(pl.Series(cyclic)), seed, "letters").to_numpy()
    for n in np.unique(asked.choices[cyclic]).tolist():
        every = np.flatnonzero(cyclic & (asked.choices == n))
        chosen = every[np.argsort(numbers[every], kind="stable")][: math.ceil(SHARE * len(every))]
        some = asked.select(known & np.isin(asked.question, chosen))
        shown = np.take_along_axis(some.probs, (np.arange(n) + some.order[:, None]) % n, axis=1)
        logs = np.log(np.maximum(shown, LEAST))
        times = np.bincount(some.question, minlength=len(cyclic))[chosen]
        means = np.exp(np.stack([some.count(column)[chosen] / times for column in logs.T], axis=1))
        prior = (means / means.sum(axis=1, keepdims=True)).mean(axis=0)
        priors[n] = Prior(prior, len(chosen), len(every))
    return priors


def count_orders(asked: Presentations) -> np.ndarray:
    """In how many known orders of its choices each question was asked, (Q,)."""
    counts = np.zeros(len(asked.choices), dtype=np.int64)
    for order in np.unique(asked.order[asked.order >= 0]):
        counts += np.bincount(asked.question[asked.order == order], minlength=len(counts)) > 0
    return counts


def remove_priors(asked: Presentations, priors: dict[int, Prior]) -> np.ndarray:
    """What the model thinks of the choices of each question asked in their own order: observed over prior, normalised.

    Returns:
        (Q, C), averaged over draws; 0 beyond a question's choices, NaN for a question that was not asked in its own order or
        has a number of choices without a prior.
    """
    own = asked.select(asked.order == 0)
    divisor = np.full((len(asked.choices), asked.probs.shape[1]), np.nan)
    for n, prior in priors.items():
        divisor[asked.choices == n] = np.pad(prior.probs, (0, divisor.shape[1] - n), constant_values=1)
    probs = own.probs / divisor[own.question]
    return own._replace(probs=probs / probs.sum(axis=1, keepdims=True)).average().probs


def describe_priors(priors: dict[int, Prior]) -> pl.DataFrame:
    """One row a number of choices: on how many questions the prior was estimated, and the prior of each letter."""
    widest = max(priors, default=0)
    return pl.DataFrame(
        [
            {"choices": n, "estimated on": prior.estimated_on, "of": prior.asked}
            | {LETTERS[i]: prior.probs[i] if i < n else None for i in range(widest)}
            for n, prior in sorted(priors.items())
        ]
    )


def warn_of_few(priors: dict[int, Prior]) -> list[str]:
    """A sentence for each prior that was estimated on too few questions."""
    return [
        f"The letter prior of questions with {n} choices was estimated on {prior.estimated_on} of {prior.asked} questions, too "
        f"few to correct by: at least {FEW} are wanted, so {math.ceil(FEW / SHARE)} that are asked in every order."
        for n, prior in sorted(priors.items())
        if prior.estimated_on < FEW
    ]
