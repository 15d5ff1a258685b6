"""Read a table of one's own: JSON lines, CSV or parquet; what is wrong with it is said with the file's name."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from intervention.sources.jsonlines import read_jsonl
from intervention.sources.origin import join_words
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.lines import iterate_lines

KINDS = {"jsonl": "JSON lines (.jsonl or .jsonl.gz)", "csv": "a CSV file (.csv, .csv.gz, or .tsv)", "parquet": "a parquet file"}
HEAD = 1000  # lines of a JSON lines file whose keys are taken for its columns
Wanted = Mapping[str, str]  # a column -> the option that names it


def read_table(kind: str, file: Path, wanted: Wanted, optional: Collection[str] = ()) -> tuple[pl.DataFrame, list[str]]:
    """Read columns of a file: text, or lists of text; numbers become text.

    Args:
        kind: `jsonl`, `csv` or `parquet`.
        file: the file.
        wanted: the columns, and the option that names each, for the error where it is missing.
        optional: further columns, left out where they are missing.

    Returns:
        The columns that are there, and the names of all columns of the file (of JSON lines: of its first lines).

    Raises:
        UserError: the file cannot be read, is empty, lacks a column that is wanted, or has one that is not text.
    """
    if not file.is_file():
        raise UserError(f"{file} is not a file. Name {KINDS[kind]}.")
    if kind == "jsonl":
        kinds = find_kinds(file) or dict.fromkeys(
            wanted, pl.String()
        )  # of a file without a line `read_jsonl` says what is wrong
        names = choose_columns(list(kinds), wanted, optional, file)
        return read_jsonl(file, {name: kinds[name] for name in names}), list(kinds)
    try:
        if kind == "csv":
            table = pl.read_csv(file, infer_schema=False, separator=find_separator(file))
        else:
            table = pl.read_parquet(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{file} cannot be read as {KINDS[kind]}: {reason}") from error
    names = choose_columns(table.columns, wanted, optional, file)
    if not table.height:
        raise UserError(f"{file} is empty. Name a file that holds at least one row.")
    return pl.DataFrame([_write_text(table[name], file) for name in names]), table.columns


def list_columns(kind: str, file: Path) -> list[str]:
    """The columns of a file; none where it cannot be read, which `read_table` says."""
    try:
        if kind == "jsonl":
            return list(find_kinds(file)) if file.is_file() else []
        if kind == "csv":
            return pl.read_csv(file, infer_schema=False, n_rows=0, separator=find_separator(file)).columns
        return list(pl.read_parquet_schema(file))
    except (pl.exceptions.PolarsError, OSError):
        return []


def find_separator(file: Path) -> str:
    """What stands between the columns of a CSV file, by its name."""
    return "\t" if ".tsv" in file.suffixes else ","


def holds_text(file: Path, name: str) -> bool:
    """Whether the first value of a key of JSON lines is text."""
    values = (_parse(line).get(name) for _, line in zip(range(HEAD), iterate_lines(file)))
    return isinstance(next((value for value in values if value is not None), None), str)


def choose_columns(columns: Sequence[str], wanted: Wanted, optional: Collection[str], file: Path) -> list[str]:
    """Those of a file's columns that are wanted, and those of the optional ones that are there."""
    if missing := [name for name in wanted if name not in columns]:
        raise UserError(f"{file} has no column {missing[0]!r} ({wanted[missing[0]]}); it has {join_words(columns, 30)}.")
    return [name for name in dict.fromkeys([*wanted, *optional]) if name in columns]


def _write_text(column: pl.Series, file: Path) -> pl.Series:
    nested = isinstance(column.dtype, (pl.List, pl.Array))
    inner = column.dtype.inner if nested else column.dtype
    try:
        if inner.is_nested():
            raise pl.exceptions.SchemaError(inner)
        return column.cast(pl.List(pl.String) if nested else pl.String)
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{file}: column {column.name!r} ({column.dtype}) is neither text nor a list of texts.") from error


def find_kinds(file: Path) -> dict[str, pl.DataType]:
    """The keys of the first lines of a JSON lines file, each text or a list of texts."""
    kinds: dict[str, pl.DataType] = {}
    for _, line in zip(range(HEAD), iterate_lines(file)):
        for name, value in _parse(line).items():
            if value is not None or name not in kinds:
                kinds[name] = pl.List(pl.String()) if isinstance(value, list) else pl.String()
    return kinds


def _parse(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:  # `read_jsonl` says what is wrong with it
        return {}
    return row if isinstance(row, dict) else {}
