"""MMLU, CMMLU and C-Eval as question sets, of the same rows as the tasks ask (`contracts/published.py`).

The ids are those of the tasks: a test question's is its subject and its number there (`virology/3`), so that probe logs of the
tasks fit; other splits' begin with the benchmark's name of the split (`dev/virology/3`).
"""

from collections.abc import Sequence

import polars as pl

from intervention.sources.origin import Origin, find_all_terms
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.published import BENCHMARKS, MMLU, choose, make_questions, read_mmlu, read_subjects
from lm_eval_tasks.contracts.questions import QUESTION_SCHEMA
from lm_eval_tasks.contracts.subjects import MMLU_DOMAIN

HUB = {"mmlu": MMLU} | {name: benchmark.path for name, benchmark in BENCHMARKS.items()}
# The set's split -> the benchmark's.
SPLITS_OF = {
    "mmlu": {"train": "validation", "dev": "dev", "test": "test"},
    "cmmlu": {"dev": "dev", "test": "test"},
    "ceval": {"dev": "dev", "test": "val"},
}
NOTES = {
    "mmlu": (
        "The train questions are MMLU's validation split; its auxiliary_train is left out, because its questions come from "
        "other data sets and have no subject.",
        "A subject's domain is the paper's, or else MMLU's own subcategory.",
    ),
    "cmmlu": ("CMMLU has no train questions; each subject is a domain.",),
    "ceval": (
        "The test questions are C-Eval's validation split, because its test split has no answers; it has no train questions; "
        "each subject is a domain.",
    ),
}


def read_published(
    name: str, path: str | None = None, domains: Sequence[str] = (), strict: bool = False
) -> tuple[pl.DataFrame, Origin]:
    """Read a benchmark: the question columns and `split`, and their origin.

    Args:
        name: `mmlu`, `cmmlu` or `ceval`.
        path: a Hub id, a folder of the same layout, or the folder of the authors' csv files; where None, the benchmark's own on
            the Hub.
        domains: those to read; all where empty.
        strict: no row is left out for lacking a text or its answer; the first is an error.

    Raises:
        UserError: it cannot be read, has no such domain, or none of its questions.
    """
    path = path or HUB[name]
    known = sorted(set(MMLU_DOMAIN.values()) if name == "mmlu" else BENCHMARKS[name].subjects)
    domains = choose(list(dict.fromkeys(domains)), known, name)
    tables, dropped = [], 0
    for split, theirs in SPLITS_OF[name].items():
        rows = read_mmlu(path, theirs) if name == "mmlu" else read_subjects(BENCHMARKS[name], path, domains, theirs)
        rows = rows.filter(pl.col("domain").is_in(domains))
        table, broken = make_questions(rows, name, theirs)
        if strict and broken:
            raise UserError(
                f"{path}, {theirs}: {len(broken)} of {rows.height} rows lack a text or an answer; the first is {broken[0]}. "
                "Mend them, or leave out --strict."
            )
        dropped += len(broken)
        tables.append(table.with_columns(split=pl.lit(split), topics=pl.lit([], pl.List(pl.String))))
    table = pl.concat(tables).select(*QUESTION_SCHEMA, "split")
    if not table.height:
        raise UserError(f"{path} has no questions of {', '.join(domains)}.")
    return table, Origin(
        find_all_terms(table),
        NOTES[name],
        {"a text or the answer is missing": dropped} if dropped else {},
        (name,),
        {"name": name, "domains": domains},
    )
