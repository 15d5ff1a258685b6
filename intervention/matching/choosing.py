"""Which questions the conditions take, in which order of their choices, and what is answered at random."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from intervention.conditions import Pools, add_random, choose_size, take_questions
from intervention.matching.mixing import spread_letters
from intervention.matching.rotation import match_rotations
from intervention.matching.selection import select_rows
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.vocabulary import Condition


@dataclass(frozen=True)
class Choice:
    """The questions of each kind, before and after matching, with all that conditions answer."""

    chosen: Pools
    before: Pools | None
    notes: Sequence[str]


def choose_questions(pools: Pools, conditions: Sequence[Condition], by: frozenset[str], size: int | None, seed: int) -> Choice:
    """Take the questions of each kind: at random, or such that conditions are alike in what is matched.

    Args:
        pools: the questions that each kind can take.
        conditions: what is built.
        by: what is matched (see `matching`).
        size: questions a condition; the largest possible number where None.
        seed: decides everything random.

    Raises:
        UserError: too few questions, matching impossible, or rotated choices without probes in every order.
    """
    selecting = by & {"letter", "confidence", "length"}
    possible = choose_size(pools, None if selecting else size)
    plain = {kind: rotate_nothing(rows) for kind, rows in take_questions(pools, possible, seed).items()}
    if not by:
        return Choice(add_all_random(plain, seed), None, [])
    chosen, notes = plain, []
    if selecting:
        chosen = {kind: rotate_nothing(rows) for kind, rows in select_rows(pools, conditions, selecting, size, seed).items()}
        kept = next(iter(chosen.values())).height
        if size is None:
            notes = [f"Matching keeps {kept} of {possible} questions a condition ({kept / possible:.3f})."]
    if "rotation" in by:
        chosen = match_rotations({kind: allow_orders(rows) for kind, rows in chosen.items()}, conditions, seed)
        rotated = sum(int((rows["order"] > 0).sum()) for rows in chosen.values())
        notes.append(f"The choices of {rotated} of {sum(rows.height for rows in chosen.values())} questions are rotated.")
    mixes = conditions if by & {"letter", "rotation"} else ()
    return Choice(add_all_random(chosen, seed, mixes), add_all_random(plain, seed), notes)


def rotate_nothing(rows: pl.DataFrame) -> pl.DataFrame:
    """The questions with their choices in their own order."""
    return rows.with_columns(order=pl.lit(0, dtype=pl.Int64))


def add_all_random(chosen: Pools, seed: int, mixes: Sequence[Condition] = ()) -> dict[str, pl.DataFrame]:
    """The questions of each kind with what is random of responses; the mixes among `mixes` keep gold's letters."""
    added = {}
    for kind, rows in chosen.items():
        ratios = [mix.ratio for mix in mixes if mix.ratio is not None and mix.questions == kind]
        added[kind] = add_random(rows, seed, spread_letters(rows, ratios, seed) if ratios else None)
    return added


def allow_orders(rows: pl.DataFrame) -> pl.DataFrame:
    """Set `held_orders` to the orders in which choices may be shown.

    Those in which the model has the same belief; any order where it has none; and only the question's own where it holds its
    belief in no single order, or where an explanation states a choice, perhaps by its letter.

    Raises:
        UserError: the probes are of one order.
    """
    if not (rows["orders"].max() or 0) > 1:
        raise UserError(
            "--match rotation needs to know in which orders of the choices a belief holds: probe the questions in all of them "
            "(selfalign_probe_cyclic), or match letters by dropping rows (--match letter)."
        )
    stated = pl.any_horizontal(pl.col(f"{role}_contradicts").is_not_null() for role in ("gold", "belief"))
    n = pl.col("choices").list.len().cast(pl.Int64)
    own = pl.lit([0], dtype=pl.List(pl.Int64))
    held = pl.when(pl.col("belief").is_null()).then(pl.int_ranges(0, n)).otherwise("held_orders")
    return rows.with_columns(held_orders=pl.when(stated | (held.list.len() == 0)).then(own).otherwise(held))
