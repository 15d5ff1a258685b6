"""The benchmarks of the paper as questions: MMLU, CMMLU and C-Eval, from the Hub or from a local folder of the same layout.

Templates name these loaders as their `custom_dataset`. A question's id is its subject and its number there, so that it is the
same in every run; demonstrations are the subject's own dev questions.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import polars as pl

from lm_eval_tasks.manifest import UserError
from lm_eval_tasks.questions import QUESTION_SCHEMA, check_questions, hash_questions
from lm_eval_tasks.sets import Order, describe_run, list_domains, make_datasets, turn_choices
from lm_eval_tasks.subjects import CEVAL_NAME, CMMLU_NAME, MMLU_CATEGORY, MMLU_DOMAIN

CONVERTED = "refs/convert/parquet"  # the Hub's own conversion of a data set that is kept as a script
LETTER_INDEX = {letter: index for index, letter in enumerate("ABCD")}
logger = logging.getLogger(__name__)


def load_mmlu(
    task: str, mmlu: str = "cais/mmlu", domain: str | Sequence[str] = (), order: Order = 0, **run: Any
) -> dict[str, datasets.Dataset]:
    """MMLU's test questions (`test`) and its dev questions (`dev`), with the columns of a sample.

    `domain` is the paper's domain of the subject, else MMLU's own subcategory; `category` is MMLU's.

    Args:
        task: the task's name.
        mmlu: a Hub id, or a folder with the config `all` and the columns question, subject, choices, answer.
        domain: one domain or several; all where empty.
        order: how far the choices are turned before they are shown.
        **run: what `sets.describe_run` takes.

    Raises:
        UserError: the data cannot be read, or holds a subject that MMLU has not.
    """
    domains = choose(list_domains(domain), sorted(set(MMLU_DOMAIN.values())), task)
    tables = {}
    for split in ("test", "dev"):
        rows = read_rows(mmlu, "all", split, ("question", "subject", "choices", "answer"))
        if strange := sorted(set(rows["subject"]) - set(MMLU_DOMAIN)):
            raise UserError(
                f"{mmlu}, {split}: {strange[0]!r} is no subject of MMLU. Name a data set of the layout of cais/mmlu."
            )
        rows = rows.with_columns(
            domain=pl.col("subject").replace_strict(MMLU_DOMAIN),
            category=pl.col("subject").replace_strict(MMLU_CATEGORY),
            subject_name=pl.col("subject").str.replace_all("_", " "),
        )
        tables[split] = make_questions(rows, "mmlu", split).filter(pl.col("domain").is_in(domains))
    return finish(tables["test"], tables["dev"], mmlu, order, task=task, **run)


def load_cmmlu(
    task: str, cmmlu: str = "haonan-li/cmmlu", domain: str | Sequence[str] = (), order: Order = 0, **run: Any
) -> dict[str, datasets.Dataset]:
    """CMMLU's test questions and its dev questions; as `load_mmlu`, but a config a subject, which is the `domain` too."""
    columns = ("Question", "A", "B", "C", "D", "Answer")
    return load_subjects(task, "cmmlu", cmmlu, CMMLU_NAME, "test", columns, domain, order, **run)


def load_ceval(
    task: str, ceval: str = "ceval/ceval-exam", domain: str | Sequence[str] = (), order: Order = 0, **run: Any
) -> dict[str, datasets.Dataset]:
    """C-Eval's validation questions (the test split has no answers) and its dev questions; as `load_cmmlu`."""
    columns = ("question", "A", "B", "C", "D", "answer")
    return load_subjects(task, "ceval", ceval, CEVAL_NAME, "val", columns, domain, order, **run)


def load_subjects(
    task: str,
    source: str,
    path: str,
    names: Mapping[str, str],
    asked: str,
    columns: tuple[str, ...],
    domain: str | Sequence[str],
    order: Order,
    /,
    **run: Any,
) -> dict[str, datasets.Dataset]:
    """A benchmark with a config a subject, a column a choice, and a letter for its answer.

    Args:
        task: the task's name.
        source: the benchmark's.
        path: a Hub id or a folder.
        names: subject -> its name in the prompt.
        asked: the split that is asked; `dev` has the demonstrations.
        columns: the columns of question, choices and answer.
        domain: the subjects; all where empty.
        order: how far the choices are turned before they are shown.
        **run: what `sets.describe_run` takes.
    """
    subjects = choose(list_domains(domain), sorted(names), task)
    question, *choices, answer = columns
    tables: dict[str, list[pl.DataFrame]] = {asked: [], "dev": []}
    for subject in subjects:
        for split, parts in tables.items():
            rows = read_rows(path, subject, split, columns)
            parts.append(
                rows.select(
                    question=question,
                    choices=pl.concat_list(pl.col(name).cast(pl.String) for name in choices),
                    answer=pl.col(answer).str.strip_chars().replace_strict(LETTER_INDEX, default=None, return_dtype=pl.Int64),
                    subject=pl.lit(subject),
                    domain=pl.lit(subject),
                    subject_name=pl.lit(names[subject]),
                )
            )
    asked_table, dev = (make_questions(pl.concat(parts), source, split) for split, parts in tables.items())
    return finish(asked_table, dev, path, order, task=task, **run)


def choose(domains: Sequence[str], known: Sequence[str], task: str) -> list[str]:
    """The domains asked for, all that are known where none is; raises a `UserError` at one that is not."""
    if unknown := [domain for domain in domains if domain not in known]:
        raise UserError(f"{task} has no domain {unknown[0]!r}; it has {', '.join(known)}.")
    return list(domains) or list(known)


def read_rows(path: str, config: str, split: str, columns: Sequence[str]) -> pl.DataFrame:
    """The columns of one split of a data set, from the Hub (where it is a script there: as the Hub converted it) or a folder.

    Raises:
        UserError: it cannot be read, or lacks a column.
    """
    try:
        try:
            table = datasets.load_dataset(path, config, split=split)
        except RuntimeError as error:  # "Dataset scripts are no longer supported"
            if "script" not in str(error):
                raise
            table = datasets.load_dataset(path, config, split=split, revision=CONVERTED)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}, config {config!r}, split {split!r} cannot be read: {reason}") from error
    if missing := [name for name in columns if name not in table.column_names]:
        raise UserError(
            f"{path}, config {config!r}, split {split!r} has no column {missing[0]!r}; it has {table.column_names}."
        )
    return table.select_columns(list(columns)).to_polars()


def make_questions(rows: pl.DataFrame, source: str, split: str) -> pl.DataFrame:
    """The questions of one split with the columns of the contract, `split`, `question_hash`, and what `rows` has beyond.

    A row that is no question (text or answer missing) is left out, and said to be.
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
    if (broken := rows.filter(~whole)).height:
        logger.warning(
            "%s: %d of %d %s questions lack a text or an answer and are left out; the first is %s.",
            source, broken.height, rows.height, split, broken["id"][0],
        )  # fmt: skip
    rows = rows.filter(whole)
    table = check_questions(rows, f"{source}, {split}")
    return table.hstack(rows.drop(QUESTION_SCHEMA.names())).with_columns(hash_questions(table))


def finish(asked: pl.DataFrame, dev: pl.DataFrame, path: str, order: Order, /, **run: Any) -> dict[str, datasets.Dataset]:
    """The asked questions as they are shown and described, and the demonstrations."""
    if not asked.height:
        raise UserError(f"{path} has no questions of the domains that are asked.")
    return make_datasets(describe_run(turn_choices(asked, order), **run), dev)
