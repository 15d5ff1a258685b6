"""Free-form questions of one's own: which files hold them, and their accepted answers in several forms."""

import json
from pathlib import Path

import polars as pl

from intervention.sources.layout import FREE_FILE_SCHEMA, Layout
from intervention.sources.mapping import name_columns, read_columns
from intervention.sources.tables import list_columns
from lm_eval_tasks.contracts.answers import merge_answers
from lm_eval_tasks.contracts.errors import UserError

REQUIRED = ("question", "answers")


def holds_free_form(kind: str, file: Path, layout: Layout) -> bool:
    """Whether a file's questions are free-form: it has accepted answers, or they are mapped, and no choices."""
    if "answers" in layout.columns:
        return True
    columns = list_columns(kind, file)
    if "answers" not in columns or "choices" in layout.columns:
        return False
    named, _ = name_columns(kind, file, layout)
    return not set(named["choices"]) & set(columns)


def read_free_form_file(kind: str, file: Path, layout: Layout) -> tuple[pl.DataFrame, list[str], list[str]]:
    """Read a file of free-form questions.

    Returns:
        The contract's columns and `split`; the columns that were passed over; what was inferred, a phrase each.

    Raises:
        UserError: it cannot be read, lacks a column, or its answers are not of the form that is said.
    """
    if layout.answers:
        raise UserError(
            f"--answers {layout.answers} says how the right one of several choices is written, but the questions of {file} "
            "have no choices. Leave it out."
        )
    named = {name: layout.columns.get(name, [name]) for name in FREE_FILE_SCHEMA}
    raw, shared, unknown, notes = read_columns(kind, file, layout, named, REQUIRED)
    answers, told = list_answers(raw[named["answers"][0]], layout.separator, file)
    table = raw.select(**shared).with_columns(answers.alias("answers")).select(list(FREE_FILE_SCHEMA))
    table, merged = merge_all(table)
    return table, unknown, notes + told + merged


def list_answers(column: pl.Series, separator: str | None, file: Path) -> tuple[pl.Series, list[str]]:
    """The accepted answers of each row, and what was inferred: from lists, texts with a separator, JSON lists, or a text each.

    Raises:
        UserError: a separator is named where the column holds lists.
    """
    if isinstance(column.dtype, pl.List):
        if separator is not None:
            raise UserError(f"{file}: column {column.name!r} holds lists, so --separator does not fit. Leave it out.")
        return column, []
    if separator is not None:
        return column.str.split(separator), []
    lists = [read_json_list(text) for text in column.drop_nulls()]
    if lists and all(part is not None for part in lists):
        found = iter(lists)
        parts = [None if text is None else next(found) for text in column]
        return pl.Series(column.name, parts, pl.List(pl.String)), [f"every text of {column.name!r} is a JSON list of answers"]
    told = [f"each text of {column.name!r} is one accepted answer; --separator says what stands between several"]
    return pl.select(pl.when(column.is_not_null()).then(pl.concat_list(column))).to_series(), told


def read_json_list(text: str) -> list[str] | None:
    """The texts (numbers count as such) of a JSON list; None of anything else.

    >>> read_json_list('["Rome", 1776]'), read_json_list("Rome")
    (['Rome', '1776'], None)
    """
    try:
        parts = json.loads(text, parse_float=str, parse_int=str)
    except ValueError:
        return None
    return parts if isinstance(parts, list) and all(isinstance(part, str) for part in parts) else None


def merge_all(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """The questions with answers that differ: those that say the same as one before them, or nothing, are left out and told."""
    merged = [None if answers is None else merge_answers(answers) for answers in table["answers"].to_list()]
    shorter = table.with_columns(pl.Series("answers", merged, pl.List(pl.String)))
    gone = int(table["answers"].list.len().sum() or 0) - int(shorter["answers"].list.len().sum() or 0)
    # What is empty after it was not before: its row is named with what stands in the file.
    kept = pl.when(pl.col("answers").list.len() > 0).then("answers").otherwise(table["answers"])
    told = f"answers that say the same as another of their question, or nothing: {gone:,}"
    return shorter.with_columns(kept), [told] if gone else []
