"""Questions of one's own: JSON lines, CSV or parquet, with a mapping of their columns to those of the contract."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from intervention.publishing.folders import check_config
from intervention.sources.answers import FORMS, convert_answers, find_text
from intervention.sources.jsonlines import read_jsonl
from intervention.sources.origin import Origin, find_all_terms, join_words
from intervention.sources.tables import find_kinds, read_table
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import MIN_CHOICES, QUESTION_SCHEMA, check_questions, check_rows, check_unique
from lm_eval_tasks.contracts.vocabulary import SPLITS

FILE_SCHEMA = pl.Schema(dict(QUESTION_SCHEMA) | {"split": pl.String})
REQUIRED = ("question", "choices", "answer")  # these are in the file; `source`, `domain` and `split` can be set for all
CONSTANT = ("source", "domain", "subject", "split")


@dataclass(frozen=True)
class Layout:
    """How the columns of a file become those of the contract."""

    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)  # the contract's -> the file's: several for choices
    constants: Mapping[str, str] = field(default_factory=dict)  # the contract's column -> its value in every row
    separator: str | None = None  # what stands between the choices where they are one text
    answers: str | None = None  # a key of `FORMS`; inferred where None

    @property
    def plain(self) -> bool:
        """Whether the file has the contract's own columns and forms."""
        return not self.columns and self.separator is None and self.answers is None


def make_layout(
    columns: Sequence[str] = (),
    constants: Sequence[str] = (),
    split: str | None = None,
    separator: str | None = None,
    answers: str | None = None,
) -> Layout:
    r"""A layout from the words of the command line.

    Args:
        columns: `question=stem`, `choices=opa,opb,opc,opd`.
        constants: `domain=herbs`.
        split: the split of every question.
        separator: what stands between the choices; `\n` and `\t` are a line break and a tab.
        answers: a key of `FORMS`.

    Raises:
        UserError: a word that is no `name=value`, a name that the contract has not, or one that is named twice.
    """
    mapped = {name: value.split(",") for name, value in _split_words("--column", columns, list(FILE_SCHEMA)).items()}
    if several := [name for name, value in mapped.items() if name != "choices" and len(value) > 1]:
        raise UserError(f"--column {several[0]}={','.join(mapped[several[0]])}: only choices can come from several columns.")
    named = _split_words("--set", constants, CONSTANT)
    if split is not None:
        named |= {"split": split}
    if both := sorted(mapped.keys() & named.keys()):
        raise UserError(f"{both[0]!r} is mapped to a column and set to a value. Leave out one of them.")
    if named.get("split", SPLITS[0]) not in SPLITS:
        raise UserError(f"--split {named['split']} is none of {', '.join(SPLITS)}.")
    if separator is not None:
        separator = separator.replace("\\n", "\n").replace("\\t", "\t")
        if not separator:
            raise UserError(r"--separator is empty. Name what stands between the choices, such as '\n' or ' | '.")
    return Layout(mapped, named, separator, answers)


