"""How much of a divergence is a change of the letters that a model favours, whatever stands at them, and how much is the rest.

Of p before and q after, as shown with letters, q' is q with the letter prior of before instead of its own: q' ~ q * before /
after. KL(p || q) is then the prior's part, KL(p || q) - KL(p || q'), which may be negative, and the rest, KL(p || q').
Averaged over all orders of the choices letters cancel, so this looks at each order on its own, and averages what it finds.
"""

from typing import Any, NamedTuple

import numpy as np
import polars as pl
from scipy.special import log_softmax, softmax

from analysis.measures.consistency import measure_kl, read_logprobs
from analysis.measures.seeds import summarise_seeds
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.scores import FEW, LEAST
from lm_eval_tasks.contracts.questions import name_question
from lm_eval_tasks.contracts.vocabulary import KEY

PARTS = ("kl_nats", "prior_part", "rest")
BOUNDS = {"kl_nats": (0.0, np.inf), "prior_part": (-np.inf, np.inf), "rest": (0.0, np.inf)}


class Letters(NamedTuple):
    """What a model said, letter by letter, to questions with one number of choices that it was asked in every order of them."""

    asked: pl.DataFrame  # `KEY`, `order`, `split`, `question_hash`, a row a question and order, sorted
    logs: np.ndarray  # log-probabilities (n, choices), the choice at the first letter first
    prior: np.ndarray  # of each letter, (choices,), sums to 1


def divide_kl(before: np.ndarray, after: np.ndarray, prior_before: np.ndarray, prior_after: np.ndarray) -> np.ndarray:
    """KL(before || after), the letter prior's part of it and the rest, all in nats.

    Args:
        before: log-probabilities (n, choices), the choice at the first letter first.
        after: the same.
        prior_before: of each letter, (choices,), all positive.
        prior_after: the same.

    Returns:
        (n, 3): the columns of `PARTS`; NaN as the prior's part where the divergence is infinite.

    >>> thought, prior = np.array([0.6, 0.4]), np.array([0.7, 0.3])
    >>> after = thought * prior / (thought @ prior)
    >>> divide_kl(np.log([thought]), np.log([after]), np.array([0.5, 0.5]), prior).round(3)  # a change of prior alone
    array([[0.079, 0.079, 0.   ]])
    """
    kl = measure_kl(before, after)
    rest = measure_kl(before, log_softmax(after + np.log(prior_before) - np.log(prior_after), axis=1))
    with np.errstate(invalid="ignore"):
        return np.stack([kl, kl - rest, rest], axis=1)


def estimate_prior(logs: np.ndarray) -> np.ndarray:
    """The prior of each letter, (choices,): the mean over questions of the normalised geometric mean over orders.

    That is exact where what is observed is a prior of the letter times what the model thinks of the choice, normalised (PriDe,
    see `intervention.believing.letters`); here all questions count.

    Args:
        logs: log-probabilities (questions * orders, choices) of all orders of the choices, sorted by question.
    """
    choices = logs.shape[1]
    means = np.maximum(logs, np.log(LEAST)).reshape(-1, choices, choices).mean(axis=1)
    return softmax(means, axis=1).mean(axis=0)


