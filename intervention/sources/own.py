"""Questions of one's own: JSON lines, CSV or parquet, with a mapping of their columns to those of the contract."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from intervention.publishing.folders import check_config
from intervention.sources.answers import check_index
from intervention.sources.free_form import holds_free_form, read_free_form_file
from intervention.sources.jsonlines import read_jsonl
from intervention.sources.layout import FILE_SCHEMA, Layout
from intervention.sources.mapping import NO_IDS, REQUIRED, make_ids, read_mapped
from intervention.sources.origin import Origin, find_all_terms, join_words
from intervention.sources.splits import DEFAULT, Splits, split_questions
from intervention.sources.tables import find_kinds, holds_text
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.free_form import find_kind
from lm_eval_tasks.contracts.questions import MAX_CHOICES, MAY_LEAVE_OUT, check_rows, check_unique
from lm_eval_tasks.contracts.vocabulary import SPLITS

HOW_TO_ANSWER = "Mend the value, or say how answers are written: --answers index, number, letter or text."
_SPLIT_NAME = re.compile(r"(?:^|[-_ .])(?:train|training|dev|test|testing|val|valid|validation)$", re.IGNORECASE)


def read_own(
    kind: str,
    files: Sequence[str | Path],
    layout: Layout | None = None,
    licence: str | None = None,
    splits: Splits | None = None,
    seed: int = 0,
    strict: bool = False,
) -> tuple[pl.DataFrame, Origin]:
    """Read questions of one's own, multiple-choice or free-form: their columns and `split`, checked, and their origin.

    Args:
        kind: `jsonl`, `csv` or `parquet`.
        files: the files; `train=FILE` is a file of train questions.
        layout: how their columns become the contract's; JSON lines of the contract's own columns need none.
        licence: what the questions are under.
        splits: into what they are divided; `DEFAULT` where None and no question names its split.
        seed: decides which question comes into which split.
        strict: no question is left out for having too many choices; the first is an error.

    Raises:
        UserError: a file that cannot be read, a question that breaks the contract, an id that occurs twice, splits that are
            named twice or for some files only, files of both kinds of questions.
    """
    layout = layout or Layout()
    tables, notes, defaulted, too_long = [], [], {}, 0
    for name in files:
        file, constants = find_file(name, layout.constants)
        table, unknown, more = read_file(kind, file, layout)
        more += [f"columns passed over: {join_words(unknown)}"] if unknown else []
        table, long = (table, []) if strict else leave_out_long(table)
        more += [f"left out, with more than {MAX_CHOICES} choices: {join_words(long)}"] if long else []
        too_long += len(long)
        named = name_bank(file)
        unnamed = [column for column in ("source", "domain") if column not in constants and not table[column].count()]
        if unnamed:
            more.append(f"{' and '.join(unnamed)}: {named!r}, after the file; --set {unnamed[0]}=NAME says otherwise")
        notes += [f"{file.name}: {note}." for note in more]
        tables.append(complete(table, constants, dict.fromkeys(unnamed, named), file))
        if "domain" in unnamed and constants != layout.constants:
            defaulted[str(name)] = named
    where = ", ".join(map(str, files))
    check_domains(defaulted)
    check_kinds(files, tables)
    table = pl.concat(tables)
    check_unique(table, where)
    table, said, dropped = divide(table, tables, files, splits, seed)
    dropped |= {f"with more than {MAX_CHOICES} choices": too_long} if too_long else {}
    config = {"kind": kind, "columns": dict(layout.columns), "constants": dict(layout.constants)}
    config |= {"separator": layout.separator, "answers": layout.answers}
    if said:
        config["splits"] = dict(splits or DEFAULT)
    origin = Origin(
        find_all_terms(table, licence), notes + said, dropped, config=config, seeds={"splits": seed} if said else {}
    )
    return table, origin


def read_file(kind: str, file: Path, layout: Layout) -> tuple[pl.DataFrame, list[str], list[str]]:
    """One file: the contract's columns and `split`; the columns that were passed over; what was inferred, a phrase each."""
    if holds_free_form(kind, file, layout):
        return read_free_form_file(kind, file, layout)
    keys = find_kinds(file) if kind == "jsonl" and layout.plain and file.is_file() else {}
    if not keys.keys() >= set(REQUIRED) or holds_text(file, "answer"):
        return read_mapped(kind, file, layout)
    table = read_jsonl(file, FILE_SCHEMA, {"answer": HOW_TO_ANSWER})
    notes = []
    if not table["id"].count():
        table, notes = table.with_columns(id=make_ids(file)), [NO_IDS]
    check_index(table, file)
    return table, [column for column in keys if column not in FILE_SCHEMA], notes


