"""Tables that one command writes and another is given: read back, and what is wrong with them said by the option's name."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import check_unique


def read_table(
    file: Path, schema: pl.Schema, option: str, noun: str, again: str, usual: Mapping[str, pl.Expr] | None = None
) -> pl.DataFrame:
    """Read a table of questions that a command wrote.

    Args:
        file: a parquet file.
        schema: its columns.
        option: that names the file, for errors.
        noun: what an error calls it: "a belief table".
        again: what to do where it is none: a sentence.
        usual: columns that an older version did not write, and what they say then.

    Raises:
        UserError: it cannot be read, lacks a column, has one of another type, holds no question, or one twice.
    """
    try:
        table = pl.read_parquet(file, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{option} {file} cannot be read ({' '.join(str(error).split())}). {again}") from error
    table = table.with_columns(**{name: value for name, value in (usual or {}).items() if name not in table.columns})
    if missing := [name for name in schema if name not in table.columns]:
        raise UserError(f"{option} {file} has no column {missing[0]!r}, so it is not {noun} of this version. {again}")
    try:
        table = table.select(pl.col(name).cast(kind) for name, kind in schema.items())
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{option} {file}: a column is not of the type that {noun} has ({error}). {again}") from error
    if not table.height:
        raise UserError(f"{option} {file} holds no question. {again}")
    check_unique(table, file)
    return table
