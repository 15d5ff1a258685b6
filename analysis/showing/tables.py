"""A small model of a table, and its forms as markdown and plain text (LaTeX: `latex.py`). All cells are escaped."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from lm_eval_tasks.contracts.markdown import escape_text


@dataclass(frozen=True)
class Table:
    """A table of text: the first `left` columns are words, the others numbers."""

    name: str
    title: str
    header: list[str]
    rows: list[list[str]] = field(repr=False)
    note: str = ""
    left: int = 1


def write_markdown(table: Table) -> str:
    """A table as markdown, with its title in bold and its note below.

    >>> print(write_markdown(Table("t", "Two numbers", ["word", "n"], [["a|b", "12"]])), end="")
    **Two numbers**
    <BLANKLINE>
    | word | n |
    | :-- | --: |
    | a\\|b | 12 |
    """
    rules = [":--" if i < table.left else "--:" for i in range(len(table.header))]
    lines = [[escape_text(cell) for cell in row] for row in (table.header, *table.rows)]
    body = [f"| {' | '.join(row)} |" for row in (lines[0], rules, *lines[1:])]
    note = ["", escape_text(table.note)] if table.note else []
    return "\n".join([f"**{escape_text(table.title)}**", "", *body, *note]) + "\n"


def write_text(table: Table) -> str:
    """A table for a terminal, columns aligned.

    >>> print(write_text(Table("t", "Two numbers", ["word", "n"], [["a", "12"]])), end="")
    Two numbers
    <BLANKLINE>
    word   n
    ----  --
    a     12
    """
    widths = [max(map(len, column)) for column in zip(table.header, *table.rows, strict=True)]

    def align(row: Iterable[str]) -> str:
        cells = (c.ljust(w) if i < table.left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        return "  ".join(cells).rstrip()

    lines = [align(table.header), "  ".join("-" * width for width in widths), *map(align, table.rows)]
    return "\n".join([table.title, "", *lines, *(["", table.note] if table.note else [])]) + "\n"


def gather_cells(frame: pl.DataFrame, key: Sequence[str], column: str = "metric") -> dict[tuple, dict[str, dict[str, Any]]]:
    """The rows of a long frame by the row of a table that they stand in, and there by the value of a column.

    Args:
        frame: a row a cell.
        key: the columns that make a row of the table; rows stand in the order in which they come first.
        column: what tells the cells of a row apart.

    >>> frame = pl.DataFrame({"split": ["homo", "homo", "id"], "metric": ["a", "b", "a"], "value": [1, 2, 3]})
    >>> {row: {name: cell["value"] for name, cell in cells.items()} for row, cells in gather_cells(frame, ["split"]).items()}
    {('homo',): {'a': 1, 'b': 2}, ('id',): {'a': 3}}
    """
    cells: dict[tuple, dict[str, dict[str, Any]]] = {}
    for row in frame.iter_rows(named=True):
        cells.setdefault(tuple(row[name] for name in key), {})[row[column]] = row
    return cells


class Notes:
    """Remarks on rows of a table, numbered in the order in which they come; each stands once below the table."""

    def __init__(self):
        self._numbers: dict[str, int] = {}

    def mark(self, remark: str) -> str:
        """The number of a remark, or nothing where there is none."""
        return str(self._numbers.setdefault(remark, len(self._numbers) + 1)) if remark else ""

    def write(self) -> str:
        """All of them, to follow a table's note.

        >>> notes = Notes()
        >>> notes.mark("one seed"), notes.mark(""), notes.mark("one seed"), notes.write()
        ('1', '', '1', ' (1) One seed.')
        """
        return "".join(f" ({number}) {remark[0].upper()}{remark[1:]}." for remark, number in self._numbers.items())
