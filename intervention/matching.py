"""Sets whose responses have the same letters and whose questions the base model answered with the same confidence.

The released groups differ in more than agreement: a model that favours a letter makes that letter's share differ between gold
and belief, and right beliefs are held with more confidence. Two remedies:

- selection (`letter`, `confidence`): the largest sets in which the letters of the responses, and the confidences in bins of
  0.02, are distributed alike in all conditions. This is cardinality matching with fine balance (Zubizarreta, Paredes and
  Rosenbaum 2014, Annals of Applied Statistics 8(1)). Where gold and belief are both answered to the same questions, their
  letters have to agree within these: as edges from gold's letter to the belief's, the rows taken form a circulation.
- turning (`rotation`): the choices of each question are turned so that the letters agree, and no row is dropped; only into
  orders in which the model, asked in that order, has the same belief.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import polars as pl

from intervention.conditions import Condition, draw_numbers, shuffle_rows
from intervention.programs import Program
from lm_eval_tasks.manifest import UserError
from lm_eval_tasks.prompts import LETTERS

WAYS = ("letter", "confidence", "rotation")
BIN = 0.02  # of confidence: two sets that agree bin by bin have means that differ by less
Pools = Mapping[str, pl.DataFrame]  # kind of questions (`incompatible`, `harmonious`, `gold`) -> its questions


def parse_match(match: str) -> frozenset[str]:
    """What `--match` asks for, such as `letter+confidence`; nothing for `none`.

    Raises:
        UserError: an unknown word, or letters by two ways.
    """
    words = frozenset() if match == "none" else frozenset(match.split("+"))
    if unknown := sorted(words - set(WAYS)):
        raise UserError(f"--match {match}: {unknown[0]!r} is none of {', '.join(WAYS)}. Join several by '+', or write none.")
    if {"letter", "rotation"} <= words:
        raise UserError(f"--match {match}: letters are matched by dropping rows (letter) or by turning choices (rotation).")
    return words


def list_responses(conditions: Sequence[Condition]) -> list[tuple[str, str]]:
    """Which columns answer the questions of which kind, as (kind, column): these are to have the same letters."""
    names = {condition.name for condition in conditions}
    ratios = [condition.ratio for condition in conditions if condition.ratio is not None]
    shared = {
        "answer": bool(names & {"incompatible", "contextualized"}) or any(ratio < 1 for ratio in ratios),
        "belief": "self_aligning" in names or any(ratio > 0 for ratio in ratios),
        "wrong": "random_wrong" in names,
    }
    alone = [(name, "answer") for name in ("harmonious", "gold") if name in names]
    return [("incompatible", column) for column, answered in shared.items() if answered] + alone


def select_rows(
    pools: Pools, conditions: Sequence[Condition], by: Collection[str], size: int | None, seed: int
) -> dict[str, pl.DataFrame]:
    """The largest sets of one size in which letters and confidence agree: random ones of the rows that are alike.

    Args:
        pools: the questions that each kind can take, with `choices, answer, belief, confidence` and, for random_wrong, `wrongs`
            (the choices that it may answer with).
        conditions: what is built.
        by: `letter`, `confidence` or both.
        size: how many; the largest possible number where None.
        seed: decides which rows of those that are alike, and their order.

    Returns:
        kind -> the chosen rows; where letters are matched, with random_wrong's answer in the column `wrong`.

    Raises:
        UserError: no set, or too small a one, can be matched; says on which letter it fails.
    """
    if "confidence" in by:
        pools = {kind: pool.filter(pl.col("confidence").is_not_null()) for kind, pool in pools.items()}
    cells = [cell for kind, pool in pools.items() for cell in _list_cells(kind, pool, conditions, by)]
    found = 0
    # An odd size may not be made of pairs: a row of a letter or bin more is then allowed.
    for slack in (0,) if size is None else (0, 1):
        parts, counts = _solve_selection(cells, list(pools), conditions, size, slack)
        found = sum(count for part, count in zip(parts, counts) if part.cell.kind == next(iter(pools)))
        if found and found >= (size or 0):
            return _take_rows(pools, conditions, by, parts, counts, seed)
    raise UserError(_explain_failure(pools, conditions, by, found, size))


def turn_choices(pools: Pools, conditions: Sequence[Condition], seed: int) -> dict[str, pl.DataFrame]:
    """Turn the choices of each question so that the letters of all responses agree as nearly as can be; no row is dropped.

    Args:
        pools: the chosen questions of each kind, as `select_rows` takes them, with `held_orders`: the orders that are allowed.
        conditions: what is built.
        seed: decides which of the rows that are alike is turned how.

    Returns:
        kind -> its rows with `order` and, where random_wrong is built, `wrong`.
    """
    by = {"letter", "rotation"}
    cells = [cell for kind, rows in pools.items() for cell in _list_cells(kind, rows, conditions, by)]
    # Fractions of rows show how even and how like each other the letters can be; whole rows then come as near as they can.
    targets, apart = _solve_turning(cells, conditions, len(pools))
    for below, above in ((0, 0), (0, 1), (1, 1)):
        program = Program()
        parts = _add_parts(program, cells, whole=True)
        for letter, target in enumerate(targets):
            count = program.add()
            program.require([(count, 1)], target - 1, target + 1)
            for response in list_responses(conditions):
                program.require([*_sum_letter(parts, *response, letter), (count, -1)], -apart - below, apart + above)
        if (values := program.solve()) is not None:
            break
    assert values is not None
    return _take_rows(pools, conditions, by, parts, [round(values[part.variable]) for part in parts], seed)


class Cell(NamedTuple):
    """Rows of one kind that are alike in all that is matched."""

    kind: str
    name: str
    size: int
    bin: int | None
    n: int  # choices
    columns: dict[str, int]  # `answer`, `belief`: the index of that choice; those whose letters are matched
    orders: list[int]
    wrongs: list[int | None]


class Part(NamedTuple):
    """Rows of a cell that are taken in one order and answered, in random_wrong, with one choice."""

    variable: int
    cell: Cell
    order: int
    wrong: int | None

    def find_letter(self, column: str) -> int:
        """The letter of a response, as a number, among the choices as they are shown."""
        choice = self.wrong if column == "wrong" else self.cell.columns[column]
        return (choice - self.order) % self.cell.n


def _name_cell(kind: str, conditions: Sequence[Condition], by: Collection[str]) -> dict[str, pl.Expr]:
    """What makes rows of a kind alike."""
    answered = [column for of, column in list_responses(conditions) if of == kind] if "letter" in by else []
    parts = {column: pl.col(column) for column in answered if column != "wrong"}
    parts |= {"n": pl.col("choices").list.len().cast(pl.Int64)} if answered else {}
    parts |= {"wrongs": pl.col("wrongs")} if "wrong" in answered else {}
    parts |= {"held_orders": pl.col("held_orders")} if "rotation" in by else {}
    parts |= {"bin": (pl.col("confidence") / BIN).floor().cast(pl.Int64)} if "confidence" in by else {}
    return parts


def _write_name(parts: Mapping[str, pl.Expr]) -> pl.Expr:
    lists = ("wrongs", "held_orders")
    texts = [e.cast(pl.List(pl.String)).list.join(",") if name in lists else e.cast(pl.String) for name, e in parts.items()]
    return pl.concat_str([pl.lit(""), *texts], separator="/").alias("_cell")


def _list_cells(kind: str, pool: pl.DataFrame, conditions: Sequence[Condition], by: Collection[str]) -> list[Cell]:
    parts = _name_cell(kind, conditions, by)
    table = pool.group_by(_write_name(parts)).agg(pl.len().alias("_size"), *(e.first().alias(n) for n, e in parts.items()))
    return [
        Cell(
            kind,
            row["_cell"],
            row["_size"],
            row.get("bin"),
            row.get("n", 0),
            {column: row[column] for column in ("answer", "belief") if column in row},
            row.get("held_orders", [0]),
            row.get("wrongs", [None]),
        )
        for row in table.sort("_cell").iter_rows(named=True)
    ]


def _add_parts(program: Program, cells: Sequence[Cell], whole: bool) -> list[Part]:
    """A variable for each way to take rows of a cell; all of its rows are taken, or as many as one wants."""
    parts = []
    for cell in cells:
        own = [Part(program.add(cell.size), cell, order, wrong) for order in cell.orders for wrong in cell.wrongs]
        program.require([(part.variable, 1) for part in own], cell.size if whole else 0, cell.size)
        parts += own
    return parts


def _sum_letter(parts: Sequence[Part], kind: str, column: str, letter: int) -> list[tuple[int, float]]:
    return [(p.variable, 1) for p in parts if p.cell.kind == kind and p.find_letter(column) == letter]


def _solve_selection(
    cells: Sequence[Cell], kinds: Sequence[str], conditions: Sequence[Condition], size: int | None, slack: int
) -> tuple[list[Part], list[int]]:
    program = Program()
    parts = _add_parts(program, cells, whole=False)
    total = program.add(upper=math.inf if size is None else size, gain=1)
    sums = [[(p.variable, 1) for p in parts if p.cell.kind == kind] for kind in kinds]
    for terms in sums:
        program.require([*terms, (total, -1)])
    lettered = any(cell.n for cell in cells)
    alike = [
        [_sum_letter(parts, *response, letter) for response in list_responses(conditions)]
        for letter in range(max(cell.n for cell in cells) if lettered else 0)
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


def _solve_turning(cells: Sequence[Cell], conditions: Sequence[Condition], kinds: int) -> tuple[list[float], float]:
    """How many responses each letter should have, and how far from it, in rows, the letters of a response have to be."""
    program = Program()
    parts = _add_parts(program, cells, whole=True)
    # First the letters of all responses agree (`apart`), then no letter has more than its even share (`uneven`).
    apart, uneven = program.add(gain=-1000), program.add(gain=-1)
    shares = _share_evenly(cells, kinds)
    targets = [program.add() for _ in shares]
    for letter, (target, share) in enumerate(zip(targets, shares)):
        program.require([(target, 1), (uneven, -1)], -math.inf, share)
        for response in list_responses(conditions):
            terms = _sum_letter(parts, *response, letter)
            program.require([*terms, (target, -1), (apart, -1)], -math.inf, 0)
            program.require([*terms, (target, -1), (apart, 1)], 0, math.inf)
    values = program.solve(whole=False)
    assert values is not None  # any order will do, however far apart the letters are
    return [values[target] for target in targets], values[apart]


def _share_evenly(cells: Sequence[Cell], kinds: int) -> list[float]:
    """How many responses each letter would have if every choice were answered alike often."""
    widest = max(cell.n for cell in cells)
    return [sum(cell.size / cell.n for cell in cells if cell.n > letter) / kinds for letter in range(widest)]


def _take_rows(
    pools: Pools,
    conditions: Sequence[Condition],
    by: Collection[str],
    parts: Sequence[Part],
    counts: Sequence[int],
    seed: int,
) -> dict[str, pl.DataFrame]:
    """Random rows of each cell, as many as each part counts, with the part's `order` and `wrong`."""
    chosen = {}
    for kind, pool in pools.items():
        taken = [(p.cell.name, count, p.order, p.wrong) for p, count in zip(parts, counts) if p.cell.kind == kind and count]
        schema = {"_cell": pl.String, "_count": pl.Int64, "order": pl.Int64, "wrong": pl.Int64}
        slots = pl.DataFrame(taken, schema=schema, orient="row").with_columns(_stop=pl.col("_count").cum_sum().over("_cell"))
        slots = slots.with_columns(_rank=pl.col("_stop") - pl.col("_count")).sort("_rank")
        rows = (
            pool.drop("order", "wrong", strict=False)
            .with_columns(_write_name(_name_cell(kind, conditions, by)), _number=draw_numbers(pool, seed, "questions"))
            .with_columns(_rank=pl.col("_number").rank("ordinal").over("_cell").cast(pl.Int64) - 1)
        )
        rows = rows.sort("_rank").join_asof(slots, on="_rank", by="_cell", check_sortedness=False)
        rows = rows.filter(pl.col("_rank") < pl.col("_stop")).drop("_cell", "_number", "_rank", "_count", "_stop")
        chosen[kind] = shuffle_rows(rows if _is_wrong(parts, kind) else rows.drop("wrong"), seed, "questions")
    return chosen


