"""Sets whose responses have the same letters and whose questions the base model answered with the same confidence.

The released groups differ in more than agreement: a model that favours a letter makes that letter's share differ between gold
and belief, and right beliefs are held with more confidence. Two remedies:

- selection (`letter`, `confidence`, `length`), here: the largest sets in which the letters of the responses, the confidences in
  bins of 0.02, and the lengths of answers that are texts, in bins of 4 characters, are distributed alike in all conditions.
  This is cardinality matching with fine balance (Zubizarreta, Paredes and Rosenbaum 2014, Annals of Applied Statistics 8(1)).
  Where gold and belief are both answered to the same questions, their letters (or lengths) have to agree within these: as edges
  from gold's letter to the belief's, the rows taken form a circulation. A mix has lengths as far as chance keeps them.
- rotation (`rotation`, see `rotation.py`): the choices of each question are rotated so that the letters agree, and no row is
  dropped.
"""

import math
from collections.abc import Collection, Sequence

import polars as pl

from intervention.conditions import Pools, list_responses, name_kind
from intervention.matching.cells import Cell, Part, add_parts, list_cells, measure_length, sum_value, take_rows
from intervention.matching.programs import Program
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import LETTERS
from lm_eval_tasks.contracts.vocabulary import MATCHED, Condition


def parse_match(match: str) -> frozenset[str]:
    """What `--match` asks for, such as `letter+confidence`; nothing for `none`.

    Raises:
        UserError: an unknown word, or letters by two ways.

    >>> sorted(parse_match("letter+confidence"))
    ['confidence', 'letter']
    """
    words = frozenset() if match == "none" else frozenset(match.split("+"))
    if unknown := sorted(words - set(MATCHED)):
        raise UserError(f"--match {match}: {unknown[0]!r} is none of {', '.join(MATCHED)}. Join several by '+', or write none.")
    if {"letter", "rotation"} <= words:
        raise UserError(f"--match {match}: letters are matched by dropping rows (letter) or by rotating choices (rotation).")
    return words


def select_rows(
    pools: Pools, conditions: Sequence[Condition], by: Collection[str], size: int | None, seed: int
) -> dict[str, pl.DataFrame]:
    """The largest sets of one size in which letters and confidence agree: random ones of the rows that are alike.

    Args:
        pools: the questions of each kind that can be taken, with `choices, answer, belief, confidence` and, where a condition
            answers with another wrong choice, `others` (those that it may answer with).
        conditions: what is built.
        by: of `letter`, `confidence`, `length`.
        size: how many; the largest possible number where None.
        seed: decides which rows of those that are alike, and their order.

    Returns:
        kind -> the chosen rows; where letters are matched, with that other choice in the column `other`.

    Raises:
        UserError: no set, or too small a one, can be matched; says on which letter it fails.
    """
    if "confidence" in by:
        pools = {kind: pool.filter(pl.col("confidence").is_not_null()) for kind, pool in pools.items()}
    cells = list_cells(pools, conditions, by)
    found = 0
    # An odd size may not be made of pairs: a row of a letter or bin more is then allowed.
    for slack in (0,) if size is None else (0, 1):
        parts, counts = _solve_selection(cells, list(pools), conditions, size, slack)
        found = sum(count for part, count in zip(parts, counts) if part.cell.kind == next(iter(pools)))
        if found and found >= (size or 0):
            return take_rows(pools, conditions, by, parts, counts, seed)
    raise UserError(_explain_failure(pools, conditions, by, found, size))


def _solve_selection(
    cells: Sequence[Cell], kinds: Sequence[str], conditions: Sequence[Condition], size: int | None, slack: int
) -> tuple[list[Part], list[int]]:
    program = Program()
    parts = add_parts(program, cells, whole=False)
    total = program.add(upper=math.inf if size is None else size, gain=1)
    sums = [[(p.variable, 1) for p in parts if p.cell.kind == kind] for kind in kinds]
    for terms in sums:
        program.require([*terms, (total, -1)])
    letters = max((cell.n for cell in cells), default=0)
    lengths = set() if letters else {length for cell in cells for length in cell.columns.values()}
    alike = [
        [sum_value(parts, *response, value) for response in list_responses(conditions)]
        for value in (*range(letters), *sorted(lengths))
    ]
    alike += [
        [[(p.variable, 1) for p in parts if p.cell.kind == kind and p.cell.bin == bin] for kind in kinds]
        for bin in sorted({cell.bin for cell in cells} - {None})  # noqa: A001
    ]
    for group in alike:
        target = program.add()
        for terms in group:
            program.require([*terms, (target, -1)], 0, slack)
    values = program.solve()
    assert values is not None  # taking no row meets every demand
    return parts, [round(values[part.variable]) for part in parts]


def _explain_failure(pools: Pools, conditions: Sequence[Condition], by: Collection[str], found: int, size: int | None) -> str:
    """Why no set, or no set of this size, can be matched: on which letter, or between which confidences."""
    how = f"--match {'+'.join(way for way in MATCHED if way in by)}"
    most = (
        f"at most {found} questions a condition can be matched, and --size asks for {size}" if found else "none can be matched"
    )
    reasons = []
    if "letter" in by:
        letter, counts = max(
            ((letter, _count_letter(pools, conditions, letter)) for letter in range(len(LETTERS))),
            key=lambda pair: max(pair[1].values()) - min(pair[1].values()),
        )
        shown = ", ".join(f"{count} times as {name}" for name, count in counts.items())
        reasons.append(f"it fails on letter {LETTERS[letter]}, which is there {shown}")
    if "length" in by:
        ranges = (
            f"{lengths.min()} to {lengths.max()} of {name}"
            for name, lengths in _list_lengths(pools, conditions).items()
            if len(lengths)
        )
        reasons.append(f"responses have characters: {', '.join(ranges)}")
    if "confidence" in by:
        ranges = (
            f"{pool['confidence'].min():.2f} to {pool['confidence'].max():.2f} of {name_kind(kind)}"
            if pool.height
            else f"none of {name_kind(kind)}"
            for kind, pool in pools.items()
        )
        reasons.append(f"confidences are {', '.join(ranges)}")
    remedy = "Ask for fewer, leave out a condition, or match less" + (" (rotation drops no row)." if "letter" in by else ".")
    return f"{how}: {most}: {'; '.join(reasons)}. {remedy}"


_NAMES = {"answer": "gold of {}", "belief": "the belief of {}", "other": "another wrong choice of {}"}


def _list_lengths(pools: Pools, conditions: Sequence[Condition]) -> dict[str, pl.Series]:
    """The lengths of the responses, by response."""
    return {
        _NAMES[column].format(name_kind(kind)): pools[kind].select(measure_length(column)).to_series()
        for kind, column in list_responses(conditions)
    }


def _count_letter(pools: Pools, conditions: Sequence[Condition], letter: int) -> dict[str, int]:
    """How many questions could be answered with a letter, by response."""
    return {
        _NAMES[column].format(name_kind(kind)): int(
            (pools[kind]["others"].list.contains(letter) if column == "other" else pools[kind][column] == letter).sum()
        )
        for kind, column in list_responses(conditions)
    }
