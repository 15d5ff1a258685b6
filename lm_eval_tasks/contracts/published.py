"""MMLU, CMMLU and C-Eval as tables of questions, from the Hub, a local folder of the same layout, or their authors' csv files.

The tasks (`benchmarks.py`) and the question sets (`intervention`) are both made of these tables. Imports neither torch nor
lm_eval.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import polars as pl

from lm_eval_tasks.contracts.classic import HEADERLESS, find_root, read_classic
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import QUESTION_SCHEMA, check_questions, hash_questions, read_header
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
BENCHMARKS = {benchmark.name: benchmark for benchmark in (CMMLU, CEVAL)}
# The split of each benchmark that is asked: its questions have the plain ids.
ASKED = {"mmlu": "test"} | {name: benchmark.asked for name, benchmark in BENCHMARKS.items()}


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
            return load_texts(path, config, split=split)
        except RuntimeError as error:  # "Dataset scripts are no longer supported"
            if "script" not in str(error):
                raise
            return load_texts(path, config, split=split, revision=CONVERTED)


def load_texts(path: str, config: str | None, **options: Any) -> datasets.Dataset:
    """`datasets.load_dataset`, but what csv files hold stays the text it is: no 7 of 007, and no missing value of NA."""
    data = datasets.load_dataset(path, config, **options)
    if data.info.builder_name == "csv":
        features = datasets.Features({name: datasets.Value("string") for name in data.column_names})
        data = datasets.load_dataset(path, config, **options, features=features, keep_default_na=False)
    return data


def load_folder(path: str, config: str | None, split: str) -> datasets.Dataset:
    """One split of a data set in a local folder, without the cache of `datasets`.

    That cache knows a folder by its name and its card alone: it would give what another folder of this name holds, or what the
    files held when they were first read.
    """
    quiet = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with tempfile.TemporaryDirectory() as cache:
            return load_texts(path, config, split=split, cache_dir=cache, keep_in_memory=True)
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


def read_rows(path: str, config: str, split: str, columns: Sequence[str], optional: Sequence[str] = ()) -> pl.DataFrame:
    """The columns of one split of a data set; of the optional ones those that it has.

    Raises:
        UserError: it cannot be read, or lacks a column.
    """
    table = read_parquet_files(path, config, split)
    if table is None:
        table = load_split(path, config, split).to_polars()
    if missing := [name for name in columns if name not in table.columns]:
        raise UserError(f"{path}, config {config!r}, split {split!r} has no column {missing[0]!r}; it has {table.columns}.")
    return table.select(*columns, *(name for name in optional if name in table.columns))


def read_parquet_files(path: str, config: str, split: str) -> pl.DataFrame | None:
    """One split of a local folder whose card names its parquet files; None of anything else, which `datasets` may read.

    A benchmark is more than a hundred of them, for each of which `datasets` takes a tenth of a second.
    """
    card = Path(path) / "README.md"
    configs = (read_header(card).get("configs") if card.is_file() else None) or ()
    entries = [entry["data_files"] for entry in configs if entry.get("config_name") == config and "data_files" in entry]
    parts = entries[0] if entries and isinstance(entries[0], list) else []
    named = [part["path"] for part in parts if isinstance(part, dict) and part.get("split") == split]
    if len(named) != 1 or not isinstance(named[0], str):
        return None
    files = sorted(Path(path).glob(named[0]))
    if not files or any(file.suffix != ".parquet" for file in files):
        return None
    with explain_errors(f"{path}, config {config!r}, split {split!r}"):
        try:
            return pl.read_parquet(files)
        except pl.exceptions.PolarsError as error:
            raise ValueError(str(error)) from error


def read_mmlu(path: str, split: str) -> pl.DataFrame:
    """The rows of a split of MMLU, with the paper's domain of the subject (else MMLU's own subcategory) and MMLU's category.

    Args:
        path: a Hub id; a folder with the config `all` and the columns question, subject, choices, answer; or the folder of its
            authors' csv files (`data/test/abstract_algebra_test.csv`).
        split: `test`, `validation` or `dev` (`auxiliary_train` has no subjects).

    Raises:
        UserError: it cannot be read, or holds a subject that MMLU has not.
    """
    if root := find_root("mmlu", path):
        rows = shape_rows(read_classic("mmlu", root, split, HEADERLESS), HEADERLESS)
    else:
        rows = read_rows(path, "all", split, ("question", "subject", "choices", "answer"))
    if strange := sorted(set(rows["subject"]) - set(MMLU_DOMAIN)):
        raise UserError(f"{path}, {split}: {strange[0]!r} is no subject of MMLU. Name a data set of the layout of {MMLU}.")
    return rows.with_columns(
        domain=pl.col("subject").replace_strict(MMLU_DOMAIN, return_dtype=pl.String),
        category=pl.col("subject").replace_strict(MMLU_CATEGORY, return_dtype=pl.String),
        subject_name=pl.col("subject").str.replace_all("_", " "),
    )


def read_subjects(benchmark: Benchmark, path: str, subjects: Sequence[str], split: str) -> pl.DataFrame:
    """The rows of a split of CMMLU or C-Eval, with their explanation where they have one; a subject is its own domain.

    Args:
        benchmark: which of them.
        path: a Hub id; a folder with a config a subject; or the folder of its authors' csv files (`dev/agronomy.csv`).
        subjects: those to read.
        split: the benchmark's `asked` split, or `dev`.

    Raises:
        UserError: it cannot be read, or lacks a column.
    """
    optional = ("explanation",)
    if root := find_root(benchmark.name, path):
        rows = read_classic(benchmark.name, root, split, benchmark.columns, optional, subjects)
    else:
        parts = {subject: read_rows(path, subject, split, benchmark.columns, optional) for subject in subjects}
        rows = pl.concat((part.with_columns(subject=pl.lit(name)) for name, part in parts.items()), how="diagonal_relaxed")
    return shape_rows(rows, benchmark.columns).with_columns(
        domain="subject", subject_name=pl.col("subject").replace_strict(benchmark.subjects, return_dtype=pl.String)
    )


def shape_rows(rows: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Rows with a column a choice and a letter as `question`, `choices` and `answer` (null where it is no letter of a choice).

    Args:
        rows: with `subject`, and `explanation` where there are any.
        columns: of question, choices and answer.
    """
    question, *choices, answer = columns
    return rows.select(
        question=question,
        choices=pl.concat_list(pl.col(name).cast(pl.String) for name in choices),
        answer=pl.col(answer).str.strip_chars().replace_strict(LETTER_INDEX, default=None, return_dtype=pl.Int64),
        subject="subject",
        explanation="explanation" if "explanation" in rows.columns else pl.lit(None, pl.String),
    )


