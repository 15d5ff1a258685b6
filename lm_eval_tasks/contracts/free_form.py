"""The contract of a free-form question: accepted texts in place of choices. Its folder is that of any question set."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import (
    QUESTION_SCHEMA,
    cast_columns,
    check_questions,
    check_rules,
    hash_questions,
    read_configs,
    read_set,
    require_values,
    write_with_length,
)
from lm_eval_tasks.contracts.vocabulary import SPLITS

FREE_FORM_SCHEMA = pl.Schema(
    {
        "id": pl.String,
        "source": pl.String,
        "domain": pl.String,
        "subject": pl.String,
        "question": pl.String,
        "answers": pl.List(pl.String),  # every text that is accepted; the first is the one that is trained on
        "explanation": pl.String,
        "topics": pl.List(pl.String),
    }
)


def read_free_form(folder: str | Path, domains: Sequence[str] = (), splits: Sequence[str] = SPLITS) -> pl.DataFrame:
    """Read a free-form question set, checked: its columns, then `split` and `question_hash`.

    Args:
        folder: the question set.
        domains: the configs to read; all where empty.
        splits: the splits to read; those that a domain lacks are left out.

    Raises:
        UserError: not a question set, or one of multiple-choice questions, an unknown domain, no question at all, or a question
            that breaks the contract.
    """
    return read_set(folder, domains, splits, check_free_form, hash_free_form)


def has_answers(columns: Sequence[str] | pl.Schema) -> bool:
    """Whether columns are those of free-form questions.

    >>> has_answers(FREE_FORM_SCHEMA), has_answers(QUESTION_SCHEMA)
    (True, False)
    """
    return "answers" in columns and "choices" not in columns


def check_free_form(table: pl.DataFrame, where: str | Path, start: int = 0) -> pl.DataFrame:
    """The columns of free-form questions, in the contract's order and types.

    Args:
        table: questions.
        where: what an error names.
        start: how many rows of the file come before the table.

    Raises:
        UserError: the questions are multiple-choice ones, a column is missing or of another type, or a row breaks the contract;
            names the first such row.
    """
    if "choices" in table.columns and "answers" not in table.columns:
        raise UserError(
            f"{where}: these are multiple-choice questions: they have choices, and no accepted `answers`. Ask them with "
            "selfalign_probe or selfalign_probe_cloze; here, name a set of free-form questions."
        )
    table = cast_columns(table, FREE_FORM_SCHEMA, where)
    # A text of signs alone is compared as it is; nothing is left only of white space and of what is not seen.
    blank = pl.element().fill_null("").str.normalize("NFKC").str.replace_all(r"[\s\p{C}]+", "") == ""
    rules = [
        *require_values("id", "source", "domain", "question", "answers"),
        (pl.col("answers").list.len() == 0, "answers", "is empty; write an accepted text or drop the row"),
        (pl.col("answers").list.eval(blank).list.any(), "answers", "hold a blank one; write it, or leave it out"),
    ]
    check_rules(table, rules, where, start)
    return table


def hash_free_form(table: pl.DataFrame) -> pl.Series:
    """`question_hash`: 16 hexadecimal digits of the SHA-256 of question and accepted answers, in their order.

    >>> hash_free_form(pl.DataFrame({"question": ["Where?"], "answers": [["Rome", "Roma"]]})).to_list()
    ['3f5338ab52c3be4d']
    """
    question = write_with_length(pl.col("question"))
    answers = pl.col("answers").list.eval(write_with_length(pl.element())).list.join("")
    texts = table.select(pl.concat_str(pl.lit("free form "), question, answers)).to_series()
    hashes = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts]
    return pl.Series("question_hash", hashes, dtype=pl.String)


@dataclass(frozen=True)
class Kind:
    """What differs between the two kinds of questions."""

    name: str
    schema: pl.Schema
    check: Callable[..., pl.DataFrame]  # of a table, the file that errors name, and how many of its rows come before
    hash: Callable[[pl.DataFrame], pl.Series]

    def read(self, folder: str | Path, domains: Sequence[str] = (), splits: Sequence[str] = SPLITS) -> pl.DataFrame:
        """Read a question set of this kind, checked (see `questions.read_questions`)."""
        return read_set(folder, domains, splits, self.check, self.hash)


MULTIPLE_CHOICE = Kind("multiple choice", QUESTION_SCHEMA, check_questions, hash_questions)
FREE_FORM = Kind("free form", FREE_FORM_SCHEMA, check_free_form, hash_free_form)


def find_kind(columns: Sequence[str] | pl.Schema) -> Kind:
    """The kind of questions with these columns.

    >>> find_kind(["id", "question", "answers"]).name
    'free form'
    """
    return FREE_FORM if has_answers(columns) else MULTIPLE_CHOICE


def find_set_kind(folder: str | Path) -> Kind:
    """The kind of a question set, by the columns of its first file.

    Raises:
        UserError: not a question set.
    """
    file = next(file for config in read_configs(folder).values() for file in config.values())
    return find_kind(pl.read_parquet_schema(file))
