"""Which questions of a mix are answered with the belief, where the letters of its responses are to be those of gold."""

import math
from collections.abc import Sequence

import polars as pl

from intervention.conditions import number_rows
from intervention.matching.programs import Program


def spread_letters(table: pl.DataFrame, ratios: Sequence[float], seed: int) -> pl.Series:
    """Ranks of rows such that, at each ratio, the rows that come first have as many of a letter in gold as in the belief.

    So a mix, which answers these rows with the belief, has gold's letters as a whole. Rows are taken by pairs of letters
    (gold's and the belief's): of each pair its share, up to two rows, and among them such that the letters are off by as few
    rows as can be, and in the same direction at every ratio.

    Args:
        table: rows with `answer`, `belief`, `choices` and `order` (by how much the choices are rotated).
        ratios: the shares of rows that come first.
        seed: decides which rows of a pair are taken when.

    Returns:
        A number from 0 for each row, (n,).
    """
    n = pl.col("choices").list.len().cast(pl.Int64)
    rows = table.select(*((pl.col(name) - pl.col("order")) % n for name in ("answer", "belief"))).with_row_index("_row")
    rows = rows.with_columns(_number=number_rows(table, seed, "mix"))
    rows = rows.with_columns(_rank=pl.col("_number").rank("ordinal").over("answer", "belief").cast(pl.Int64) - 1)
    pairs = rows.group_by("answer", "belief").len().sort("answer", "belief")
    cuts = sorted({round(ratio * table.height) for ratio in ratios} | {table.height})
    # In which step a row is taken, by how many rows of its pair were taken before.
    steps = [
        (answer, belief, rank, step)
        for (answer, belief, _), ranks in zip(pairs.iter_rows(), _take_in_steps(pairs, cuts), strict=True)
        for step, rank in enumerate(ranks)
    ]
    starts = pl.DataFrame(steps, schema=dict.fromkeys(("answer", "belief", "_rank", "_step"), pl.Int64), orient="row")
    starts = starts.unique(["answer", "belief", "_rank"], keep="last").sort("_rank")
    rows = rows.sort("_rank").join_asof(starts, on="_rank", by=["answer", "belief"], check_sortedness=False)
    return rows.sort("_step", "_number").with_row_index("rank").sort("_row")["rank"]


def _take_in_steps(pairs: pl.DataFrame, cuts: Sequence[int]) -> list[list[int]]:
    """For each pair of letters and each cut, how many of its rows come before that step."""
    program = Program()
    total = sum(pairs["len"])
    letters = sorted(set(pairs["answer"]) | set(pairs["belief"]))
    # How many rows a letter may be above and below its number in gold, at any cut.
    above, below = ({letter: program.add(gain=-1) for letter in letters} for _ in range(2))
    before: list[int] = []
    found: list[list[int]] = []
    for cut in cuts:
        taken = []
        for i, (_, _, size) in enumerate(pairs.iter_rows()):
            share = size * cut / total
            taken.append(program.add(upper=size))
            program.require([(taken[-1], 1)], math.floor(share) - 1, math.ceil(share) + 1)
            if before:
                program.require([(taken[-1], 1), (before[i], -1)], 0, math.inf)
        program.require([(variable, 1) for variable in taken], cut, cut)
        for letter in letters:
            terms = [
                (variable, (belief == letter) - (answer == letter))
                for variable, (answer, belief, _) in zip(taken, pairs.iter_rows(), strict=True)
                if letter in (answer, belief)
            ]
            program.require([*terms, (above[letter], -1)], -math.inf, 0)
            program.require([*terms, (below[letter], 1)], 0, math.inf)
        found.append(taken)
        before = taken
    values = program.solve()
    assert values is not None  # rounding each share up or down meets every demand
    return [[0, *(round(values[taken[i]]) for taken in found[:-1])] for i in range(pairs.height)]
