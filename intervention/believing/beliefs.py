"""From probes to beliefs: what a model thinks of each question, and whether the question agrees with it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from scipy.special import entr

from intervention.believing.knowledge import name_knowledge
from intervention.believing.letters import Prior, estimate_priors, remove_priors
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import write_file, write_parquet
from lm_eval_tasks.contracts.logs.averages import Means, Presentations, check_orders, list_presentations, write_lists
from lm_eval_tasks.contracts.logs.probe_table import ASKED
from lm_eval_tasks.contracts.logs.samples import read_probes
from lm_eval_tasks.contracts.prompts import LETTERS
from lm_eval_tasks.contracts.questions import list_varying, read_questions
from lm_eval_tasks.contracts.vocabulary import KEY

CLASSES = ("harmonious", "incompatible", "unsure")
# The columns of a probe table that beliefs are made of: what `read_probes` has to keep for `find_beliefs`.
PROBE_COLUMNS = (*KEY, "question_hash", "probs", "prediction", *ASKED, "draw", "order", "task")
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
        "belief": pl.Int64,  # the prediction where confidence exceeds the threshold, else null
        "class": pl.String,
        "knowledge": pl.String,  # HighlyKnown, MaybeKnown, WeaklyKnown or Unknown (see `knowledge`)
        "agreement": pl.Float64,  # share of the times asked in which this prediction was made
        "order_agreement": pl.Float64,  # share of the orders, each averaged over draws
        "draw_agreement": pl.Float64,  # share of the draws, each averaged over orders
        "held_orders": pl.List(pl.Int64),  # the orders in which, averaged over draws, it is made and exceeds the threshold
        "asked": pl.Int64,  # how many times, in how many orders, with how many draws of demonstrations
        "orders": pl.Int64,
        "draws": pl.Int64,
        "model": pl.String,
        "scoring": pl.String,
        "question_hash": pl.String,
    }
)


def read_beliefs(questions: str | Path, probes: Sequence[str | Path], threshold: float = 0.5) -> tuple[pl.DataFrame, int]:
    """The belief table of the questions of a question set that one base model was asked.

    Args:
        questions: the question set.
        probes: sample logs and probe tables, files or folders.
        threshold: a prediction is a belief where its confidence is greater.

    Returns:
        One row a question that was asked, in the question set's order (`BELIEF_SCHEMA`); how many questions were not asked.

    Raises:
        UserError: several models, runs or ways of scoring, a phase other than base_probe, probes of other questions, a
            question asked in some orders of its choices but not in all, a threshold outside [0, 1].
    """
    table, _, unasked = weigh_logs(questions, probes, threshold)
    return table, unasked


def weigh_logs(
    questions: str | Path, probes: Sequence[str | Path], threshold: float, seed: int = 0
) -> tuple[pl.DataFrame, dict[int, Prior], int]:
    """What `read_beliefs` returns, with the letter priors by number of choices, which `seed` decides, in between."""
    check_threshold(threshold)
    asked = read_questions(questions)
    table, priors = weigh_probes(asked, read_probes(probes, PROBE_COLUMNS, asked), threshold, questions, probes, seed)
    return table, priors, asked.height - table.height


def find_beliefs(
    questions: pl.DataFrame, probes: pl.DataFrame, threshold: float, folder: str | Path, logs: Sequence[str | Path]
) -> pl.DataFrame:
    """The belief table of `read_beliefs`, from tables; `folder` and `logs` are what an error names."""
    return weigh_probes(questions, probes, threshold, folder, logs)[0]


def weigh_probes(
    questions: pl.DataFrame,
    probes: pl.DataFrame,
    threshold: float,
    folder: str | Path,
    logs: Sequence[str | Path],
    seed: int = 0,
) -> tuple[pl.DataFrame, dict[int, Prior]]:
    """The belief table of `find_beliefs`, and the letter priors by number of choices, which `seed` decides."""
    check_threshold(threshold)
    where = ", ".join(map(str, logs))
    check_single(probes, where)
    places = find_questions(questions, probes, folder, where)
    named, draw = np.unique(probes["draw"].to_numpy(), return_inverse=True)
    check_orders(probes, where, places * len(named) + draw)
    known, places = np.unique(places, return_inverse=True)
    table = questions.select(*KEY, "split", "answer", "question_hash")[known]
    asked = list_presentations(probes, places)
    model, scoring = probes["model"][0], probes["scoring"][0]
    means, answer = asked.average(), table["answer"].to_numpy()
    priors = estimate_priors(asked, table, seed) if scoring == "letter" else {}
    pride = remove_priors(asked, priors) if priors else np.full(means.probs.shape, np.nan)
    held, order_votes, orders = weigh_orders(asked, means, threshold)
    draw_votes, right, draws = weigh_draws(asked, means, answer)
    made = asked.count(asked.named == means.prediction[asked.question])
    gold = means.probs[np.arange(len(answer)), answer]
    facts = {
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
    table = table.with_columns(pl.Series(name, values) for name, values in facts.items()).with_columns(
        letter=letters, probs_pride=corrected, model=pl.lit(model), scoring=pl.lit(scoring)
    )
    return apply_threshold(table, threshold).select(pl.col(name).cast(kind) for name, kind in BELIEF_SCHEMA.items()), priors


def apply_threshold(table: pl.DataFrame, threshold: float) -> pl.DataFrame:
    """Add `belief` and `class` to questions with prediction, confidence and answer."""
    belief = pl.when(pl.col("confidence") > threshold).then("prediction")
    right = pl.when(pl.col("belief") == pl.col("answer")).then(pl.lit("harmonious")).otherwise(pl.lit("incompatible"))
    unsure = pl.col("belief").is_null()
    return table.with_columns(belief.alias("belief")).with_columns(
        pl.when(unsure).then(pl.lit("unsure")).otherwise(right).alias("class")
    )


def weigh_orders(asked: Presentations, means: Means, threshold: float) -> tuple[pl.Series, np.ndarray, np.ndarray]:
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
        values.append(np.full(len(holding), max(order, 0)))  # averaged before: the order that an unturned prompt shows
    by_question = np.argsort(np.concatenate(rows), kind="stable")
    return write_lists("held_orders", np.concatenate(values)[by_question], held), votes, orders


def weigh_draws(asked: Presentations, means: Means, answer: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In how many draws each question's prediction was made; in how many gold was predicted; in how many it was asked."""
    votes, right, draws = (np.zeros(len(means.asked), dtype=np.int64) for _ in range(3))
    for draw in np.unique(asked.draw):
        one = asked.select(asked.draw == draw).average()
        votes += one.prediction == means.prediction
        right += one.prediction == answer
        draws += one.asked > 0
    return votes, right, draws