def _is_wrong(parts: Sequence[Part], kind: str) -> bool:
    return any(part.wrong is not None for part in parts if part.cell.kind == kind)


def _explain_failure(pools: Pools, conditions: Sequence[Condition], by: Collection[str], found: int, size: int | None) -> str:
    """Why no set, or no set of this size, can be matched: on which letter, or between which confidences."""
    how = f"--match {'+'.join(way for way in WAYS if way in by)}"
    most = (
        f"at most {found} questions a condition can be matched, and --size asks for {size}" if found else "none can be matched"
    )
    facts = []
    if "letter" in by:
        letter, counts = max(
            ((letter, _count_letter(pools, conditions, letter)) for letter in range(len(LETTERS))),
            key=lambda pair: max(pair[1].values()) - min(pair[1].values()),
        )
        shown = ", ".join(f"{count} times as {name}" for name, count in counts.items())
        facts.append(f"it fails on letter {LETTERS[letter]}, which is there {shown}")
    if "confidence" in by:
        ranges = (
            f"{kind} {pool['confidence'].min():.2f} to {pool['confidence'].max():.2f}" if pool.height else f"{kind} none"
            for kind, pool in pools.items()
        )
        facts.append(f"confidences are {', '.join(ranges)}")
    remedy = "Ask for fewer, leave out a condition, or match less" + (" (rotation drops no row)." if "letter" in by else ".")
    return f"{how}: {most}: {'; '.join(facts)}. {remedy}"


def _count_letter(pools: Pools, conditions: Sequence[Condition], letter: int) -> dict[str, int]:
    """How many questions could be answered with a letter, by response."""
    names = {"answer": "gold of {}", "belief": "the belief of {}", "wrong": "another wrong choice of {}"}
    return {
        names[column].format("all questions" if kind == "gold" else f"{kind} questions"): int(
            (pools[kind]["wrongs"].list.contains(letter) if column == "wrong" else pools[kind][column] == letter).sum()
        )
        for kind, column in list_responses(conditions)
    }
