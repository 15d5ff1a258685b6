"""Rows that are alike in all that is matched, as the integer programs of `matching` and `turning` count them."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import polars as pl

from intervention.conditions import Condition, draw_numbers, shuffle_rows
from intervention.matching.programs import Program

BIN = 0.02  # of confidence: two sets that agree bin by bin have means that differ by less
Pools = Mapping[str, pl.DataFrame]  # kind of questions (`incompatible`, `harmonious`, `gold`) -> its questions


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


def list_cells(pools: Pools, conditions: Sequence[Condition], by: Collection[str]) -> list[Cell]:
    """The cells of all kinds, in the order of their kinds and names."""
    return [cell for kind, pool in pools.items() for cell in _list_cells(kind, pool, conditions, by)]


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


def add_parts(program: Program, cells: Sequence[Cell], whole: bool) -> list[Part]:
    """A variable for each way to take rows of a cell; all of its rows are taken, or as many as one wants."""
    parts = []
    for cell in cells:
        own = [Part(program.add(cell.size), cell, order, wrong) for order in cell.orders for wrong in cell.wrongs]
        program.require([(part.variable, 1) for part in own], cell.size if whole else 0, cell.size)
        parts += own
    return parts


def sum_letter(parts: Sequence[Part], kind: str, column: str, letter: int) -> list[tuple[int, float]]:
    """The responses of a kind and column that have a letter, as the terms of a sum."""
    return [(p.variable, 1) for p in parts if p.cell.kind == kind and p.find_letter(column) == letter]


def take_rows(
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
