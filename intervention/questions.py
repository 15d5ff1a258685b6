"""From the questions of a source to a question set."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from intervention.folders import check_config, format_table, hash_inputs, write_dataset
from intervention.jsonlines import read_jsonl
from lm_eval_tasks.manifest import UserError, write_folder, write_manifest
from lm_eval_tasks.prompts import LETTERS
from lm_eval_tasks.questions import QUESTION_SCHEMA, SPLITS, check_questions, check_rows, check_unique

FILE_SCHEMA = pl.Schema(dict(QUESTION_SCHEMA) | {"split": pl.String})


def read_source(files: Sequence[str | Path], split: str | None = None) -> pl.DataFrame:
    """Read JSON lines of questions: the question columns and `split`, checked.

    Args:
        files: JSON lines, plain or gzip. `subject`, `explanation` and `topics` may be missing.
        split: the split of every question; where None, the files have a column `split`.

    Raises:
        UserError: a line that cannot be read, a question that breaks the contract, an id that occurs twice, no split.
    """
    if split is not None and split not in SPLITS:
        raise UserError(f"--split {split} is none of {', '.join(SPLITS)}.")
    tables = []
    for file in files:
        table = read_jsonl(file, FILE_SCHEMA).with_columns(pl.col("topics").fill_null([]))
        remedy = f"differs from --split {split}; leave out one of them"
        check_rows(table, pl.col("split") != (split or pl.col("split")), "split", remedy, file)
        table = table.with_columns(pl.col("split").fill_null(pl.lit(split, dtype=pl.String)))
        check_rows(table, pl.col("split").is_null(), "split", "is missing; add the column, or name --split", file)
        check_rows(table, ~pl.col("split").is_in(SPLITS), "split", f"is none of {', '.join(SPLITS)}; mend it", file)
        tables.append(check_questions(table, file).with_columns(table["split"]))
        for domain in tables[-1]["domain"].unique().sort():
            check_config(domain, file)
    table = pl.concat(tables)
    check_unique(table, ", ".join(map(str, files)))
    return table


def write_questions(table: pl.DataFrame, output: str | Path, command: list[str], inputs: Mapping[str, str]) -> pl.DataFrame:
    """Write a question set (one config a domain, one file a split), its card and its manifest.

    Args:
        table: the question columns and `split`.
        output: the folder.
        command: the command line, for the manifest.
        inputs: a name for each input, and its hash.

    Returns:
        The counts that the card shows.

    Raises:
        UserError: the folder cannot be written.
    """
    configs = {
        domain: {split: part for split in SPLITS if (part := _take(table, domain, split)).height}
        for domain in table["domain"].unique().sort()
    }
    counts = count_questions(table)
    with write_folder(output) as folder:
        write_dataset(
            folder, configs, "questions.md.j2", counts=format_table(counts), inputs=inputs, domain=next(iter(configs))
        )
        config = {"domains": list(configs), "questions": table.height}
        write_manifest(folder, "questions", command, config, inputs, {})
    return counts


def _take(table: pl.DataFrame, domain: str, split: str) -> pl.DataFrame:
    return table.filter(pl.col("domain") == domain, pl.col("split") == split).select(list(QUESTION_SCHEMA))


def count_questions(table: pl.DataFrame) -> pl.DataFrame:
    """Questions by domain, source and split, and the share of each letter among their gold answers."""
    place = pl.col("split").replace_strict({split: i for i, split in enumerate(SPLITS)}, return_dtype=pl.Int64)
    return (
        table.group_by("domain", "source", "split")
        .agg(pl.len().alias("questions"), *share_letters(table, "answer", "gold"))
        .sort("domain", "source", place)
    )


def share_letters(table: pl.DataFrame, column: str, name: str) -> list[pl.Expr]:
    """An expression a letter: the share of rows whose `column` is that choice."""
    widest = table["choices"].list.len().max() or 0
    return [(pl.col(column) == i).mean().alias(f"{name} {LETTERS[i]}") for i in range(widest)]


def convert_jsonl(
    files: Sequence[str | Path], output: str | Path, split: str | None = None, command: Sequence[str] = ()
) -> pl.DataFrame:
    """Write JSON lines of questions as a question set; returns the counts that its card shows."""
    return write_questions(read_source(files, split), output, list(command), hash_inputs(questions=files))
