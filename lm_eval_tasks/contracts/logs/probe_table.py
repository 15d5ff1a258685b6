"""The contract of a probe table: its columns, what a right row looks like, and what makes rows of one table clash.

A row is one question asked once of one model. Imports neither torch nor lm_eval.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import write_file, write_parquet
from lm_eval_tasks.contracts.questions import QUESTION_SCHEMA, check_questions, check_rules, may_repeat, name_question
from lm_eval_tasks.contracts.vocabulary import KEY, PHASES, SCORES

PROBE_SCHEMA = pl.Schema(
    dict(QUESTION_SCHEMA)
    | {
        "split": pl.String,
        "category": pl.String,  # a coarser subject, where the source has one
        "loglikelihoods": pl.List(pl.Float64),  # nats, as all that follow
        "loglikelihoods_per_character": pl.List(pl.Float64),  # divided by the choice's characters (OLMES, arXiv 2406.08446)
        "loglikelihoods_pmi": pl.List(pl.Float64),  # less the choice's own after a bare "Answer:" (the same)
        "probs": pl.List(pl.Float64),
        "choice_mass": pl.Float64,
        "prediction": pl.Int64,
        "confidence": pl.Float64,
        "correct": pl.Boolean,
        "model": pl.String,
        "run": pl.String,
        "phase": pl.String,
        "scoring": pl.String,
        "score": pl.String,  # of `vocabulary.SCORES`: which log-likelihoods the probabilities are of
        "draw": pl.Int64,
        "order": pl.Int64,  # null where the orders of the choices are averaged
        "question_hash": pl.String,
        "bos": pl.Boolean,  # whether the prompt began with the beginning-of-sequence token; null where nobody knows
        "prompt_hash": pl.String,  # the first 16 digits of the log's own: what the model read before the choice
        "task": pl.String,
    }
)
ASKED = ("model", "run", "phase", "scoring")  # who was asked, and how
PROBE_KEY = (*ASKED, "draw", "order", *KEY)
LOGLIKELIHOODS = tuple(name for name in PROBE_SCHEMA if name.startswith("loglikelihoods"))
SCORED_BY = dict(zip(SCORES, LOGLIKELIHOODS, strict=True))  # the column of each score
CLOZE = "cloze"  # the way of scoring that has several scores
PER_CHOICE = ("choices", *LOGLIKELIHOODS, "probs")
# What a table may lack: a released one has probabilities alone. It is then null.
OPTIONAL = ("category", *LOGLIKELIHOODS, "choice_mass", "score", "bos", "prompt_hash")
NULLABLE = (*OPTIONAL, "explanation", "topics", "subject", "order")
SUM_TOLERANCE = 1e-3  # probabilities that a model computed in half precision sum to 1 only so well


def complete_probes(table: pl.DataFrame, where: str | Path) -> pl.DataFrame:
    """The columns of `PROBE_SCHEMA` in its order and types; optional ones that the table lacks are null, but `score` the sum.

    Raises:
        UserError: another column is missing, or one is of another type.
    """
    if missing := [name for name in PROBE_SCHEMA if name not in table.columns and name not in OPTIONAL]:
        raise UserError(
            f"{where} has no column {missing[0]!r}, so it is no probe table. `python -m lm_eval_tasks table` writes one."
        )
    try:
        return table.select(
            (pl.col(name) if name in table.columns else pl.lit(None)).cast(kind).alias(name)
            for name, kind in PROBE_SCHEMA.items()
        ).with_columns(pl.col("score").fill_null("sum"))
    except pl.exceptions.PolarsError as error:
        told = " ".join(str(error).split())
        raise UserError(f"{where}: a column is not of a probe table's type ({told}). Write the probe table again.") from error


def check_probes(table: pl.DataFrame, where: str | Path, start: int = 0) -> pl.DataFrame:
    """`complete_probes`; raises a `UserError` that names the first row that is no probe of a question.

    `start`: how many rows of the file come before the table.
    """
    table = complete_probes(table, where)
    check_questions(table, where, start)
    n, probs, prediction, confidence = (pl.col("choices").list.len(), *map(pl.col, ("probs", "prediction", "confidence")))
    named = probs.list.get(prediction, null_on_oob=True)
    rules = [
        *((pl.col(name).is_null(), name, "is missing") for name in PROBE_SCHEMA if name not in NULLABLE),
        *((pl.col(name).list.len() != n, name, "are not one a choice") for name in PER_CHOICE[1:]),
        *((_lack_number(name), name, "hold a missing, NaN or infinite one") for name in PER_CHOICE[1:]),
        ((probs.list.min() < 0), "probs", "hold a negative one"),
        ((probs.list.sum() - 1).abs() > SUM_TOLERANCE, "probs", "do not sum to 1"),
        *((~pl.col(name).is_finite(), name, "is not a finite number") for name in ("choice_mass", "confidence")),
        (~pl.col("phase").is_in([*PHASES]), "phase", f"is none of {', '.join(PHASES)}"),
        (~pl.col("score").is_in([*SCORES]), "score", f"is none of {', '.join(SCORES)}"),
        ((pl.col("score") != "sum") & (pl.col("scoring") != CLOZE), "score", "is not sum, the only one of letters"),
        ((pl.col("order") < 0) | (pl.col("order") >= n), "order", "is not how far the choices can be rotated"),
        ((prediction < 0) | (prediction >= n), "prediction", "is not the index of a choice"),
        ((probs.list.max() - confidence).abs() > SUM_TOLERANCE, "confidence", "is not the largest of probs"),
        ((named - confidence).abs() > SUM_TOLERANCE, "prediction", "is not the most probable choice"),
        (pl.col("correct") != (prediction == pl.col("answer")), "correct", "does not fit prediction and answer"),
    ]
    check_rules(table, [(rule, name, f"{told}; ask this question again") for rule, name, told in rules], where, start)
    return table


def check_asked_once(table: pl.DataFrame, files: Sequence[Path]) -> None:
    """Raise a `UserError` where one question was asked of one model by two tasks in one phase, or twice in the same way.

    Args:
        table: probes, with a column `_file`: the index in `files` of the file that each comes from.
        files: what an error names.
    """
    if table["task"].n_unique() > 1 and (rows := _find_clash(table, (*ASKED, *KEY), pl.col("task").n_unique() > 1)):
        other = next(row for row in rows if row["task"] != rows[0]["task"])
        raise UserError(
            f"{_name_files(files, rows[0], other)}: mixed tasks: {_name_asked(other)} by {rows[0]['task']} and by "
            f"{other['task']}. Name the logs of one of the two."
        )
    if may_repeat(table, PROBE_KEY) and (rows := _find_clash(table, PROBE_KEY, pl.len() > 1)):
        raise UserError(
            f"{_name_files(files, *rows[:2])}: {_name_asked(rows[0])} more than once (draw {rows[0]['draw']}, order "
            f"{rows[0]['order']}). Name one log, or remove the older one."
        )


def _find_clash(table: pl.DataFrame, key: Sequence[str], rule: pl.Expr) -> list[dict[str, Any]]:
    """The rows of the first group by `key` for which the rule is true."""
    first = (
        table.lazy()
        .with_row_index("_row")
        .group_by(key)
        .agg(rule.alias("_clash"), pl.col("_row").min())
        .filter("_clash")
        .sort("_row")
        .head(1)
        .collect()
    )
    return table.join(first, on=key, how="semi", nulls_equal=True, maintain_order="left").to_dicts() if first.height else []


def _name_asked(row: dict[str, Any]) -> str:
    return f"{row['model']} was asked {name_question(row)} in phase {row['phase']}"


def _name_files(files: Sequence[Path], *rows: dict[str, Any]) -> str:
    return " and ".join(dict.fromkeys(str(files[row["_file"]]) for row in rows))


def write_probes(table: pl.DataFrame, file: str | Path) -> None:
    """Write a probe table as parquet."""
    with write_file(file) as scratch:
        write_parquet(table, scratch)


def _lack_number(name: str) -> pl.Expr:
    return pl.col(name).list.eval(~pl.element().is_finite().fill_null(False)).list.any()