def check_threshold(threshold: float) -> None:
    """Raise a `UserError` unless a threshold is between 0 and 1."""
    if not 0 <= threshold <= 1:
        raise UserError(f"--threshold {threshold} is not between 0 and 1. The paper uses 0.5.")


def check_single(probes: pl.DataFrame, where: str) -> None:
    """Raise a `UserError` unless one base model was probed in one way."""
    if other := [phase for phase in probes["phase"].unique(maintain_order=True) if phase != "base_probe"]:
        raise UserError(
            f"{where}: these are probes of phase {other[0]!r}, but a belief comes from phase 'base_probe' (the base model, "
            "asked few-shot). Name only its logs."
        )
    check_one_model(probes, where)


def check_one_model(probes: pl.DataFrame, where: str) -> None:
    """Raise a `UserError` unless one model was asked in one way."""
    for name, noun in (("model", "models"), ("run", "runs"), ("scoring", "ways of scoring")):
        if len(values := probes[name].unique(maintain_order=True)) > 1:
            shown = " and ".join(map(repr, values[:2]))
            raise UserError(f"{where}: probes of {len(values)} {noun}: {shown}. Name the logs of one.")


def find_questions(
    questions: pl.DataFrame, probes: pl.DataFrame, folder: str | Path, where: str | Path, noun: str = "probes"
) -> np.ndarray:
    """Which row of the question set each probe (or text, with its `question_hash` where that is known) is of, (n,).

    Raises:
        UserError: one is of a question that the question set lacks or has in another form; calls them `noun`.
    """
    own = questions.select(*KEY, question_hash_own="question_hash").with_row_index("_place")
    key = list_varying(pl.concat([questions.select(KEY), probes.select(KEY)]), KEY)
    found = probes.select(*KEY, "question_hash").join(own.drop(set(KEY) - {*key}), on=key, how="left", maintain_order="left")
    strangers = found.filter(pl.col("_place").is_null())
    if strangers.height:
        raise UserError(
            f"{where}: {strangers.height} of {probes.height} {noun} are of questions that {folder} does not have; the first is "
            f"{_name(strangers)}. Name the question set that was asked."
        )
    changed = found.filter(pl.col("question_hash") != pl.col("question_hash_own"))
    if changed.height:
        raise UserError(
            f"{where}: {_name(changed)} was asked with another text, choices or answer than {folder} has (its question_hash "
            f"differs; so do {changed.height - 1} more). Ask again, or name the question set that was asked."
        )
    return found["_place"].to_numpy().astype(np.int64)


def write_beliefs(table: pl.DataFrame, file: str | Path) -> None:
    """Write a belief table as parquet."""
    with write_file(file) as scratch:
        write_parquet(table, scratch)


def count_beliefs(table: pl.DataFrame) -> pl.DataFrame:
    """Questions by domain, split and class, with mean confidence."""
    return (
        table.group_by("domain", "split", "class")
        .agg(pl.len().alias("questions"), pl.col("confidence").mean().alias("mean confidence"))
        .sort("domain", "split", "class")
    )


def _name(table: pl.DataFrame) -> str:
    row = table.row(0, named=True)
    return f"{row['source']}/{row['domain']} id {row['id']!r}"
