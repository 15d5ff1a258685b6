"""Rotate the choices of questions until the letters of all responses agree: the way of matching that drops no row.

Choices are shown only in orders in which the model, asked in that order, has the same belief.
"""

import math
from collections.abc import Sequence
from itertools import count

import numpy as np
import polars as pl

from intervention.conditions import Pools, list_responses
from intervention.matching.cells import Cell, Part, add_parts, list_cells, sum_value, take_rows
from intervention.matching.programs import Program
from lm_eval_tasks.contracts.vocabulary import Condition

WHOLE = 1e-6  # how near a solution in fractions is to whole rows where it means them


def match_rotations(pools: Pools, conditions: Sequence[Condition], seed: int) -> dict[str, pl.DataFrame]:
    """Rotate the choices of each question so that the letters of all responses agree as nearly as can be; no row is dropped.

    Args:
        pools: the chosen questions of each kind, as `select_rows` takes them, with `held_orders`: the orders that are allowed.
        conditions: what is built.
        seed: decides which of the rows that are alike is rotated how.

    Returns:
        kind -> its rows with `order` and, where a condition answers with another wrong choice, `other`.
    """
    by = {"letter", "rotation"}
    cells = list_cells(pools, conditions, by)
    program = Program()
    parts = add_parts(program, cells, whole=True)
    fractions, targets, apart = _solve_rotation(program, parts, conditions, _share_evenly(cells, len(pools)))
    counts = _round_rotation(parts, conditions, fractions, targets, apart)
    return take_rows(pools, conditions, by, parts, counts, seed)


def _solve_rotation(
    program: Program, parts: Sequence[Part], conditions: Sequence[Condition], shares: Sequence[float]
) -> tuple[np.ndarray, list[float], float]:
    """How many rows of each part, in fractions; how many responses each letter has; how far, in rows, they have to be apart."""
    # First the letters of all responses agree (`apart`), then no letter has more than its even share (`uneven`).
    apart, uneven = program.add(gain=-1000), program.add(gain=-1)
    targets = [program.add() for _ in shares]
    for letter, (target, share) in enumerate(zip(targets, shares)):
        program.require([(target, 1), (uneven, -1)], -math.inf, share)
        for response in list_responses(conditions):
            terms = sum_value(parts, *response, letter)
            program.require([*terms, (target, -1), (apart, -1)], -math.inf, 0)
            program.require([*terms, (target, -1), (apart, 1)], 0, math.inf)
    values = program.solve(whole=False)
    assert values is not None  # any order will do, however far apart the letters are
    return values, [values[target] for target in targets], values[apart]


def _round_rotation(
    parts: Sequence[Part], conditions: Sequence[Condition], fractions: np.ndarray, targets: Sequence[float], apart: float
) -> list[int]:
    """Whole rows as near to the fractions as can be, for each part.

    A best solution in fractions has whole rows in all cells but about as many as there are letters of responses, so little is
    left to decide, which takes no time however many cells there are.
    """
    nearest = {part.variable: round(fractions[part.variable]) for part in parts}
    torn = {part.cell[:2] for part in parts if abs(fractions[part.variable] - nearest[part.variable]) > WHOLE}
    settled = [part for part in parts if part.cell[:2] not in torn]
    rest = [part for part in parts if part.cell[:2] in torn]
    for slack in count():  # rows by which a letter may differ between responses, beyond what it has to
        program = Program()
        cells = {part.cell[:2]: part.cell for part in rest}
        own = add_parts(program, list(cells.values()), whole=True)
        for letter, target in enumerate(targets):
            number = program.add()
            program.require([(number, 1)], target - 1 - slack, target + 1 + slack)
            for response in list_responses(conditions):
                done = sum(nearest[variable] for variable, _ in sum_value(settled, *response, letter))
                low, high = (-apart - slack // 2 - done, apart + (slack + 1) // 2 - done)
                program.require([*sum_value(own, *response, letter), (number, -1)], low, high)
        if (values := program.solve()) is not None:
            nearest |= {old.variable: round(values[new.variable]) for old, new in zip(rest, own, strict=True)}
            return [nearest[part.variable] for part in parts]
    raise AssertionError  # the slack grows until it is met


def _share_evenly(cells: Sequence[Cell], kinds: int) -> list[float]:
    """How many responses each letter would have if every choice were answered alike often."""
    widest = max(cell.n for cell in cells)
    return [sum(cell.size / cell.n for cell in cells if cell.n > letter) / kinds for letter in range(widest)]