def read_letters(table: pl.DataFrame) -> tuple[dict[int, Letters], list[str]]:
    """What one model said, letter by letter, for each number of choices of which there are enough questions for a prior.

    Args:
        table: probes of one model in one phase, not averaged over orders.

    Returns:
        By number of choices; and what is left out and why, as predicates of the model ("was scored by cloze, ...").
    """
    if (scoring := table["scoring"][0]) != "letter":
        return {}, [f"was scored by {scoring}, which shows no letters"]
    if table["order"].is_null().all():
        return {}, ["has averages over the orders of the choices only, which show no letters"]
    cyclic = keep_cyclic(table)
    if not cyclic.height:
        return {}, ["was asked in fewer than all orders of the choices (cyclic)"]
    letters, obstacles = {}, []
    asked, every = (questions.select(KEY).unique().height for questions in (table, cyclic))
    if every < asked:
        obstacles.append(f"was asked {asked - every:,} of {asked:,} questions in fewer than all orders (cyclic)")
    counts = cyclic["probs"].list.len()
    for choices in counts.unique().sort():
        rows, logs = list_letters(cyclic.filter(counts == choices))
        if (n := len(logs) // choices) < FEW:
            obstacles.append(f"was asked {n} questions with {choices} choices in every order, and a prior wants {FEW}")
            continue
        letters[choices] = Letters(rows, logs, estimate_prior(logs))
    return letters, obstacles


def keep_cyclic(table: pl.DataFrame) -> pl.DataFrame:
    """The rows of questions that were asked in every order of their choices."""
    table = table.filter(pl.col("order").is_not_null())
    if table["order"].n_unique() < 2:
        return table.clear()
    return table.filter(pl.col("order").n_unique().over(KEY) == pl.col("probs").list.len())


def list_letters(table: pl.DataFrame) -> tuple[pl.DataFrame, np.ndarray]:
    """Each question and order once, averaged over draws.

    Args:
        table: probes of one model in one phase, all of questions with the same number of choices.

    Returns:
        The columns `KEY`, `order`, `split` and `question_hash`, sorted; and log-probabilities (n, choices), the choice at the
        first letter first.
    """
    key = [*KEY, "order"]
    table = table.select(*key, "draw", "split", "question_hash", "loglikelihoods", "probs").sort(*key, "draw")
    starts = np.flatnonzero(table.select(~pl.struct(key).eq_missing(pl.struct(key).shift())).to_series().to_numpy())
    counts = np.diff(np.append(starts, table.height))[:, None]
    logs = np.logaddexp.reduceat(read_logprobs(table), starts) - np.log(counts)
    asked = table.select(*key, "split", "question_hash")[starts]
    choices = logs.shape[1]
    return asked, np.take_along_axis(logs, (np.arange(choices) + asked["order"].to_numpy()[:, None]) % choices, axis=1)


def divide_letters(before: dict[int, Letters], after: dict[int, Letters]) -> pl.DataFrame:
    """The parts of the divergence of every question that both sides were asked in every order of its choices.

    Args:
        before: of one model in one phase, as `read_letters` gives it.
        after: the same.

    Returns:
        `KEY`, `split` (as after has it) and `PARTS` (means over orders), a row a question.

    Raises:
        UserError: a key stands for two questions (names the first).
    """
    frames = []
    for choices in sorted(before.keys() & after.keys()):
        p, q = before[choices], after[choices]
        rows = p.asked.drop("split").with_row_index("_p")
        rows = rows.join(q.asked.with_row_index("_q"), on=[*KEY, "order"], maintain_order="left", suffix="_after")
        other = rows.filter(pl.col("question_hash") != pl.col("question_hash_after"))
        if other.height:
            raise UserError(
                f"{name_question(other.row(0, named=True))} is not the same question before and after (question_hash "
                f"{other['question_hash'][0]} and {other['question_hash_after'][0]}). Ask both models the same question set."
            )
        parts = divide_kl(p.logs[rows["_p"]], q.logs[rows["_q"]], p.prior, q.prior)
        table = rows.select(*KEY, "split").hstack(pl.DataFrame(parts, schema=list(PARTS)))
        frames.append(table.group_by(*KEY, "split", maintain_order=True).mean())
    empty = pl.DataFrame(schema=dict.fromkeys((*KEY, "split"), pl.String) | dict.fromkeys(PARTS, pl.Float64))
    return pl.concat([empty, *frames])


def are_finite() -> pl.Expr:
    """Whether all `PARTS` of a question are finite."""
    return pl.all_horizontal(pl.col(name).is_finite() for name in PARTS)


def describe_parts(before: pl.DataFrame, after: pl.DataFrame) -> dict[str, Any]:
    """The means of `divide_letters` for JSON: `n`, `PARTS`, `intervals` (Student's t over questions), `priors`, and `notes`.

    `infinite` counts questions that are left out. The means are null where nothing is to be divided, and `notes` says why.
    """
    sides, notes = {}, []
    for name, table in (("before", before), ("after", after)):
        sides[name], obstacles = read_letters(table)
        notes += [f"{'L' if sides[name] else 'No l'}etter prior: --{name} {told}." for told in obstacles]
    table = divide_letters(*sides.values())
    finite = table.filter(are_finite())
    if not finite.height and all(sides.values()):
        notes.append("No letter prior: no question that both were asked in every order has a finite divergence in all of them.")
    found = {}
    if finite.height:
        means = summarise_seeds(finite.with_columns(run=pl.lit("")), ["run"], KEY, BOUNDS)
        found = {row["metric"]: row for row in means.iter_rows(named=True)}
    return {
        "n": finite.height,
        **{name: found[name]["value"] if found else None for name in PARTS},
        "intervals": {name: [row["low"], row["high"]] for name, row in found.items() if row["low"] is not None},
        "infinite": table.height - finite.height,
        "priors": {
            choices: {name: side[choices].prior.tolist() for name, side in sides.items()}
            for choices in sorted(set.intersection(*map(set, sides.values())))
        },
        "notes": notes,
    }
