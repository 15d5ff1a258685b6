"""From questions and beliefs to the requests file of the generation tasks: which questions, and which answer to explain."""

from pathlib import Path

import polars as pl

from intervention.believing.source import Source, read_beliefs
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import write_file, write_parquet
from lm_eval_tasks.contracts.logs.requests import ORIGINS, REQUEST_SCHEMA
from lm_eval_tasks.contracts.questions import read_questions
from lm_eval_tasks.contracts.vocabulary import KEY


def request_explanations(questions: Path, beliefs: Source, domain: str, answers: str = "belief") -> pl.DataFrame:
    """Which answers a base model is to explain (`REQUEST_SCHEMA`), in the order of the question set.

    Args:
        questions: the question set.
        beliefs: what the base model believes.
        domain: whose train questions are used.
        answers: `belief`: the model's wrong beliefs, which self_aligning answers with; `gold`: gold of every probed question.

    Raises:
        UserError: what `read_beliefs` finds wrong, an unknown domain, another word for `answers`, nothing to ask for.
    """
    if answers not in ORIGINS:
        raise UserError(f"--answers {answers} is neither belief nor gold.")
    table = _join_beliefs(questions, domain, beliefs)
    if answers == "belief":
        table = _keep_wrong(table, domain)
    return _shape_requests(table.with_columns(response="belief" if answers == "belief" else "answer"), answers)


def request_contexts(questions: Path, domain: str, beliefs: Source | None = None) -> pl.DataFrame:
    """Which questions need their background knowledge written (`REQUEST_SCHEMA`), in the order of the question set.

    Args:
        questions: the question set.
        domain: whose train questions are used.
        beliefs: where given, only the questions on which the base model that they are of has a wrong belief.

    Raises:
        UserError: as `request_explanations`.
    """
    if beliefs:
        table = _keep_wrong(_join_beliefs(questions, domain, beliefs), domain)
    else:
        table = read_questions(questions, [domain], ["train"])
    return _shape_requests(table.with_columns(response=pl.lit(None)), None)


def write_requests(table: pl.DataFrame, file: str | Path) -> None:
    """Write a requests file (parquet)."""
    with write_file(file) as scratch:
        write_parquet(table, scratch)


def _join_beliefs(questions: Path, domain: str, source: Source) -> pl.DataFrame:
    train = read_questions(questions, [domain], ["train"])
    beliefs = read_beliefs(read_questions(questions), questions, source)
    columns = ("belief", "class", "belief_rule")
    table = train.join(beliefs.table.select(*KEY, *columns), on=KEY, how="inner", maintain_order="left")
    if not table.height:
        raise UserError(
            f"{source.name}: no train question of the domain was probed. Ask them: "
            """--metadata '{"splits": ["train"]}'."""
        )
    return table


def _keep_wrong(table: pl.DataFrame, domain: str) -> pl.DataFrame:
    wrong = table.filter(pl.col("class") == "wrong")
    if not wrong.height:
        raise UserError(
            f"the model has no wrong belief about the {table.height} probed train questions of {domain} (by the rule "
            f"{table['belief_rule'][0]}), so there is nothing to ask for. Take another --belief-rule, or probe more."
        )
    return wrong


def _shape_requests(table: pl.DataFrame, origin: str | None) -> pl.DataFrame:
    table = table.with_columns(response_from=pl.lit(origin, dtype=pl.String))
    return table.select(pl.col(name).cast(kind) for name, kind in REQUEST_SCHEMA.items())