def leave_out_long(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """The questions that can be asked, and the ids of those with too many choices where these are few; many are an error."""
    if "choices" not in table.columns:
        return table, []
    long = table.filter(pl.col("choices").list.len() > MAX_CHOICES)
    if not 0 < long.height <= MAY_LEAVE_OUT * table.height:
        return table, []
    return table.filter((pl.col("choices").list.len() <= MAX_CHOICES).fill_null(True)), long["id"].fill_null("?").to_list()


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


def name_bank(file: Path) -> str:
    """The name of a bank after its file: without endings and the name of a split; its folder's where nothing else is left.

    >>> name_bank(Path("mine/herbs_train.csv.gz")), name_bank(Path("mine/test.csv"))
    ('herbs', 'mine')
    """
    return _SPLIT_NAME.sub("", file.name.partition(".")[0]) or file.resolve().parent.name


def complete(table: pl.DataFrame, constants: Mapping[str, str], defaults: Mapping[str, str], file: Path) -> pl.DataFrame:
    """The question columns and `split` of one file, with what is set for all rows, checked; `split` null where none has one.

    Args:
        table: the columns, as the file has them.
        constants: what the user set for all rows.
        defaults: what is set for all rows because neither the file nor the user says it.
        file: for errors.
    """
    table = table.with_columns(pl.col("topics").fill_null([]), **{name: pl.lit(value) for name, value in defaults.items()})
    for name, value in constants.items():
        option = f"--split {value}" if name == "split" else f"--set {name}={value}"
        remedy = f"differs from {option}; leave out one of them"
        check_rows(table, pl.col(name) != value, name, remedy, file)
        table = table.with_columns(pl.lit(value).alias(name))
    for name in ("source", "domain"):
        check_rows(table, pl.col(name).is_null(), name, f"is missing; write it, or name --set {name}=VALUE for all", file)
    if table["split"].count():
        remedy = "is missing, though other rows name one; write it, or take the column out to have all of them divided"
        check_rows(table, pl.col("split").is_null(), "split", remedy, file)
    check_rows(table, ~pl.col("split").is_in(SPLITS), "split", f"is none of {', '.join(SPLITS)}; mend it", file)
    complete = find_kind(table.columns).check(table, file).with_columns(table["split"])
    for domain in complete["domain"].unique().sort():
        check_config(domain, file)
    return complete


def check_domains(domains: Mapping[str, str]) -> None:
    """Raise a `UserError` where files of splits of one bank (`train=a.csv test=b.csv`) would be domains of their own.

    Args:
        domains: a word of the command line that names a file and its split -> the domain that it has after its file's name.
    """
    if len(set(domains.values())) > 1:
        named = " and ".join(f"{word} has the domain {domain!r}" for word, domain in domains.items())
        raise UserError(f"{named} (after their files): they hold splits, so name one domain for all: --set domain=NAME.")


def check_kinds(files: Sequence[str | Path], tables: Sequence[pl.DataFrame]) -> None:
    """Raise a `UserError` where one file has multiple-choice questions and another free-form ones."""
    kinds = [find_kind(table.columns).name for table in tables]
    if len(set(kinds)) > 1:
        other = next(i for i, kind in enumerate(kinds) if kind != kinds[0])
        raise UserError(
            f"the questions of {files[0]} are {kinds[0]}, those of {files[other]} {kinds[other]}. Write a question set of each."
        )


def divide(
    table: pl.DataFrame, tables: Sequence[pl.DataFrame], files: Sequence[str | Path], splits: Splits | None, seed: int
) -> tuple[pl.DataFrame, list[str], dict[str, int]]:
    """The questions with their splits: those that they name, or else `splits`; what is to be said, and what is left out.

    Raises:
        UserError: some files name splits and others do not, or all do and `splits` are wanted.
    """
    named = [bool(part["split"].count()) for part in tables]
    if any(named):
        if not all(named):
            raise UserError(
                f"{files[named.index(False)]} names no split, but {files[named.index(True)]} does. Name one for it, as in "
                f"test={files[named.index(False)]}, or name none."
            )
        if splits:
            raise UserError(f"--splits divides questions, but those of {files[0]} name their split. Leave out one of them.")
        return table, [], {}
    found, note = split_questions(table, splits or DEFAULT, seed, adapt=not splits)
    said = (
        note if splits else f"{note} No question names its split, so this is the default; --splits or --split says otherwise."
    )
    table = table.with_columns(found)
    left_out = int(found.null_count())
    return table.filter(pl.col("split").is_not_null()), [said], {"in none of --splits": left_out} if left_out else {}
