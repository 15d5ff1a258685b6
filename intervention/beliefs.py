"""From probes to beliefs: what a model thinks of each question, and whether the question agrees with it."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from intervention.folders import write_parquet
from lm_eval_tasks.averages import average_probes, check_orders
from lm_eval_tasks.manifest import UserError, write_file
from lm_eval_tasks.questions import KEY, read_questions
from lm_eval_tasks.samples import read_probes

CLASSES = ("harmonious", "incompatible", "unsure")
BELIEF_SCHEMA = pl.Schema(
    {
        "id": pl.String,
        "source": pl.String,
        "domain": pl.String,
        "split": pl.String,
        "answer": pl.Int64,
        "probs": pl.List(pl.Float64),  # the mean over all times that the question was asked
        "prediction": pl.Int64,
        "confidence": pl.Float64,
        "belief": pl.Int64,  # the prediction where confidence exceeds the threshold, else null
        "class": pl.String,
        "agreement": pl.Float64,  # share of the times asked in which this prediction was made
        "asked": pl.Int64,
        "model": pl.String,
        "scoring": pl.String,
        "question_hash": pl.String,
    }
)


def read_beliefs(questions: str | Path, probes: Sequence[str | Path], threshold: float = 0.5) -> tuple[pl.DataFrame, int]:
    """The belief table of the questions of a question set that one base model was asked.

    Args:
        questions: the question set.
        probes: sample logs and probe tables, files or folders.
        threshold: a prediction is a belief where its confidence is greater.

    Returns:
        One row a question that was asked, in the question set's order (`BELIEF_SCHEMA`); how many questions were not asked.

    Raises:
        UserError: several models, runs or ways of scoring, a phase other than base_probe, probes of other questions, a
            question asked in some orders of its choices but not in all, a threshold outside [0, 1].
    """
    asked = read_questions(questions)
    table = find_beliefs(asked, read_probes(probes), threshold, questions, probes)
    return table, asked.height - table.height


def find_beliefs(
    questions: pl.DataFrame, probes: pl.DataFrame, threshold: float, folder: str | Path, logs: Sequence[str | Path]
) -> pl.DataFrame:
    """The belief table of `read_beliefs`, from tables; `folder` and `logs` are what an error names."""
    if not 0 <= threshold <= 1:
        raise UserError(f"--threshold {threshold} is not between 0 and 1. The paper uses 0.5.")
    where = ", ".join(map(str, logs))
    check_single(probes, where)
    check_same_questions(questions, probes, folder, where)
    check_orders(probes, where)
    means = average_probes(probes).drop("split", "answer", "question_hash")
    table = questions.select(*KEY, "split", "answer", "question_hash").join(means, on=KEY, how="inner", maintain_order="left")
    belief = pl.when(pl.col("confidence") > threshold).then("prediction")
    right = pl.when(pl.col("belief") == pl.col("answer")).then(pl.lit("harmonious")).otherwise(pl.lit("incompatible"))
    return (
        table.with_columns(belief.alias("belief"))
        .with_columns(pl.when(pl.col("belief").is_null()).then(pl.lit("unsure")).otherwise(right).alias("class"))
        .select(pl.col(name).cast(kind) for name, kind in BELIEF_SCHEMA.items())
    )


def check_single(probes: pl.DataFrame, where: str) -> None:
    """Raise a `UserError` unless one base model was probed in one way."""
    if other := [phase for phase in probes["phase"].unique(maintain_order=True) if phase != "base_probe"]:
        raise UserError(
            f"{where}: these are probes of phase {other[0]!r}, but a belief comes from phase 'base_probe' (the base model, "
            "asked few-shot). Name only its logs."
        )
    for name, noun in (("model", "models"), ("run", "runs"), ("scoring", "ways of scoring")):
        if len(values := probes[name].unique(maintain_order=True)) > 1:
            shown = " and ".join(map(repr, values[:2]))
            raise UserError(f"{where}: probes of {len(values)} {noun}: {shown}. Name the logs of one.")


def check_same_questions(questions: pl.DataFrame, probes: pl.DataFrame, folder: str | Path, where: str) -> None:
    """Raise a `UserError` where a probe is of a question that the question set lacks or has in another form."""
    own = questions.select(*KEY, "question_hash")
    probes = probes.select(own.columns)
    strangers = probes.join(own, on=KEY, how="anti", maintain_order="left")
    if strangers.height:
        raise UserError(
            f"{where}: {strangers.height} of {probes.height} probes are of questions that {folder} does not have; the first is "
            f"{_name(strangers)}. Name the question set that was asked."
        )
    changed = probes.join(own, on=KEY, how="inner", suffix="_own", maintain_order="left").filter(
        pl.col("question_hash") != pl.col("question_hash_own")
    )
    if changed.height:
        raise UserError(
            f"{where}: {_name(changed)} was asked with another text, choices or answer than {folder} has (its question_hash "
            f"differs; so do {changed.height - 1} more). Ask again, or name the question set that was asked."
        )


def write_beliefs(table: pl.DataFrame, file: str | Path) -> None:
    """Write a belief table as parquet."""
    with write_file(file) as scratch:
        write_parquet(table, scratch)


def count_beliefs(table: pl.DataFrame) -> pl.DataFrame:
    """Questions by domain, split and class, with mean confidence."""
    return (
        table.group_by("domain", "split", "class")
        .agg(pl.len().alias("questions"), pl.col("confidence").mean().alias("mean confidence"))
        .sort("domain", "split", "class")
    )


def _name(table: pl.DataFrame) -> str:
    row = table.row(0, named=True)
    return f"{row['source']}/{row['domain']} id {row['id']!r}"
