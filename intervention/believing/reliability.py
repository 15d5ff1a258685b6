"""What the answers to free-form questions are like, domain by domain, and how far as many samples again would say the same."""

import numpy as np
import polars as pl

from intervention.believing.choices import MOST
from intervention.believing.knowledge import KNOWLEDGE
from lm_eval_tasks.contracts.logs.scores import LEVEL, compute_wilson
from lm_eval_tasks.contracts.vocabulary import CLASSES

RESAMPLES = 1000
AT_ONCE = 2_000_000  # weights


def measure_reliability(halves: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """How reliable the share of gold among a question's samples is, with its bootstrap interval at 95% over questions.

    The correlation r between the two halves of the samples, corrected to their whole number by Spearman and Brown's formula,
    2r / (1 + |r|) (the sign as in Parsons 2021, Journal of Open Source Software 6(60)); NaN where a half does not vary.

    Args:
        halves: gold's share in both halves of the samples, (questions, 2).
        seed: of the resampled questions.

    >>> measure_reliability(np.array([[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]]))[0]
    1.0
    """
    n = len(halves)
    if not n:
        return np.nan, np.nan, np.nan
    value = float(_correlate(halves, np.ones((1, n)))[0])
    rng, rows = np.random.default_rng(seed), max(1, AT_ONCE // n)
    parts = [rng.multinomial(n, np.full(n, 1 / n), min(rows, RESAMPLES - i)) for i in range(0, RESAMPLES, rows)]
    resampled = np.concatenate([_correlate(halves, weights) for weights in parts])
    if np.isnan(resampled).all():
        return value, np.nan, np.nan
    low, high = np.nanquantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return value, float(low), float(high)


def _correlate(halves: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The corrected correlation by each row of weights, (rows,)."""
    one, other = halves.T
    n = weights.sum(axis=1)
    means = [weights @ values / n for values in (one, other)]
    pairs = ((one, one, 0, 0), (other, other, 1, 1), (one, other, 0, 1))
    first, second, both = (weights @ (a * b) / n - means[i] * means[j] for a, b, i, j in pairs)
    varies = np.minimum(first, second) > 1e-12
    r = np.where(varies, both / np.sqrt(np.where(varies, first * second, 1)), np.nan)
    return np.round(2 * r / (1 + np.abs(r)), 12)


def describe_answers(table: pl.DataFrame) -> pl.DataFrame:
    """By domain: questions and samples, the beliefs by class, accuracy of the beliefs with its Wilson interval at 95%, and
    of how many questions several right answers were sampled.
    """
    named = dict(zip(CLASSES, ("right", "wrong", "no belief"), strict=True))
    counts = [(pl.col("class") == name).sum().alias(label) for name, label in named.items()]
    counted = table.group_by("domain", maintain_order=True).agg(
        pl.len().alias("questions"), pl.sum("samples"), *counts, pl.sum("several_right").alias("several right")
    )
    n = (counted["right"] + counted["wrong"]).to_numpy()
    share = counted["right"].to_numpy() / np.maximum(n, 1)
    low, high = compute_wilson(share, n)
    rates = pl.DataFrame({"accuracy": np.where(n > 0, share, np.nan), "low": low, "high": high}).fill_nan(None)
    named_first = ["domain", "questions", "samples", *named.values()]
    return pl.concat([counted, rates], how="horizontal").select(*named_first, *rates.columns, "several right")


def count_knowledge_by_domain(table: pl.DataFrame) -> pl.DataFrame:
    """By domain: of how many questions greedy answers are known, in how many draws, and how many are of each class."""
    asked = table.filter(pl.col("knowledge").is_not_null())
    classes = ((pl.col("knowledge") == name).sum().alias(name) for name in KNOWLEDGE)
    draws = pl.col("greedy").list.len().max().alias("draws")
    return asked.group_by("domain", maintain_order=True).agg(pl.len().alias("questions"), draws, *classes)


def describe_reliability(table: pl.DataFrame) -> pl.DataFrame:
    """By domain: how reliable the share of gold is (see `measure_reliability`), and over how many questions."""
    rows = []
    for (domain,), part in table.partition_by("domain", as_dict=True, maintain_order=True).items():
        halves = np.array(part["gold_halves"].drop_nulls().to_list(), dtype=float).reshape(-1, 2)
        values = dict(zip(("reliability", "low", "high"), measure_reliability(halves), strict=True))
        rows.append({"domain": domain, "questions": len(halves), "samples each": part["samples"].mean()} | values)
    return pl.DataFrame(rows).fill_nan(None)


def describe_draws(table: pl.DataFrame) -> pl.DataFrame:
    """By domain: of the questions that were sampled in several draws, the mean share of draws with the same largest group, and
    the share of questions in which all have it, with its Wilson interval at 95%.
    """
    several = table.filter(pl.col("agreement").is_not_null())
    found = several.group_by("domain", maintain_order=True).agg(
        pl.len().alias("questions"),
        pl.max("draws"),
        pl.col("agreement").mean().alias("agree"),
        (pl.col("agreement") == 1).mean().alias("all agree"),
    )
    low, high = compute_wilson(found["all agree"].to_numpy(), found["questions"].to_numpy())
    return found.with_columns(low=pl.Series(low, dtype=pl.Float64), high=pl.Series(high, dtype=pl.Float64))


def describe_left_out(table: pl.DataFrame) -> pl.DataFrame:
    """By domain: groups of answers that are no choices, because `MOST` others are larger, and their share of all samples."""
    some = (pl.col("left_out") > 0).sum().alias(f"with more than {MOST} groups")
    share = (pl.col("left_out_share") * pl.col("samples")).sum() / pl.col("samples").sum()
    counts = (pl.len().alias("questions"), pl.sum("samples"), some, pl.col("left_out").sum().alias("groups left out"))
    return table.group_by("domain", maintain_order=True).agg(*counts, share.alias("of all samples"))
