"""The contract of a multiple-choice question: columns, what a right one looks like, hash, choices in another order.

A question set is a folder of parquet files with a README whose `configs:` header names one config a domain, so that
`datasets.load_dataset(folder, domain)` reads it, locally and from the Hub. Here it is read straight into a table.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.vocabulary import KEY, SPLITS

MIN_CHOICES, MAX_CHOICES = 2, 10
MAY_LEAVE_OUT = 0.02  # the share of a bank up to which questions that cannot be asked are left out by name

QUESTION_SCHEMA = pl.Schema(
    {
        "id": pl.String,
        "source": pl.String,
        "domain": pl.String,
        "subject": pl.String,
        "question": pl.String,
        "choices": pl.List(pl.String),
        "answer": pl.Int64,
        "explanation": pl.String,
        "topics": pl.List(pl.String),
    }
)


def name_question(row: Mapping[str, Any]) -> str:
    """How messages name a question, by its key.

    >>> name_question({"source": "xiezhi", "domain": "history", "id": "7"})
    "xiezhi/history id '7'"
    """
    return f"{row['source']}/{row['domain']} id {row['id']!r}"


def read_header(card: str | Path) -> dict[str, Any]:
    """The YAML header of a card; empty where it has none.

    Raises:
        UserError: the card cannot be read, or its header is not YAML.
    """
    try:
        parts = Path(card).read_text(encoding="utf-8").split("---\n", 2)
        header = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0] else None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"the header of {card} cannot be read ({' '.join(str(error).split())}). Mend it.") from error
    return header if isinstance(header, dict) else {}


def read_configs(folder: str | Path) -> dict[str, dict[str, Path]]:
    """The configs of a data set folder: name -> split -> parquet file, from its README's `configs:` header.

    Raises:
        UserError: no folder, no README, no header, or a file that the header names is not there.
    """
    folder = Path(folder)
    card = folder / "README.md"
    if not card.is_file():
        raise UserError(
            f"{folder} is not a data set folder: {card} does not exist. `python -m intervention` writes such folders."
        )
    header = read_header(card)
    if not header.get("configs"):
        raise UserError(f"{card} has no `configs:` in its header. `python -m intervention` writes such folders.")
    configs = {
        config["config_name"]: {part["split"]: folder / part["path"] for part in config["data_files"]}
        for config in header["configs"]
    }
    for file in (file for config in configs.values() for file in config.values()):
        if not file.is_file():
            raise UserError(f"{card} names {file.relative_to(folder)}, which does not exist. Write the data set again.")
    return configs


def read_questions(folder: str | Path, domains: Sequence[str] = (), splits: Sequence[str] = SPLITS) -> pl.DataFrame:
    """Read a multiple-choice question set, checked: the question columns, then `split` and `question_hash`.

    Args:
        folder: the question set.
        domains: the configs to read; all where empty.
        splits: the splits to read; those that a domain lacks are left out.

    Raises:
        UserError: not a question set, or one of free-form questions, an unknown domain, no question at all, or a question that
            breaks the contract.
    """
    return read_set(folder, domains, splits, check_questions, hash_questions)


def read_set(
    folder: str | Path,
    domains: Sequence[str],
    splits: Sequence[str],
    check: Callable[[pl.DataFrame, Path], pl.DataFrame],
    write_hashes: Callable[[pl.DataFrame], pl.Series],
) -> pl.DataFrame:
    """Read a question set of one kind, multiple choice or free form.

    Args:
        folder: the question set.
        domains: the configs to read; all where empty.
        splits: the splits to read; those that a domain lacks are left out.
        check: gives the columns of the kind, of a table and the file that errors name.
        write_hashes: gives the `question_hash` of every row.

    Raises:
        UserError: as `read_questions`.
    """
    configs = read_configs(folder)
    if unknown := [domain for domain in domains if domain not in configs]:
        raise UserError(f"{folder} has no domain {unknown[0]!r}; it has {', '.join(sorted(configs))}.")
    tables = []
    for domain in domains or configs:
        for split in (s for s in splits if s in configs[domain]):
            file = configs[domain][split]
            table = check(pl.read_parquet(file), file)
            tables.append(table.with_columns(split=pl.lit(split)))
    if not tables or not (table := pl.concat(tables)).height:
        raise UserError(f"{folder} has no questions in {', '.join(splits)} of {', '.join(domains or configs)}.")
    check_unique(table, folder)
    return table.with_columns(write_hashes(table))


def check_questions(table: pl.DataFrame, where: str | Path, start: int = 0) -> pl.DataFrame:
    """The question columns of a table, in the contract's order and types.

    Args:
        table: questions.
        where: what an error names.
        start: how many rows of the file come before the table.

    Raises:
        UserError: a column is missing or of another type, or a row breaks the contract; names the first such row.
    """
    if "choices" not in table.columns and "answers" in table.columns:
        raise UserError(
            f"{where}: these are free-form questions: they have accepted `answers`, and no choices. Ask them with "
            "selfalign_answer_greedy or selfalign_answer; here, name a question set that has choices."
        )
    table = cast_columns(table, QUESTION_SCHEMA, where)
    n = pl.col("choices").list.len()
    blank = pl.col("choices").list.eval(pl.element().fill_null("").str.strip_chars() == "")
    rules = [
        *require_values("id", "source", "domain", "question", "choices", "answer"),
        (n < MIN_CHOICES, "choices", f"are fewer than {MIN_CHOICES}; drop the row or add choices"),
        (n > MAX_CHOICES, "choices", f"are more than {MAX_CHOICES}; drop the row or some wrong choices"),
        (
            blank.list.any(),
            "choices",
            "hold an empty one; write it or drop the row",
        ),
        ((pl.col("answer") < 0) | (pl.col("answer") >= n), "answer", "is not the 0-based index of a choice; mend it"),
    ]
    check_rules(table, rules, where, start)
    return table


def cast_columns(table: pl.DataFrame, schema: pl.Schema, where: str | Path) -> pl.DataFrame:
    """The columns of a kind of question, in its order and types; a `UserError` where one is missing or of another type."""
    if missing := [name for name in schema if name not in table.columns]:
        raise UserError(f"{where}: no column {missing[0]!r}. A question set has {', '.join(schema)}.")
    try:
        return table.select(pl.col(name).cast(kind) for name, kind in schema.items())
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{where}: a column is not of the contract's type. {error}") from error


Rule = tuple[pl.Expr, str, str]  # what is true of a bad row, the column that is bad, and the complaint


def require_values(*names: str) -> list[Rule]:
    """The rules that these columns are not null, and that the question is not blank."""
    blank = (pl.col("question").str.strip_chars() == "", "question", "is blank; write it or drop the row")
    return [*((pl.col(name).is_null(), name, "is missing; give it a value") for name in names), blank]


def check_rules(table: pl.DataFrame, rules: Sequence[Rule], where: str | Path, start: int = 0) -> None:
    """`check_rows` of several rules."""
    # All at once; only then, and only for the first that is broken, by which row.
    broken = table.select(rule.fill_null(False).any().alias(str(i)) for i, (rule, _, _) in enumerate(rules)).row(0)
    if True in broken:
        check_rows(table, *rules[broken.index(True)], where, start)


def check_rows(table: pl.DataFrame, rule: pl.Expr, name: str, complaint: str, where: str | Path, start: int = 0) -> None:
    """Raise a `UserError` naming file, row, id and value of the first row for which `rule` is true.

    `start`: how many rows of the file come before the table.
    """
    bad = table.with_row_index("_row", offset=start).filter(rule.fill_null(False)).head(1)
    if bad.height:
        row = bad.row(0, named=True)
        raise UserError(f"{where}, row {row['_row'] + 1} (id {row.get('id')!r}): {name} {row[name]!r} {complaint}.")


def check_unique(table: pl.DataFrame, where: str | Path, key: Iterable[str] = KEY) -> None:
    """Raise a `UserError` naming the first key that occurs twice."""
    key = list(key)
    if not may_repeat(table, key):
        return
    twice = table.filter(pl.struct(key).is_duplicated()).head(1)
    if twice.height:
        values = ", ".join(f"{name} {value!r}" for name, value in zip(key, twice.select(key).row(0), strict=True))
        raise UserError(
            f"{where}: {values} occurs more than once. Ids are unique within source and domain; drop or rename one."
        )


def may_repeat(table: pl.DataFrame, key: Sequence[str]) -> bool:
    """Whether two rows can have one key: false is certain, true is not. Much faster than a comparison of the keys."""
    prints = np.sort(table.select(pl.struct(list_varying(table, key)).hash()).to_series().to_numpy())
    return bool((prints[1:] == prints[:-1]).any())


def list_varying(table: pl.DataFrame, key: Sequence[str]) -> list[str]:
    """The columns of a key that have several values, and its last: they tell rows apart as all do, with less to compare."""
    return [name for name in key[:-1] if not table[name].eq_missing(table[name][:1]).all()] + [key[-1]]


def hash_questions(table: pl.DataFrame) -> pl.Series:
    """`question_hash`: 16 hexadecimal digits of the SHA-256 of question, choices (in the question's own order) and answer.

    >>> hash_questions(pl.DataFrame({"question": ["Which?"], "choices": [["this", "that"]], "answer": [1]})).to_list()
    ['3244b657bf3dd534']
    """
    # Each part is written with its length, so that no text can pass for the border between two.
    question, choices, answer = (
        write_with_length(pl.col("question")),
        pl.col("choices").list.eval(write_with_length(pl.element())).list.join(""),
        write_with_length(pl.col("answer").cast(pl.String)),
    )
    texts = table.select(pl.concat_str(question, choices, answer)).to_series()
    hashes = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts]
    return pl.Series("question_hash", hashes, dtype=pl.String)


def write_with_length(text: pl.Expr) -> pl.Expr:
    """A text as a hash reads it."""
    return pl.concat_str(text.str.len_chars(), pl.lit(":"), text)


def rotate_choices(table: pl.DataFrame, order: int | pl.Expr, columns: Sequence[str] = ("choices",)) -> pl.DataFrame:
    """Show list columns from choice `order` on: shown[i] = own[(i + order) mod n]; a negative order rotates back.

    >>> shown = rotate_choices(pl.DataFrame({"choices": [["one", "two", "three"]]}), 1)
    >>> shown["choices"].to_list(), rotate_choices(shown, -1)["choices"].to_list()
    ([['two', 'three', 'one']], [['one', 'two', 'three']])
    """
    n = pl.col("choices").list.len().cast(pl.Int64)
    start = (pl.lit(order) if isinstance(order, int) else order).cast(pl.Int64) % n
    rotated = [pl.concat_list(pl.col(c).list.slice(start), pl.col(c).list.slice(0, start)).alias(c) for c in columns]
    return table.with_columns(rotated)


def normalise(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A question's text and its choices, if it has any, without regard to case, white space, forms of characters, and the order
    of the choices.
    """
    question, *choices = (
        " ".join(unicodedata.normalize("NFKC", text).casefold().split()) for text in (row["question"], *row.get("choices", ()))
    )
    return ("text", question, *sorted(choices))
