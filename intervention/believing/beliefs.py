"""From probes to beliefs: what a model thinks of each question, and whether the question agrees with it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from scipy.special import entr

from intervention.believing.asked import check_single, find_questions
from intervention.believing.knowledge import name_knowledge
from intervention.believing.letters import Prior, estimate_priors, remove_priors
from lm_eval_tasks.contracts.logs.averages import Means, Presentations, check_orders, list_presentations, write_lists
from lm_eval_tasks.contracts.logs.probe_table import ASKED
from lm_eval_tasks.contracts.prompts import LETTERS
from lm_eval_tasks.contracts.rules import Rule, apply_rule
from lm_eval_tasks.contracts.vocabulary import KEY

# The columns of a probe table that beliefs are made of.
PROBE_COLUMNS = (*KEY, "question_hash", "probs", "prediction", *ASKED, "score", "draw", "order", "task")
BELIEF_SCHEMA = pl.Schema(
    {
        "id": pl.String,
        "source": pl.String,
        "domain": pl.String,
        "split": pl.String,
        "answer": pl.Int64,
        "probs": pl.List(pl.Float64),  # the mean over all times that the question was asked
        "probs_pride": pl.List(pl.Float64),  # less the letter prior (see `letters`); null where no cyclic probes tell it
        "prediction": pl.Int64,
        "letter": pl.String,  # the prediction's in the question's own order; null where no letters were shown
        "confidence": pl.Float64,
        "entropy_nats": pl.Float64,  # of probs
        "belief": pl.Int64,  # the prediction where the belief rule counts it, else null
        "sampled": pl.Float64,  # share of the sampled answers that say the prediction (see `sampled`); null without
        "class": pl.String,  # right, wrong or unsure (`vocabulary.CLASSES`)
        "belief_rule": pl.String,  # by which predictions count as beliefs (see `contracts.rules`)
        "threshold": pl.Float64,  # of its confidence; 0 where the rule has none
        "knowledge": pl.String,  # HighlyKnown, MaybeKnown, WeaklyKnown or Unknown (see `knowledge`)
        "agreement": pl.Float64,  # share of the times asked in which this prediction was made
        "order_agreement": pl.Float64,  # share of the orders, each averaged over draws
        "draw_agreement": pl.Float64,  # share of the draws, each averaged over orders
        "held_orders": pl.List(pl.Int64),  # the orders in which, averaged over draws, it is made with a confidence above it
        "asked": pl.Int64,  # how many times, in how many orders, with how many draws of demonstrations
        "orders": pl.Int64,
        "draws": pl.Int64,
        "model": pl.String,
        "revision": pl.String,  # the model's commit on the Hub; null for a local one
        "scoring": pl.String,
        "score": pl.String,  # which log-likelihoods of a choice's text probs are of (`vocabulary.SCORES`); of letters the sum
        "question_hash": pl.String,
    }
)


def compute_beliefs(
    questions: pl.DataFrame,
    probes: pl.DataFrame,
    rule: Rule,
    folder: str | Path,
    logs: Sequence[str | Path],
    seed: int = 0,
    revision: str | None = None,
) -> tuple[pl.DataFrame, dict[int, Prior]]:
    """The beliefs of one base model about the questions that it was asked.

    Args:
        questions: a question set, as `read_questions` gives it.
        probes: its probes, with `PROBE_COLUMNS`.
        rule: which predictions count as beliefs.
        folder: what an error calls the question set.
        logs: what an error calls the probes.
        seed: decides which questions letter priors are estimated on.
        revision: the model's commit on the Hub.

    Returns:
        One row a question that was asked, in the question set's order (`BELIEF_SCHEMA`); the letter priors by number of
        choices.

    Raises:
        UserError: several models, runs or ways of scoring, a phase other than base_probe, probes of other questions, a
            question asked in some orders of its choices but not in all, a rule that the probes cannot tell.
    """
    where = ", ".join(map(str, logs))
    check_single(probes, where)
    positions = find_questions(questions, probes, folder, where)
    named, draw = np.unique(probes["draw"].to_numpy(), return_inverse=True)
    check_orders(probes, where, positions * len(named) + draw)
    known, positions = np.unique(positions, return_inverse=True)
    table = questions.select(*KEY, "split", "answer", "question_hash")[known]
    asked = list_presentations(probes, positions)
    model, scoring, score = probes.select("model", "scoring", "score").row(0)
    means, answer = asked.average(), table["answer"].to_numpy()
    priors = estimate_priors(asked, table, seed) if scoring == "letter" else {}
    pride = remove_priors(asked, priors) if priors else np.full(means.probs.shape, np.nan)
    held, order_votes, orders = compute_orders(asked, means, rule.threshold)
    draw_votes, right, draws = compute_draws(asked, means, answer)
    made = asked.count(asked.named == means.prediction[asked.question])
    gold = means.probs[np.arange(len(answer)), answer]
    columns = {
        "probs": write_lists("", means.probs, asked.choices),
        "probs_pride": write_lists("", pride, np.where(np.isnan(pride[:, 0]), 0, asked.choices)),
        "prediction": means.prediction,
        "letter": pl.Series(means.prediction).replace_strict(dict(enumerate(LETTERS)), return_dtype=pl.String),
        "confidence": means.confidence,
        "entropy_nats": entr(means.probs).sum(axis=1),
        "knowledge": name_knowledge(right, draws, gold, asked.choices),
        "agreement": made / means.asked,
        "order_agreement": order_votes / orders,
        "draw_agreement": draw_votes / draws,
        "held_orders": held,
        "asked": means.asked,
        "orders": orders,
        "draws": draws,
    }
    letters = pl.col("letter") if scoring == "letter" else pl.lit(None)
    corrected = pl.when(pl.col("probs_pride").list.len() > 0).then("probs_pride")
    table = table.with_columns(pl.Series(name, values) for name, values in columns.items()).with_columns(
        pl.lit(value).alias(name)
        for name, value in {"model": model, "revision": revision, "scoring": scoring, "score": score, "sampled": None}.items()
    )
    table = table.with_columns(letter=letters, probs_pride=corrected)
    table = apply_rule(table, rule)
    return table.select(pl.col(name).cast(kind) for name, kind in BELIEF_SCHEMA.items()), priors


def compute_orders(asked: Presentations, means: Means, threshold: float) -> tuple[pl.Series, np.ndarray, np.ndarray]:
    """The orders that hold each question's prediction; in how many it was made; in how many the question was asked."""
    votes, orders, held = (np.zeros(len(means.asked), dtype=np.int64) for _ in range(3))
    rows, values = [], []
    for order in np.unique(asked.order):
        one = asked.select(asked.order == order).average()
        same = one.prediction == means.prediction
        votes += same
        orders += one.asked > 0
        holding = np.flatnonzero(same & (np.where(same, one.confidence, 0) > threshold))
        held[holding] += 1
        rows.append(holding)
        values.append(np.full(len(holding), max(order, 0)))  # averaged before: the order that the question has
    by_question = np.argsort(np.concatenate(rows), kind="stable")
    return write_lists("held_orders", np.concatenate(values)[by_question], held), votes, orders


def compute_draws(asked: Presentations, means: Means, answer: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In how many draws each question's prediction was made; in how many gold was predicted; in how many it was asked."""
    votes, right, draws = (np.zeros(len(means.asked), dtype=np.int64) for _ in range(3))
    for draw in np.unique(asked.draw):
        one = asked.select(asked.draw == draw).average()
        votes += one.prediction == means.prediction
        right += one.prediction == answer
        draws += one.asked > 0
    return votes, right, draws


def count_beliefs(table: pl.DataFrame) -> pl.DataFrame:
    """Questions by domain, split and class, with mean confidence."""
    return (
        table.group_by("domain", "split", "class")
        .agg(pl.len().alias("questions"), pl.col("confidence").mean().alias("mean confidence"))
        .sort("domain", "split", "class")
    )
