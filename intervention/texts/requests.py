"""From questions and beliefs to the requests file of the generation tasks: which questions, and which answer to explain."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from intervention.believing.beliefs import read_beliefs
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import write_file, write_parquet
from lm_eval_tasks.contracts.logs.generations import ORIGINS, REQUEST_SCHEMA
from lm_eval_tasks.contracts.questions import read_questions
from lm_eval_tasks.contracts.vocabulary import KEY


def request_explanations(
    questions: str | Path, probes: Sequence[str | Path], domain: str, answers: str = "belief", threshold: float = 0.5
) -> pl.DataFrame:
    """Which answers a base model is to explain (`REQUEST_SCHEMA`), in the order of the question set.

    Args:
        questions: the question set.
        probes: sample logs and probe tables of the base model.
        domain: whose train questions are used.
        answers: `belief`: the model's wrong beliefs, which self_aligning answers with; `gold`: gold of every probed question.
        threshold: a prediction is a belief where its confidence is greater.

    Raises:
        UserError: what `read_beliefs` finds wrong, an unknown domain, another word for `answers`, nothing to ask for.
    """
    if answers not in ORIGINS:
        raise UserError(f"--answers {answers} is neither belief nor gold.")
    table = _join_beliefs(_read_train(questions, domain), questions, probes, threshold)
    if answers == "belief":
        table = _keep_incompatible(table, domain, threshold)
    return _shape_requests(table.with_columns(response="belief" if answers == "belief" else "answer"), answers)


def request_contexts(
    questions: str | Path, domain: str, probes: Sequence[str | Path] = (), threshold: float = 0.5
) -> pl.DataFrame:
    """Which questions need their background knowledge written (`REQUEST_SCHEMA`), in the order of the question set.

    Args:
        questions: the question set.
        domain: whose train questions are used.
        probes: where given, only the questions on which the base model that they are of has a wrong belief.
        threshold: a prediction is a belief where its confidence is greater.

    Raises:
        UserError: as `request_explanations`.
    """
    table = _read_train(questions, domain)
    if probes:
        table = _keep_incompatible(_join_beliefs(table, questions, probes, threshold), domain, threshold)
    return _shape_requests(table.with_columns(response=pl.lit(None)), None)


def write_requests(table: pl.DataFrame, file: str | Path) -> None:
    """Write a requests file (parquet)."""
    with write_file(file) as scratch:
        write_parquet(table, scratch)


def _read_train(questions: str | Path, domain: str) -> pl.DataFrame:
    return read_questions(questions, [domain], ["train"])


def _join_beliefs(table: pl.DataFrame, questions: str | Path, probes: Sequence[str | Path], threshold: float) -> pl.DataFrame:
    beliefs, _ = read_beliefs(questions, probes, threshold)
    table = table.join(beliefs.select(*KEY, "belief", "class"), on=KEY, how="inner", maintain_order="left")
    if not table.height:
        raise UserError(
            f"{', '.join(map(str, probes))}: no train question of the domain was probed. Ask them: "
            """--metadata '{"splits": ["train"]}'."""
        )
    return table


def _keep_incompatible(table: pl.DataFrame, domain: str, threshold: float) -> pl.DataFrame:
    wrong = table.filter(pl.col("class") == "incompatible")
    if not wrong.height:
        raise UserError(
            f"the model has no wrong belief about the {table.height} probed train questions of {domain} (--threshold "
            f"{threshold:g}), so there is nothing to ask for. Lower --threshold, or probe more questions."
        )
    return wrong


def _shape_requests(table: pl.DataFrame, origin: str | None) -> pl.DataFrame:
    table = table.with_columns(response_from=pl.lit(origin, dtype=pl.String))
    return table.select(pl.col(name).cast(kind) for name, kind in REQUEST_SCHEMA.items())
