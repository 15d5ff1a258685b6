"""The file that asks a model to write: what is asked for, of which question or response.

`python -m intervention requests` writes it, and the tasks of `generations.TASKS` ask it.
"""

from pathlib import Path
from typing import Literal

import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.free_form import FREE_FORM, FREE_FORM_SCHEMA, MULTIPLE_CHOICE
from lm_eval_tasks.contracts.questions import QUESTION_SCHEMA, check_rows, name_question
from lm_eval_tasks.contracts.vocabulary import KEY

Kind = Literal["explanation", "context", "claims"]
COMMANDS: dict[Kind, str] = {
    "explanation": "requests explain",
    "context": "requests context",
    "claims": "requests claims",
}
ORIGINS = ("belief", "gold")

REQUEST_SCHEMA = pl.Schema(
    dict(QUESTION_SCHEMA)
    | {
        "split": pl.String,
        "question_hash": pl.String,
        "response": pl.Int64,  # index of the choice to explain; null where a context is asked for
        "response_from": pl.String,  # whose answer that choice is, `belief` or `gold`; null likewise
    }
)
# What a response of instruction data states is asked for as of a free-form question, whose answer the response is.
CLAIM_REQUEST_SCHEMA = pl.Schema(dict(FREE_FORM_SCHEMA) | {"question_hash": pl.String})


def read_requests(path: str | Path, kind: Kind) -> pl.DataFrame:
    """Read a requests file (`REQUEST_SCHEMA`, or, of claims, `CLAIM_REQUEST_SCHEMA`), checked.

    Args:
        path: a parquet file that `python -m intervention requests` wrote, or a folder of them.
        kind: what is asked for.

    Raises:
        UserError: nothing there, not such a file, a question that breaks the contract or differs from its hash, a response
            that is no choice, a question asked for twice.
    """
    path = Path(path)
    remedy = f"`python -m intervention {COMMANDS[kind]}` writes one"
    files = [path] if path.is_file() else sorted(path.glob("*.parquet"))
    if not files:
        raise UserError(f"{path} is neither a requests file (.parquet) nor a folder of them; {remedy}.")
    table = pl.concat(_read_request_file(file, kind, remedy) for file in files)
    asked = KEY if kind == "claims" else [*KEY, "response"]
    if (twice := table.filter(pl.struct(asked).is_duplicated())).height:
        raise UserError(
            f"{path}: {name_question(twice.row(0, named=True))} is asked for more than once. Name one requests file."
        )
    return table


def _read_request_file(file: Path, kind: Kind, remedy: str) -> pl.DataFrame:
    try:
        table = pl.read_parquet(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{file} is not a parquet file that can be read ({error}); {remedy}.") from error
    schema, questions = (CLAIM_REQUEST_SCHEMA, FREE_FORM) if kind == "claims" else (REQUEST_SCHEMA, MULTIPLE_CHOICE)
    if missing := [name for name in schema if name not in table.columns]:
        raise UserError(f"{file} has no column {missing[0]!r}, so it is no requests file; {remedy}.")
    rest = [name for name in schema if name not in questions.schema]
    table = questions.check(table, file).hstack(table.select(pl.col(name).cast(schema[name]) for name in rest))
    if not table.height:
        raise UserError(f"{file} asks for nothing; {remedy}.")
    if kind == "context":
        table = table.with_columns(response=pl.lit(None, pl.Int64), response_from=pl.lit(None, pl.String))
    elif kind == "explanation":
        response, n = pl.col("response"), pl.col("choices").list.len()
        check_rows(table, response.is_null(), "response", f"is missing, but an explanation is of a choice; {remedy}", file)
        wrong = (response < 0) | (response >= n)
        check_rows(table, wrong, "response", f"is not the 0-based index of a choice; {remedy}", file)
        strange = ~pl.col("response_from").is_in(ORIGINS)
        check_rows(table, strange, "response_from", f"is neither belief nor gold; {remedy}", file)
    own = table.with_columns(questions.hash(table).alias("_own"))
    complaint = "is not the hash of this question's text and answers: the file was changed, or is of another version"
    check_rows(own, pl.col("_own").ne_missing(pl.col("question_hash")), "question_hash", f"{complaint}; {remedy}", file)
    return table
