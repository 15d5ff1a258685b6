"""How much of a divergence is a change of the letters that a model favours, whatever stands at them, and how much is the rest.

Of p before and q after, as shown with letters, q' is q with the letter prior of before instead of its own: q' ~ q * before /
after. KL(p || q) is then the prior's part, KL(p || q) - KL(p || q'), which may be negative, and the rest, KL(p || q').
Averaged over all orders of the choices letters cancel, so this looks at each order on its own, and averages what it finds.
"""

from typing import Any

import numpy as np
import polars as pl
from scipy import stats
from scipy.special import log_softmax

from analysis.consistency import measure_kl, read_logprobs
from analysis.intervals import LEVEL
from intervention.letters import FEW
from lm_eval_tasks.questions import KEY

PARTS = ("kl_nats", "prior_part", "rest")


def split_kl(before: np.ndarray, after: np.ndarray, prior_before: np.ndarray, prior_after: np.ndarray) -> np.ndarray:
    """KL(before || after), the letter prior's part of it and the rest, all in nats.

    Args:
        before: log-probabilities (n, choices), the choice at the first letter first.
        after: the same.
        prior_before: of each letter, (choices,), all positive.
        prior_after: the same.

    Returns:
        (n, 3): the columns of `PARTS`; NaN as the prior's part where the divergence is infinite.
    """
    kl = measure_kl(before, after)
    rest = measure_kl(before, log_softmax(after + np.log(prior_before) - np.log(prior_after), axis=1))
    with np.errstate(invalid="ignore"):
        return np.stack([kl, kl - rest, rest], axis=1)


def estimate_prior(logs: np.ndarray) -> np.ndarray:
    """The mean probability of each letter, (choices,), of log-probabilities (n, choices) of all orders of the choices."""
    return np.exp(logs).mean(axis=0)


def explain_obstacle(table: pl.DataFrame, side: str) -> str | None:
    """Why a probe table has no letter prior, as a sentence; None where it has one."""
    if table["scoring"][0] != "letter":
        return f"No letter prior: --{side} was scored by {table['scoring'][0]}, which shows no letters."
    if not keep_cyclic(table).height:
        return f"No letter prior: --{side} was not asked in every order of the choices (cyclic)."
    return None


def keep_cyclic(table: pl.DataFrame) -> pl.DataFrame:
    """The rows of questions that were asked in every order of their choices."""
    return table.filter(pl.col("order").drop_nulls().n_unique().over(KEY) == pl.col("choices").list.len())


def list_letters(table: pl.DataFrame) -> tuple[pl.DataFrame, np.ndarray]:
    """Each question and order once, averaged over draws.

    Args:
        table: probes of one model in one phase, all of questions with the same number of choices.

    Returns:
        The columns `KEY` and `order`, and log-probabilities (n, choices), the choice at the first letter first.
    """
    key = [*KEY, "order"]
    table = table.sort(*key, "draw")
    starts = np.flatnonzero(table.select(~pl.struct(key).eq_missing(pl.struct(key).shift())).to_series().to_numpy())
    counts = np.diff(np.append(starts, table.height))[:, None]
    logs = np.logaddexp.reduceat(read_logprobs(table), starts) - np.log(counts)
    asked = table.select(key)[starts]
    choices = logs.shape[1]
    return asked, np.take_along_axis(logs, (np.arange(choices) + asked["order"].to_numpy()[:, None]) % choices, axis=1)


def split_probes(
    before: pl.DataFrame, after: pl.DataFrame
) -> tuple[pl.DataFrame, dict[int, dict[str, list[float]]], list[str]]:
    """The parts of the divergence of every question that both sides were asked in every order of its choices.

    Args:
        before: probes of one model in one phase, scored by letter, not averaged over orders.
        after: the same.

    Returns:
        `KEY` and `PARTS` (means over orders), a row a question; the priors `before` and `after` of each number of choices, from
        all cyclic questions of a side; and sentences on what was left out.
    """
    sides = {"before": keep_cyclic(before), "after": keep_cyclic(after)}
    numbers = [set(table["choices"].list.len()) for table in sides.values()]
    frames, priors, notes = [], {}, []
    for choices in sorted(numbers[0] & numbers[1]):
        of_one_length = {
            name: list_letters(table.filter(pl.col("choices").list.len() == choices)) for name, table in sides.items()
        }
        fewest = min(len(logs) // choices for _, logs in of_one_length.values())
        if fewest < FEW:
            notes.append(
                f"Questions with {choices} choices are left out of the letter prior's part: {fewest} of them were asked in "
                f"every order, and a prior wants {FEW}."
            )
            continue
        priors[choices] = {name: estimate_prior(logs).tolist() for name, (_, logs) in of_one_length.items()}
        (asked, p), (asked_after, q) = of_one_length.values()
        rows = asked.with_row_index("_p").join(asked_after.with_row_index("_q"), on=[*KEY, "order"], maintain_order="left")
        parts = split_kl(p[rows["_p"]], q[rows["_q"]], *(np.array(prior) for prior in priors[choices].values()))
        table = rows.select(KEY).hstack(pl.DataFrame(parts, schema=list(PARTS)))
        frames.append(table.group_by(KEY, maintain_order=True).mean())
    empty = pl.DataFrame(schema=dict.fromkeys(KEY, pl.String) | dict.fromkeys(PARTS, pl.Float64))
    return pl.concat([empty, *frames]), priors, notes


def describe_split(before: pl.DataFrame, after: pl.DataFrame) -> dict[str, Any]:
    """The means of `split_probes` for JSON: `n`, `PARTS`, `intervals` (Student's t over questions), `priors`, and `notes`.

    `infinite` counts questions that are left out. The means are null where nothing is to be split, and `notes` says why.
    """
    notes = [told for side, table in (("before", before), ("after", after)) if (told := explain_obstacle(table, side))]
    if notes:
        return {"n": 0, **dict.fromkeys(PARTS), "intervals": {}, "infinite": 0, "priors": {}, "notes": notes}
    table, priors, notes = split_probes(before, after)
    finite = table.filter(pl.all_horizontal(pl.col(name).is_finite() for name in PARTS))
    if not finite.height and not notes:
        notes = ["No letter prior: no question has a finite divergence in every order."]
    means = {name: finite[name].mean() for name in PARTS}
    intervals = {}
    if finite.height > 1:
        for name in PARTS:
            half = float(stats.t.ppf((1 + LEVEL) / 2, finite.height - 1) * stats.sem(finite[name]))
            intervals[name] = [means[name] - half, means[name] + half]
    infinite = table.height - finite.height
    return {"n": finite.height, **means, "intervals": intervals, "infinite": infinite, "priors": priors, "notes": notes}
