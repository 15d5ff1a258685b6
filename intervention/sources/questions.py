"""From the questions of a source to a question set."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from intervention.publishing.folders import write_dataset
from intervention.sources.layout import make_layout
from intervention.sources.origin import Origin
from intervention.sources.own import read_own
from lm_eval_tasks.contracts.files import write_folder
from lm_eval_tasks.contracts.free_form import find_kind, has_answers
from lm_eval_tasks.contracts.manifest import hash_inputs, write_manifest
from lm_eval_tasks.contracts.markdown import format_table
from lm_eval_tasks.contracts.prompts import LETTERS
from lm_eval_tasks.contracts.vocabulary import SPLITS

TEMPLATES = Path(__file__).parents[1] / "publishing/templates"


def write_questions(
    table: pl.DataFrame,
    output: str | Path,
    command: list[str],
    inputs: Mapping[str, str],
    origin: Origin = Origin(),  # noqa: B008 (frozen)
) -> pl.DataFrame:
    """Write a question set (one config a domain, one file a split), its card and its manifest.

    Args:
        table: the question columns and `split`.
        output: the folder.
        command: the command line, for the manifest.
        inputs: a name for each input, and its hash.
        origin: where the questions come from and what was done to them.

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
    first, splits = next(iter(configs.items()))
    example = {"domain": first, "split": "test" if "test" in splits else next(iter(splits))}
    with write_folder(output) as folder:
        write_dataset(
            folder,
            configs,
            "free_form.md.j2" if has_answers(table.columns) else "questions.md.j2",
            terms=origin.terms,
            counts=format_table(counts),
            inputs=inputs,
            origin=origin,
            citations=[(TEMPLATES / f"{name}.bib").read_text(encoding="utf-8").strip() for name in origin.citations],
            **example,
        )
        config = {"domains": list(configs), "questions": table.height, "terms": origin.list_terms()}
        config |= {"dropped": dict(origin.dropped), "source": dict(origin.config)}
        write_manifest(folder, "questions", command, config, inputs, origin.seeds)
    return counts


def _take(table: pl.DataFrame, domain: str, split: str) -> pl.DataFrame:
    return table.filter(pl.col("domain") == domain, pl.col("split") == split).select(list(find_kind(table.columns).schema))


def count_questions(table: pl.DataFrame) -> pl.DataFrame:
    """Questions by domain, source and split, and the share of each letter among their gold answers; of free-form questions how
    many answers are accepted, on average.
    """
    order = pl.col("split").replace_strict({split: i for i, split in enumerate(SPLITS)}, return_dtype=pl.Int64)
    accepted = pl.col("answers").list.len().mean().alias("accepted answers")
    told = [accepted] if has_answers(table.columns) else share_letters(table, "answer", "gold")
    return table.group_by("domain", "source", "split").agg(pl.len().alias("questions"), *told).sort("domain", "source", order)


def share_letters(table: pl.DataFrame, column: str, name: str) -> list[pl.Expr]:
    """An expression a letter: the share of rows whose `column` is that choice."""
    widest = table["choices"].list.len().max() or 0
    return [(pl.col(column) == i).mean().alias(f"{name} {LETTERS[i]}") for i in range(widest)]


def convert_jsonl(
    files: Sequence[str | Path], output: str | Path, split: str | None = None, command: Sequence[str] = ()
) -> pl.DataFrame:
    """Write JSON lines of questions as a question set; returns the counts that its card shows."""
    table, origin = read_own("jsonl", files, make_layout(split=split))
    return write_questions(table, output, list(command), hash_inputs(questions=files), origin)
