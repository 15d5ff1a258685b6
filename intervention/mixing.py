"""Which questions of a mix are answered with the belief: the first ones of an order in which any beginning is balanced."""

from collections import deque
from collections.abc import Mapping

import polars as pl

from intervention.conditions import draw_numbers

Edge = tuple[int, int]  # from gold's letter to the belief's


def spread_letters(table: pl.DataFrame, seed: int) -> pl.Series:
    """Places of rows such that among the first k rows, for any k, gold and belief have the same letters but for a row a letter.

    So the responses of a mix have, at any ratio, the letters that gold has. The rows, as edges from gold's letter to the
    belief's, are split into cycles, which follow each other in random order. Rows that are in no cycle stand at random places.

    Args:
        table: rows with `answer`, `belief`, `choices` and `order` (by how much the choices are turned).
        seed: decides the order.

    Returns:
        A number from 0 for each row, (n,).
    """
    n = pl.col("choices").list.len().cast(pl.Int64)
    rows = table.select(*((pl.col(name) - pl.col("order")) % n for name in ("answer", "belief"))).with_row_index("_row")
    rows = rows.with_columns(_number=draw_numbers(table, seed, "mix"))
    rows = rows.with_columns(_rank=pl.col("_number").rank("ordinal").over("answer", "belief").cast(pl.Int64) - 1)
    counts = {(g, b): size for g, b, size in rows.group_by("answer", "belief").len().sort("answer", "belief").iter_rows()}
    # The next `times` rows of each edge of a cycle are in it; a block is one row of each.
    used, slots = dict.fromkeys(counts, 0), []
    for number, (cycle, times) in enumerate(split_cycles(counts)):
        for edge in cycle:
            slots.append((*edge, used[edge], times, number))
            used[edge] += times
    schema = dict.fromkeys(("answer", "belief", "_rank", "_times", "_cycle"), pl.Int64)
    found = pl.DataFrame(slots, schema=schema, orient="row").with_columns(_start=pl.col("_rank")).sort("_rank")
    rows = rows.sort("_rank").join_asof(found, on="_rank", by=["answer", "belief"], check_sortedness=False)
    turn = pl.col("_rank") - pl.col("_start")
    alone = pl.format("alone/{}/{}/{}", "answer", "belief", "_rank")
    rows = rows.with_columns(_block=pl.when(turn < pl.col("_times")).then(pl.format("{}/{}", "_cycle", turn)).otherwise(alone))
    rows = rows.with_columns(_order=draw_numbers(rows, seed, "blocks", ["_block"])).sort("_order", "_block", "_number")
    return rows.with_row_index("place").sort("_row")["place"]


def split_cycles(counts: Mapping[Edge, int]) -> list[tuple[list[Edge], int]]:
    """Cycles of letters and how often each fits into the counts of edges, shortest first; what is left over has no cycle.

    All of a circulation is split: what is left when a cycle is taken away is a circulation again.
    """
    left, found = {edge: count for edge, count in counts.items() if count}, []
    while cycle := min((path for edge in left if (path := _close_cycle(edge, left))), key=len, default=None):
        times = min(left[edge] for edge in cycle)
        left = {edge: count - times * (edge in cycle) for edge, count in left.items()}
        left = {edge: count for edge, count in left.items() if count}
        found.append((cycle, times))
    return found


def _close_cycle(edge: Edge, edges: Mapping[Edge, int]) -> list[Edge] | None:
    """The shortest cycle through an edge, found breadth first."""
    start, end = edge
    reached: dict[int, list[Edge]] = {end: [edge]}
    queue = deque([end])
    while queue:
        letter = queue.popleft()
        if letter == start:
            return reached[letter]
        for step in edges:
            if step[0] == letter and step[1] not in reached:
                reached[step[1]] = [*reached[letter], step]
                queue.append(step[1])
    return None