def _split_words(option: str, words: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not value or name not in names:
            raise UserError(f"{option} {word}: write NAME=VALUE, with one of the names {', '.join(names)}.")
        if name in found:
            raise UserError(f"{option} names {name!r} twice. Leave out one of them.")
        found[name] = value
    return found


def read_own(
    kind: str, files: Sequence[str | Path], layout: Layout | None = None, licence: str | None = None
) -> tuple[pl.DataFrame, Origin]:
    """Read questions of one's own: the question columns and `split`, checked, and their origin.

    Args:
        kind: `jsonl`, `csv` or `parquet`.
        files: the files; `train=FILE` is a file of train questions.
        layout: how their columns become the contract's; JSON lines of the contract's own columns need none.
        licence: what the questions are under.

    Raises:
        UserError: a file that cannot be read, a question that breaks the contract, an id that occurs twice, no split.
    """
    layout = layout or Layout()
    tables, notes = [], []
    for name in files:
        file, constants = find_file(name, layout.constants)
        if kind == "jsonl" and layout.plain:
            table = read_jsonl(file, FILE_SCHEMA)
            unknown, more = [column for column in find_kinds(file) if column not in FILE_SCHEMA], []
        else:
            table, unknown, more = read_mapped(kind, file, layout)
        more += [f"columns passed over: {join_words(unknown)}"] if unknown else []
        notes += [f"{file.name}: {note}." for note in more]
        tables.append(complete(table, constants, file))
    table = pl.concat(tables)
    check_unique(table, ", ".join(map(str, files)))
    config = {"kind": kind, "columns": dict(layout.columns), "constants": dict(layout.constants)}
    config |= {"separator": layout.separator, "answers": layout.answers}
    return table, Origin(find_all_terms(table, licence), notes, config=config)


def find_file(name: str | Path, constants: Mapping[str, str]) -> tuple[Path, Mapping[str, str]]:
    """The file that a word of the command line names, and the constants of its rows: `train=FILE` sets the split.

    Raises:
        UserError: a split is named for the file and another one for all.
    """
    split, equals, rest = str(name).partition("=")
    if not equals or split not in SPLITS:
        return Path(name), constants
    if constants.get("split", split) != split:
        raise UserError(f"{name} differs from --split {constants['split']}. Leave out one of them.")
    return Path(rest), {**constants, "split": split}


def complete(table: pl.DataFrame, constants: Mapping[str, str], file: Path) -> pl.DataFrame:
    """The question columns and `split` of one file, with what is set for all rows, checked."""
    table = table.with_columns(pl.col("topics").fill_null([]))
    for name, value in constants.items():
        option = f"--split {value}" if name == "split" else f"--set {name}={value}"
        remedy = f"differs from {option}; leave out one of them"
        check_rows(table, pl.col(name) != value, name, remedy, file)
        table = table.with_columns(pl.lit(value).alias(name))
    for name in ("source", "domain"):
        check_rows(table, pl.col(name).is_null(), name, f"is missing; add the column, or name --set {name}=VALUE", file)
    check_rows(table, pl.col("split").is_null(), "split", "is missing; add the column, or name --split", file)
    check_rows(table, ~pl.col("split").is_in(SPLITS), "split", f"is none of {', '.join(SPLITS)}; mend it", file)
    complete = check_questions(table, file).with_columns(table["split"])
    for domain in complete["domain"].unique().sort():
        check_config(domain, file)
    return complete


def read_mapped(kind: str, file: Path, layout: Layout) -> tuple[pl.DataFrame, list[str], list[str]]:
    """Read a file whose columns are mapped.

    Returns:
        The contract's columns and `split`; the columns that were passed over; what was inferred, a phrase each.

    Raises:
        UserError: it cannot be read, lacks a column, or its choices or answers are not of the form that is said.
    """
    named = {name: layout.columns.get(name, [name]) for name in FILE_SCHEMA}
    wanted = {
        column: f"--column {name}={','.join(columns)}" if name in layout.columns else f"map one with --column {name}=COLUMN"
        for name, columns in named.items()
        if name in layout.columns or name in REQUIRED
        for column in columns
    }
    raw, columns = read_table(kind, file, wanted, [name for names in named.values() for name in names])
    notes = []
    texts = {}
    for name in ("id", "source", "domain", "subject", "question", "answer", "explanation", "split"):
        column = named[name][0]
        if isinstance(raw.schema.get(column), pl.List):
            raise UserError(f"{file}: column {column!r} holds lists, but {name} is one text.")
        texts[name] = pl.col(column) if column in raw.columns else pl.lit(None, pl.String)
    if named["id"][0] not in raw.columns:
        texts["id"] = pl.format("{}/{}", pl.lit(file.name.partition(".")[0]), pl.int_range(1, pl.len() + 1))
        notes.append("no column 'id', so a question's id is the file's name and the number of its row")
    table = raw.select(
        **texts, choices=join_choices(raw, named["choices"], layout.separator, file), topics=_list_topics(raw, named)
    )
    few = pl.col("choices").list.len().fill_null(0) < MIN_CHOICES
    check_rows(table, few, "choices", f"are fewer than {MIN_CHOICES}; drop the row or add choices", file)
    answers, form, inferred = convert_answers(table, layout.answers, file)
    if inferred:
        notes.append(f"every answer is {FORMS[form]}, as --answers {form} would say")
    if form == "text" and (twice := int((find_text(table)["times"] > 1).sum())):
        notes.append(f"{twice} answers stand twice among their choices; the first is gold")
    used = {column for names in named.values() for column in names}
    return table.with_columns(answers), [column for column in columns if column not in used], notes


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
