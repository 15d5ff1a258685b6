"""Rows that are alike in all that is matched, as the integer programs of `selection` and `rotation` count them."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import polars as pl

from intervention.conditions import Pools, list_responses, number_rows, shuffle_rows
from intervention.matching.programs import Program
from lm_eval_tasks.contracts.vocabulary import Condition

BIN = 0.02  # of confidence: two sets that agree bin by bin have means that differ by less
CHARACTERS = 4  # likewise of a response's length


class Cell(NamedTuple):
    """Rows of one kind that are alike in all that is matched."""

    kind: str
    name: str
    size: int
    bin: int | None
    n: int  # choices, where letters are matched
    columns: dict[str, int]  # `answer`, `belief`: the index of that choice, or the bin of its length, where these are matched
    orders: list[int]
    others: list[int | None]


class Part(NamedTuple):
    """Rows of a cell that are taken in one order and answered, where another wrong choice is to be, with one choice."""

    variable: int
    cell: Cell
    order: int
    other: int | None

    def find_value(self, column: str) -> int:
        """What is matched of a response: its letter, as a number, among the choices as they are shown; or its length's bin."""
        choice = self.other if column == "other" else self.cell.columns[column]
        if not self.cell.n:
            return choice
        return (choice - self.order) % self.cell.n


def _name_cell(kind: str, conditions: Sequence[Condition], by: Collection[str]) -> dict[str, pl.Expr]:
    """What makes rows of a kind alike."""
    answered = [column for of, column in list_responses(conditions) if of == kind] if "letter" in by else []
    parts = {column: pl.col(column) for column in answered if column != "other"}
    parts |= {"n": pl.col("choices").list.len().cast(pl.Int64)} if answered else {}
    if "length" in by:
        parts |= {column: measure_length(column) // CHARACTERS for of, column in list_responses(conditions) if of == kind}
    parts |= {"others": pl.col("others")} if "other" in answered else {}
    parts |= {"held_orders": pl.col("held_orders")} if "rotation" in by else {}
    parts |= {"bin": (pl.col("confidence") / BIN).floor().cast(pl.Int64)} if "confidence" in by else {}
    return parts


def measure_length(column: str) -> pl.Expr:
    """The characters of the choice whose index is in a column."""
    return pl.col("choices").list.get(pl.col(column)).str.len_chars().cast(pl.Int64)


def _write_name(parts: Mapping[str, pl.Expr]) -> pl.Expr:
    lists = ("others", "held_orders")
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
            row.get("others", [None]),
        )
        for row in table.sort("_cell").iter_rows(named=True)
    ]


def add_parts(program: Program, cells: Sequence[Cell], whole: bool) -> list[Part]:
    """A variable for each way to take rows of a cell; all of its rows are taken, or as many as one wants."""
    parts = []
    for cell in cells:
        own = [Part(program.add(cell.size), cell, order, other) for order in cell.orders for other in cell.others]
        program.require([(part.variable, 1) for part in own], cell.size if whole else 0, cell.size)
        parts += own
    return parts


def sum_value(parts: Sequence[Part], kind: str, column: str, value: int) -> list[tuple[int, float]]:
    """The responses of a kind and column that have a letter, or a length, as the terms of a sum."""
    return [(p.variable, 1) for p in parts if p.cell.kind == kind and p.find_value(column) == value]


def take_rows(
    pools: Pools,
    conditions: Sequence[Condition],
    by: Collection[str],
    parts: Sequence[Part],
    counts: Sequence[int],
    seed: int,
) -> dict[str, pl.DataFrame]:
    """Random rows of each cell, as many as each part counts, with the part's `order` and `other`."""
    chosen = {}
    for kind, pool in pools.items():
        taken = [(p.cell.name, count, p.order, p.other) for p, count in zip(parts, counts) if p.cell.kind == kind and count]
        schema = {"_cell": pl.String, "_count": pl.Int64, "order": pl.Int64, "other": pl.Int64}
        slots = pl.DataFrame(taken, schema=schema, orient="row").with_columns(_stop=pl.col("_count").cum_sum().over("_cell"))
        slots = slots.with_columns(_rank=pl.col("_stop") - pl.col("_count")).sort("_rank")
        rows = (
            pool.drop("order", "other", strict=False)
            .with_columns(_write_name(_name_cell(kind, conditions, by)), _number=number_rows(pool, seed, "questions"))
            .with_columns(_rank=pl.col("_number").rank("ordinal").over("_cell").cast(pl.Int64) - 1)
        )
        rows = rows.sort("_rank").join_asof(slots, on="_rank", by="_cell", check_sortedness=False)
        rows = rows.filter(pl.col("_rank") < pl.col("_stop")).drop("_cell", "_number", "_rank", "_count", "_stop")
        chosen[kind] = shuffle_rows(rows if _answers_other(parts, kind) else rows.drop("other"), seed, "questions")
    return chosen


def _answers_other(parts: Sequence[Part], kind: str) -> bool:
    return any(part.other is not None for part in parts if part.cell.kind == kind)
