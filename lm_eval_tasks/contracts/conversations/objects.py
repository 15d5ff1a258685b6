"""Rows that are JSON: as a table, with one type a column, and as they were written."""

import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.lines import iterate_lines, parse_lines

Read = tuple[pl.DataFrame, Callable[[Sequence[str]], Iterable[tuple[Any, ...]]]]


def read_json(file: Path, may_be_list: bool = False) -> Read:
    """Read JSON lines, plain or gzip, as a table and what lists the values of columns, row by row, as the file has them.

    Where the values of a key are of several types, those in the table that are no text are their JSON.

    Args:
        file: the file.
        may_be_list: whether it may be one list of objects.

    Raises:
        UserError: it is cut or damaged, or holds something else; names the line.
    """
    if may_be_list and next((line for line in iterate_lines(file) if line.strip()), b"").lstrip()[:1] == b"[":
        return read_objects(_read_list(file))
    try:
        source = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file
        table = _read_ndjson(source)
    except (pl.exceptions.PolarsError, OSError, EOFError):  # only the slow reader knows what is wrong, and where
        table = _make_table(list(_iterate_objects(file)))

    def list_values(names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        for row in _iterate_objects(file):
            yield tuple(map(row.get, names))

    return table, list_values


def read_objects(rows: list[dict[str, Any]]) -> Read:
    """The same of rows that are at hand.

    >>> table, list_values = read_objects([{"output": "Oak"}, {"output": 5}])
    >>> table["output"].to_list(), list(list_values(["output"]))
    (['Oak', '5'], [('Oak',), (5,)])
    """
    return _make_table(rows), lambda names: (tuple(map(row.get, names)) for row in rows)


def _iterate_objects(file: Path) -> Iterator[dict[str, Any]]:
    for line in parse_lines(file):
        yield _check_object(line.value, line.where)


def _read_list(file: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(b"".join(iterate_lines(file)))
    except ValueError as error:
        raise UserError(f"{file} is not whole JSON ({error}). Mend it, or fetch or write the file again.") from error
    return [_check_object(row, f"{file}, item {number}") for number, row in enumerate(rows, 1)]


def _check_object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(
            f"{where} is not a JSON object but {repr(value)[:40]}. Write one object a row, with the columns as keys."
        )
    return value


def _make_table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    try:
        return _read_ndjson(_write_lines(rows)) if rows else pl.DataFrame()
    except pl.exceptions.PolarsError:  # a key has values that no type holds: that one is kept as JSON
        names = dict.fromkeys(chain.from_iterable(rows))
        return pl.DataFrame([_make_column(name, [row.get(name) for row in rows]) for name in names])


def _make_column(name: str, values: list[Any]) -> pl.Series:
    try:
        return _read_ndjson(_write_lines({name: value} for value in values))[name]
    except pl.exceptions.PolarsError:
        return _write_json(name, values)


def _write_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


def _read_ndjson(source: Path | bytes) -> pl.DataFrame:
    if not (source if isinstance(source, bytes) else source.stat().st_size):
        return pl.DataFrame()
    table = pl.read_ndjson(source, infer_schema_length=None)
    # Parquet has no type for objects without a key.
    empty = [name for name, kind in table.schema.items() if _holds_empty_object(kind)]
    return table.with_columns(_write_json(name, table[name].to_list()) for name in empty)


def _holds_empty_object(kind: pl.DataType) -> bool:
    if isinstance(kind, pl.Struct):
        return not kind.fields or any(_holds_empty_object(field.dtype) for field in kind.fields)
    return isinstance(kind, pl.List) and _holds_empty_object(kind.inner)


def _write_json(name: str, values: Iterable[Any]) -> pl.Series:
    texts = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
    return pl.Series(name, texts, pl.String)
