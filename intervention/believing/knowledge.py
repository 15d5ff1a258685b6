"""How well a model knows the answer to a question, judged by asking it with several draws of demonstrations.

After Gekhman et al. (2024), "Does Fine-Tuning LLMs on New Knowledge Encourage Hallucinations?" (arXiv 2405.05904, section 3).
They sample answers and compare texts; here the choices are given, so a draw's answer is its most probable choice, and what they
sample at a temperature becomes the mean probability of gold, which guessing would bring to 1 / number of choices.
"""

import numpy as np
import polars as pl

KNOWLEDGE = ("HighlyKnown", "MaybeKnown", "WeaklyKnown", "Unknown")


def name_knowledge(right: np.ndarray, draws: np.ndarray, gold: np.ndarray, choices: np.ndarray) -> pl.Series:
    """The class of each of n questions: HighlyKnown, MaybeKnown, WeaklyKnown or Unknown.

    Args:
        right: in how many draws the prediction (of the draw's probabilities averaged over orders) is gold, (n,).
        draws: how many there were, (n,).
        gold: the probability of gold, averaged over draws and orders, (n,).
        choices: the number of choices, (n,).

    >>> name_knowledge(np.array([3, 1, 0]), np.array([3, 3, 3]), np.array([0.9, 0.4, 0.3]), np.array([4, 4, 4])).to_list()
    ['HighlyKnown', 'MaybeKnown', 'WeaklyKnown']
    """
    degree = np.select([right == draws, right > 0, gold > 1 / choices], [0, 1, 2], 3)
    return pl.Series("knowledge", np.array(KNOWLEDGE, dtype=object)[degree], dtype=pl.String)


def count_knowledge(table: pl.DataFrame) -> pl.DataFrame:
    """The questions of a belief table by domain and split: how many are of each knowledge class, and how many draws tell it."""
    classes = ((pl.col("knowledge") == name).sum().alias(name) for name in KNOWLEDGE)
    return table.group_by("domain", "split").agg(pl.max("draws"), pl.len().alias("questions"), *classes).sort("domain", "split")
