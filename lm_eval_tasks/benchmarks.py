"""The benchmarks of the paper as tasks ask them: MMLU, CMMLU and C-Eval, from the Hub, a local folder of the same layout, or
their authors' csv files.

Templates name these loaders as their `custom_dataset`; `contracts/published.py` reads the rows. Demonstrations are the
subject's own dev questions.
"""

import logging
from collections.abc import Sequence
from typing import Any

import datasets
import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.published import CEVAL, CMMLU, MMLU, Benchmark, choose, make_questions, read_mmlu, read_subjects
from lm_eval_tasks.contracts.subjects import MMLU_DOMAIN
from lm_eval_tasks.sets import Order, describe_run, list_domains, make_datasets, rotate_questions

logger = logging.getLogger(__name__)


def load_mmlu(
    task: str, mmlu: str = MMLU, domain: str | Sequence[str] = (), order: Order = 0, **run: Any
) -> dict[str, datasets.Dataset]:
    """MMLU's test questions (`test`) and its dev questions (`dev`), with the columns of a sample.

    `domain` is the paper's domain of the subject, else MMLU's own subcategory; `category` is MMLU's.

    Args:
        task: the task's name.
        mmlu: a Hub id; a folder with the config `all` and the columns question, subject, choices, answer; or the folder of its
            authors' csv files.
        domain: one domain or several; all where empty.
        order: how far the choices are rotated before they are shown.
        **run: what `sets.describe_run` takes.

    Raises:
        UserError: the data cannot be read, or holds a subject that MMLU has not.
    """
    domains = choose(list_domains(domain), sorted(set(MMLU_DOMAIN.values())), task)
    tables = {
        split: keep_whole(read_mmlu(mmlu, split), "mmlu", split).filter(pl.col("domain").is_in(domains))
        for split in ("test", "dev")
    }
    return finish(tables["test"], tables["dev"], mmlu, order, task=task, **run)


def load_cmmlu(
    task: str, cmmlu: str = CMMLU.path, domain: str | Sequence[str] = (), order: Order = 0, **run: Any
) -> dict[str, datasets.Dataset]:
    """CMMLU's test questions and its dev questions; as `load_mmlu`, but a config a subject, which is the `domain` too."""
    return load_subjects(task, CMMLU, cmmlu, domain, order, **run)


def load_ceval(
    task: str, ceval: str = CEVAL.path, domain: str | Sequence[str] = (), order: Order = 0, **run: Any
) -> dict[str, datasets.Dataset]:
    """C-Eval's validation questions (the test split has no answers) and its dev questions; as `load_cmmlu`."""
    return load_subjects(task, CEVAL, ceval, domain, order, **run)


def load_subjects(
    task: str, benchmark: Benchmark, path: str, domain: str | Sequence[str], order: Order, /, **run: Any
) -> dict[str, datasets.Dataset]:
    """A benchmark with a config a subject.

    Args:
        task: the task's name.
        benchmark: which one.
        path: a Hub id, a folder of the same layout, or the folder of its authors' csv files.
        domain: the subjects; all where empty.
        order: how far the choices are rotated before they are shown.
        **run: what `sets.describe_run` takes.
    """
    subjects = choose(list_domains(domain), sorted(benchmark.subjects), task)
    asked, dev = (
        keep_whole(read_subjects(benchmark, path, subjects, split), benchmark.name, split) for split in (benchmark.asked, "dev")
    )
    return finish(asked, dev, path, order, task=task, **run)


def keep_whole(rows: pl.DataFrame, source: str, split: str) -> pl.DataFrame:
    """The questions of one split; a row that is none is left out, and said to be."""
    table, broken = make_questions(rows, source, split)
    if broken:
        logger.warning(
            "%s: %d of %d %s questions lack a text or an answer and are left out; the first is %s.",
            source, len(broken), rows.height, split, broken[0],
        )  # fmt: skip
    return table


def finish(asked: pl.DataFrame, dev: pl.DataFrame, path: str, order: Order, /, **run: Any) -> dict[str, datasets.Dataset]:
    """The asked questions as they are shown and described, and the demonstrations."""
    if not asked.height:
        raise UserError(f"{path} has no questions of the domains that are asked.")
    return make_datasets(describe_run(rotate_questions(asked, order), **run), dev)