def make_questions(rows: pl.DataFrame, source: str, split: str) -> tuple[pl.DataFrame, list[str]]:
    """The questions of one split with the columns of the contract, `split`, `question_hash`, and what `rows` has beyond.

    A question's id is its subject and its number there, so that it is the same in every run; after the split's name where that
    is not the one that is asked (`dev/virology/3`), so that no two questions of a benchmark have one id.

    Args:
        rows: as `read_mmlu` and `read_subjects` give them.
        source: the benchmark, a key of `ASKED`.
        split: which split of it.

    Returns:
        The questions, and the ids of the rows that are none (a text or the answer is missing).
    """
    before = "" if split == ASKED[source] else f"{split}/"
    told = pl.col("explanation") if "explanation" in rows.columns else pl.lit(None, pl.String)
    rows = rows.with_columns(
        id=pl.format("{}{}/{}", pl.lit(before), "subject", pl.int_range(pl.len()).over("subject")),
        source=pl.lit(source),
        split=pl.lit(split),
        explanation=pl.when(told.str.strip_chars() != "").then(told),
        topics=pl.lit(None, pl.List(pl.String)),
    )
    texts = pl.concat_list(pl.col("choices"), pl.col("question"))
    whole = texts.list.eval(pl.element().fill_null("").str.strip_chars() != "").list.all() & pl.col("answer").is_not_null()
    broken = rows.filter(~whole)["id"].to_list()
    rows = rows.filter(whole)
    table = check_questions(rows, f"{source}, {split}")
    return table.hstack(rows.drop(QUESTION_SCHEMA.names())).with_columns(hash_questions(table)), broken
