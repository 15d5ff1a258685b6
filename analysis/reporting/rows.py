"""A table that a command writes beside what it prints, as parquet or CSV."""

from pathlib import Path

import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import write_file, write_parquet

FORMATS = (".parquet", ".csv")


def check_format(option: str, file: Path | None) -> None:
    """Raise a `UserError` where an option names a file of another format."""
    if file and file.suffix not in FORMATS:
        raise UserError(f"{option} {file}: name a file that ends in {' or '.join(FORMATS)}.")


def write_rows(table: pl.DataFrame, file: Path) -> None:
    """Write a table; in CSV lists are JSON.

    Raises:
        UserError: the file cannot be written.
    """
    with write_file(file) as scratch:
        if file.suffix == ".parquet":
            write_parquet(table, scratch)
        else:
            lists = [name for name, kind in table.schema.items() if isinstance(kind, pl.List)]
            scratch.write_text(table.with_columns(write_json(name) for name in lists).write_csv())


def write_json(name: str) -> pl.Expr:
    """A column as JSON."""
    return pl.struct(name).struct.json_encode().str.strip_prefix(f'{{"{name}":').str.head(-1).alias(name)
