"""Read JSON lines into a typed table; what is wrong with a line is said with its number."""

import gzip
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.lines import parse_lines

_PYTHON = {pl.String: (str, int, float), pl.Int64: (int,), pl.Float64: (int, float), pl.Boolean: (bool,)}
# A number that polars may write otherwise than the file.
_LOSES_DIGITS = re.compile(rb"[\[,:]\s*(?:-0|-?\d+(?:\.\d+)?[eE][+-]?\d+|-?\d+\.\d+)\s*[,\]}]")
_WORDS = {pl.String: "text", pl.Int64: "a whole number", pl.Float64: "a number", pl.Boolean: "true or false"}


def read_jsonl(
    file: str | Path, schema: pl.Schema | dict[str, pl.DataType], remedies: Mapping[str, str] = MappingProxyType({})
) -> pl.DataFrame:
    """Read JSON lines, plain or gzip: the columns of `schema`, null where a line lacks one; other columns are passed over.

    Numbers are accepted where text is expected (ids often are numbers), and keep their digits; nothing else is converted.

    Args:
        file: the file.
        schema: the columns.
        remedies: a column -> what to do where a value of it is of another type.

    Raises:
        UserError: the file does not exist, is cut or damaged, holds no line, or a line is no JSON object or has a value of
            another type; names the line.
    """
    file = Path(file)
    if not file.is_file():
        raise UserError(f"{file} is not a file. Name a file of JSON lines (.jsonl or .jsonl.gz).")
    try:
        source = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        table = pl.read_ndjson(source, schema=schema) if source.strip() else pl.DataFrame()
    except (pl.exceptions.PolarsError, OSError, EOFError) as error:
        # Only the slow reader knows the number of the line.
        raise UserError(_explain_line(file, schema, remedies) or f"{file} cannot be read: {error}") from error
    if not table.height:
        raise UserError(f"{file} is empty. Name a file that holds at least one line of JSON.")
    # Where text is expected, polars writes an object, a list or a truth value as its JSON: only the lines tell it from text.
    if any(_may_be_json(column) for column in table) and (complaint := _explain_line(file, schema, remedies)):
        raise UserError(complaint)
    return _keep_digits(table, file) if _LOSES_DIGITS.search(source) else table


def _keep_digits(table: pl.DataFrame, file: Path) -> pl.DataFrame:
    """The table with numbers in columns of text as the file writes them: polars makes 3 of 3.0, and 100000 of 1e5."""
    rows = [line.value for line in parse_lines(file, parse_float=str, parse_int=str)]
    texts = [name for name, kind in table.schema.items() if kind in (pl.String, pl.List(pl.String))]
    return table.with_columns(pl.Series(name, [row.get(name) for row in rows], table.schema[name]) for name in texts)


def _may_be_json(column: pl.Series) -> bool:
    column = column.explode() if isinstance(column.dtype, pl.List) else column
    return column.dtype == pl.String and bool(column.str.contains(r"(?s)^(?:\{.*\}|\[.*\]|true|false)$").any())


def _explain_line(file: Path, schema: pl.Schema | dict[str, pl.DataType], remedies: Mapping[str, str]) -> str | None:
    for _, where, text, row in parse_lines(file, parse_constant=_Constant):
        if not isinstance(row, dict):
            return f"{where} is not a JSON object but {text.strip()[:40]!r}. Write one object a line, with the columns as keys."
        for name, kind in schema.items():
            if not _fits(row.get(name), kind):
                return f"{where}: {name} {row[name]!r} is not {_describe(kind)}. {remedies.get(name, 'Mend the value.')}"
    return None


class _Constant(str):
    """`NaN` or `Infinity`, which JSON does not have."""


def _fits(value: Any, kind: pl.DataType) -> bool:
    if value is None:
        return True
    if isinstance(kind, pl.List):
        return isinstance(value, list) and all(_fits(part, kind.inner) for part in value)
    if isinstance(value, (_Constant, bool)):
        return isinstance(value, bool) and kind == pl.Boolean
    return isinstance(value, _PYTHON[type(kind) if isinstance(kind, pl.DataType) else kind])


def _describe(kind: pl.DataType) -> str:
    if isinstance(kind, pl.List):
        return f"a list of which each item is {_describe(kind.inner)}"
    return _WORDS[type(kind) if isinstance(kind, pl.DataType) else kind]
