"""MMLU, CMMLU and C-Eval as tables of questions, from the Hub or from a local folder of the same layout.

The tasks (`benchmarks.py`) and the question sets (`intervention`) are both made of these tables. Imports neither torch nor
lm_eval.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import datasets
import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import QUESTION_SCHEMA, check_questions, hash_questions
from lm_eval_tasks.contracts.subjects import CEVAL_NAME, CMMLU_NAME, MMLU_CATEGORY, MMLU_DOMAIN

MMLU = "cais/mmlu"
CONVERTED = "refs/convert/parquet"  # the Hub's own conversion of a data set that is kept as a script
LETTER_INDEX = {letter: index for index, letter in enumerate("ABCD")}


@dataclass(frozen=True)
class Benchmark:
    """A benchmark with a config a subject, a column a choice, and a letter for its answer."""

    name: str
    path: str  # its id on the Hub
    subjects: Mapping[str, str]  # subject -> its name in the prompt
    asked: str  # the split that has answers and is asked; `dev` has the demonstrations
    columns: tuple[str, ...]  # of question, choices and answer


CMMLU = Benchmark("cmmlu", "haonan-li/cmmlu", CMMLU_NAME, "test", ("Question", "A", "B", "C", "D", "Answer"))
CEVAL = Benchmark("ceval", "ceval/ceval-exam", CEVAL_NAME, "val", ("question", "A", "B", "C", "D", "answer"))


def choose(domains: Sequence[str], known: Sequence[str], what: str) -> list[str]:
    """The domains asked for, all that are known where none is; raises a `UserError` at one that is not.

    >>> choose([], ["history", "law"], "the benchmark")
    ['history', 'law']
    """
    if unknown := [domain for domain in domains if domain not in known]:
        raise UserError(f"{what} has no domain {unknown[0]!r}; it has {', '.join(known)}.")
    return list(domains) or list(known)


def load_split(path: str, config: str | None, split: str) -> datasets.Dataset:
    """One split of a data set, from the Hub (where it is a script there: as the Hub converted it) or a folder.

    Raises:
        UserError: it cannot be read.
    """
    with explain_errors(f"{path}, config {config or 'default'!r}, split {split!r}"):
        if Path(path).is_dir():
            return load_folder(path, config, split)
        try:
            return datasets.load_dataset(path, config, split=split)
        except RuntimeError as error:  # "Dataset scripts are no longer supported"
            if "script" not in str(error):
                raise
            return datasets.load_dataset(path, config, split=split, revision=CONVERTED)


def load_folder(path: str, config: str | None, split: str) -> datasets.Dataset:
    """One split of a data set in a local folder, without the cache of `datasets`.

    That cache knows a folder by its name and its card alone: it would give what another folder of this name holds, or what the
    files held when they were first read.
    """
    quiet = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with tempfile.TemporaryDirectory() as cache:
            return datasets.load_dataset(path, config, split=split, cache_dir=cache, keep_in_memory=True)
    finally:
        if not quiet:
            datasets.enable_progress_bars()


@contextmanager
def explain_errors(what: str) -> Iterator[None]:
    """Turn what `datasets` raises into one line that says what to do."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        remedy = ""
        # Without a network `datasets` raises a ConnectionError, or says that the Hub or a server could not be reached.
        if isinstance(error, ConnectionError) or "offline" in reason.lower() or "reach" in reason.lower():
            remedy = (
                " Run it once where there is a network (the Hub's cache is then used), or name a folder of the same layout."
            )
        raise UserError(f"{what} cannot be read: {reason.rstrip('.')}{remedy or '.'}") from error


def read_rows(path: str, config: str, split: str, columns: Sequence[str]) -> pl.DataFrame:
    """The columns of one split of a data set.

    Raises:
        UserError: it cannot be read, or lacks a column.
    """
    table = load_split(path, config, split)
    if missing := [name for name in columns if name not in table.column_names]:
        raise UserError(
            f"{path}, config {config!r}, split {split!r} has no column {missing[0]!r}; it has {table.column_names}."
        )
    return table.select_columns(list(columns)).to_polars()


def read_mmlu(path: str, split: str) -> pl.DataFrame:
    """The rows of a split of MMLU, with the paper's domain of the subject (else MMLU's own subcategory) and MMLU's category.

    Args:
        path: a Hub id, or a folder with the config `all` and the columns question, subject, choices, answer.
        split: `test`, `validation` or `dev` (`auxiliary_train` has no subjects).

    Raises:
        UserError: it cannot be read, or holds a subject that MMLU has not.
    """
    rows = read_rows(path, "all", split, ("question", "subject", "choices", "answer"))
    if strange := sorted(set(rows["subject"]) - set(MMLU_DOMAIN)):
        raise UserError(f"{path}, {split}: {strange[0]!r} is no subject of MMLU. Name a data set of the layout of {MMLU}.")
    return rows.with_columns(
        domain=pl.col("subject").replace_strict(MMLU_DOMAIN, return_dtype=pl.String),
        category=pl.col("subject").replace_strict(MMLU_CATEGORY, return_dtype=pl.String),
        subject_name=pl.col("subject").str.replace_all("_", " "),
    )


def read_subjects(benchmark: Benchmark, path: str, subjects: Sequence[str], split: str) -> pl.DataFrame:
    """The rows of a split of CMMLU or C-Eval; a subject is its own domain.

    Args:
        benchmark: which of them.
        path: a Hub id, or a folder with a config a subject.
        subjects: those to read.
        split: the benchmark's `asked` split, or `dev`.

    Raises:
        UserError: it cannot be read, or lacks a column.
    """
    question, *choices, answer = benchmark.columns
    return pl.concat(
        read_rows(path, subject, split, benchmark.columns).select(
            question=question,
            choices=pl.concat_list(pl.col(name).cast(pl.String) for name in choices),
            answer=pl.col(answer).str.strip_chars().replace_strict(LETTER_INDEX, default=None, return_dtype=pl.Int64),
            subject=pl.lit(subject),
            domain=pl.lit(subject),
            subject_name=pl.lit(benchmark.subjects[subject]),
        )
        for subject in subjects
    )


def make_questions(rows: pl.DataFrame, source: str, split: str) -> tuple[pl.DataFrame, list[str]]:
    """The questions of one split with the columns of the contract, `split`, `question_hash`, and what `rows` has beyond.

    A question's id is its subject and its number there, so that it is the same in every run.

    Returns:
        The questions, and the ids of the rows that are none (a text or the answer is missing).
    """
    rows = rows.with_columns(
        id=pl.format("{}/{}", "subject", pl.int_range(pl.len()).over("subject")),
        source=pl.lit(source),
        split=pl.lit(split),
        explanation=pl.lit(None, pl.String),
        topics=pl.lit(None, pl.List(pl.String)),
    )
    texts = pl.concat_list(pl.col("choices"), pl.col("question"))
    whole = texts.list.eval(pl.element().fill_null("").str.strip_chars() != "").list.all() & pl.col("answer").is_not_null()
    broken = rows.filter(~whole)["id"].to_list()
    rows = rows.filter(whole)
    table = check_questions(rows, f"{source}, {split}")
    return table.hstack(rows.drop(QUESTION_SCHEMA.names())).with_columns(hash_questions(table)), broken
