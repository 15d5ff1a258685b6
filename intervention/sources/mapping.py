"""Files whose columns are mapped to those of the contract: choices in several forms, answers in several forms, ids made up."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from intervention.sources.answers import FORMS, convert_answers, find_text
from intervention.sources.layout import FILE_SCHEMA, Layout
from intervention.sources.tables import list_columns, read_table
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import LETTERS
from lm_eval_tasks.contracts.questions import MAX_CHOICES, MIN_CHOICES, check_rows

NO_IDS = "no column 'id', so a question's id is the file's name and the number of its row"
LISTS = ("choices", "answers", "topics")
REQUIRED = ("question", "choices", "answer")  # these are in the file; the others can be set for all, or made up


def read_mapped(kind: str, file: Path, layout: Layout) -> tuple[pl.DataFrame, list[str], list[str]]:
    """Read a file whose columns are mapped.

    Returns:
        The contract's columns and `split`; the columns that were passed over; what was inferred, a phrase each.

    Raises:
        UserError: it cannot be read, lacks a column, or its choices or answers are not of the form that is said.
    """
    named, notes = name_columns(kind, file, layout)
    raw, shared, unknown, more = read_columns(kind, file, layout, named, REQUIRED)
    notes += more
    table = raw.select(**shared, choices=join_choices(raw, named["choices"], layout.separator, file))
    few = pl.col("choices").list.len().fill_null(0) < MIN_CHOICES
    check_rows(table, few, "choices", f"are fewer than {MIN_CHOICES}; drop the row or add choices", file)
    answers, form, inferred = convert_answers(table, layout.answers, file)
    if inferred:
        notes.append(f"every answer is {FORMS[form]}, as --answers {form} would say")
    if form == "text" and (twice := int((find_text(table)["times"] > 1).sum())):
        notes.append(f"{twice} answers stand twice among their choices; the first is gold")
    return table.with_columns(answers), unknown, notes


def read_columns(
    kind: str, file: Path, layout: Layout, named: Mapping[str, Sequence[str]], required: Sequence[str]
) -> tuple[pl.DataFrame, dict[str, pl.Expr], list[str], list[str]]:
    """Read the columns of a file that are named for the contract's, and shape those that are one text, or topics.

    Args:
        kind: of file.
        file: the file.
        layout: how the file's columns become the contract's.
        named: the file's columns for each of the contract's.
        required: the contract's columns that the file has to have.

    Returns:
        The file's columns; an expression for each of the contract's that are one text, and for `topics`; the columns that were
        passed over; what was inferred, a phrase each.

    Raises:
        UserError: it cannot be read, lacks a column, or has lists where a text is expected.
    """
    wanted = {
        column: f"--column {name}={','.join(columns)}" if name in layout.columns else f"map one with --column {name}=COLUMN"
        for name, columns in named.items()
        if name in layout.columns or name in required
        for column in columns
    }
    raw, columns = read_table(kind, file, wanted, [name for names in named.values() for name in names])
    shaped, notes = {}, []
    for name in (name for name in named if name not in LISTS):
        column = named[name][0]
        if isinstance(raw.schema.get(column), pl.List):
            raise UserError(f"{file}: column {column!r} holds lists, but {name} is one text.")
        shaped[name] = pl.col(column) if column in raw.columns else pl.lit(None, pl.String)
    if named["id"][0] not in raw.columns:
        shaped["id"] = make_ids(file)
        notes.append(NO_IDS)
    used = {column for names in named.values() for column in names}
    shaped["topics"] = _list_topics(raw, named)
    return raw, shaped, [column for column in columns if column not in used], notes


def name_columns(kind: str, file: Path, layout: Layout) -> tuple[dict[str, Sequence[str]], list[str]]:
    """The file's columns for each of the contract's, and what was inferred.

    Where no column of choices is named and there is none, the columns A, B, C and so on are the choices.
    """
    named = {name: layout.columns.get(name, [name]) for name in FILE_SCHEMA}
    if "choices" in layout.columns:
        return named, []
    there = list_columns(kind, file)
    letters = [letter for letter in LETTERS[:MAX_CHOICES] if letter in there]
    if "choices" in there or len(letters) < MIN_CHOICES or letters != list(LETTERS[: len(letters)]):
        return named, []
    return named | {"choices": letters}, [f"the choices are the columns {', '.join(letters)}"]


def make_ids(file: Path) -> pl.Expr:
    """Ids of the questions of a file without any."""
    return pl.format("{}/{}", pl.lit(file.name.partition(".")[0]), pl.int_range(1, pl.len() + 1))


def join_choices(raw: pl.DataFrame, columns: Sequence[str], separator: str | None, file: Path) -> pl.Expr:
    """The choices of each row as a list: from one column of lists, one of text with a separator, or a column a choice.

    Of a column a choice, those at the end that have no value are no choices.
    """
    first = columns[0]
    is_list = isinstance(raw.schema[first], pl.List)
    if len(columns) > 1:
        if lists := [name for name in columns if isinstance(raw.schema[name], pl.List)]:
            raise UserError(f"{file}: column {lists[0]!r} holds lists; name it alone: --column choices={lists[0]}.")
        if separator is not None:
            raise UserError("--separator is for choices in one column, but --column choices names several. Leave out one.")
        used = pl.max_horizontal(pl.when(pl.col(name).is_not_null()).then(i).otherwise(0) for i, name in enumerate(columns, 1))
        return pl.concat_list(columns).list.head(used)
    if separator is None and not is_list:
        raise UserError(
            f"{file}: column {first!r} holds text, but choices are a list. Name a column a choice (--column choices=a,b,c,d), "
            r"or what stands between them (--separator '\n')."
        )
    if separator is not None and is_list:
        raise UserError(f"{file}: column {first!r} holds lists, so --separator does not fit. Leave it out.")
    return pl.col(first) if is_list else pl.col(first).str.split(separator)


def _list_topics(raw: pl.DataFrame, named: Mapping[str, Sequence[str]]) -> pl.Expr:
    column = named["topics"][0]
    if column not in raw.columns:
        return pl.lit(None, pl.List(pl.String))
    topics = pl.col(column)
    return topics if isinstance(raw.schema[column], pl.List) else pl.when(topics.is_not_null()).then(pl.concat_list(topics))
