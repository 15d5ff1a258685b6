"""From questions and the choices that answer them to the rows of an instruction set."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from intervention.conditions import shuffle_rows
from intervention.jsonlines import read_jsonl
from intervention.questions import share_letters
from lm_eval_tasks.manifest import UserError
from lm_eval_tasks.prompts import LETTERS, SCORING, write_response, write_user_turn
from lm_eval_tasks.questions import KEY, check_rows, check_unique, rotate_choices

MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
INSTRUCTION_SCHEMA = pl.Schema(
    {
        "prompt": MESSAGES,
        "completion": MESSAGES,
        "id": pl.String,
        "source": pl.String,
        "domain": pl.String,
        "condition": pl.String,
        "ratio": pl.Float64,
        "response_format": pl.String,
        "agrees_with_belief": pl.Boolean,
        "agrees_with_gold": pl.Boolean,
        "gold_letter": pl.String,  # as the prompt shows them; null where it lists no choices
        "belief_letter": pl.String,
        "response_letter": pl.String,
        "order": pl.Int64,  # by how much the choices are turned: shown[i] = own[(i + order) mod n]
        "confidence": pl.Float64,  # of the base model's prediction
        "explanation_from": pl.String,  # `gold` or `model`; null where the response has no explanation
        "contradicts": pl.Boolean,  # whether the explanation states another letter or choice; null where it states none
        "question_hash": pl.String,
    }
)
GENERAL = "general"
GENERAL_SCHEMA = pl.Schema({"instruction": pl.String, "input": pl.String, "output": pl.String})
CONTEXT_SCHEMA = pl.Schema(dict.fromkeys((*KEY, "context"), pl.String))


def write_instructions(table: pl.DataFrame, response_format: str) -> pl.DataFrame:
    """The rows of an instruction set, in the order of the questions.

    Args:
        table: the question columns, `question_hash`, and `choice` (index of the response), `belief` (index, or null),
            `confidence`, `condition`, `ratio`, `order` (by how much the choices are turned), `reason` (explanation in the
            response, or null), `explanation_from`, `contradicts`, `context` (knowledge in the prompt, or null).
        response_format: `letter` (the choices are listed) or `text` (they are not).
    """
    scoring = SCORING[response_format]
    n = pl.col("choices").list.len().cast(pl.Int64)
    shown = rotate_choices(table, pl.col("order")).with_columns(
        (pl.col(name) - pl.col("order")) % n for name in ("answer", "belief", "choice")
    )
    turns, responses = [], []
    for doc in shown.select("question", "choices", "choice", "reason", "context").iter_rows(named=True):
        turns.append(write_user_turn(doc, scoring, doc["context"]))
        responses.append(write_response(doc, doc["choice"], doc["reason"], response_format))
    letters = {
        f"{name}_letter": _name_letter(column) if scoring == "letter" else pl.lit(None)
        for name, column in (("gold", "answer"), ("belief", "belief"), ("response", "choice"))
    }
    flags = {f"agrees_with_{name}": pl.col("choice") == pl.col(of) for name, of in (("belief", "belief"), ("gold", "answer"))}
    return _shape_rows(shown.with_columns(response_format=pl.lit(response_format), **flags, **letters), turns, responses)


def _name_letter(column: str) -> pl.Expr:
    return pl.col(column).replace_strict(dict(enumerate(LETTERS)), default=None, return_dtype=pl.String)


def read_general(file: str | Path, count: int, seed: int, response_format: str) -> pl.DataFrame:
    """`count` random general instructions as rows of an instruction set: condition `general`, null flags.

    Args:
        file: JSON lines with `instruction`, `input` (may be missing or blank) and `output`.
        count: how many are taken.
        seed: decides which.
        response_format: the format in which the set answers questions; the column has one value in a set.

    Raises:
        UserError: the file cannot be read, a row is blank, or there are too few.
    """
    table = read_jsonl(file, GENERAL_SCHEMA).with_row_index("id", offset=1).with_columns(pl.col("id").cast(pl.String))
    for name in ("instruction", "output"):
        blank = pl.col(name).fill_null("").str.strip_chars() == ""
        check_rows(table, blank, name, "is blank; write it or drop the row", file)
    if table.height < count:
        raise UserError(
            f"{file} has {table.height} general instructions, but {count} are wanted. Add some, or lower --general-share or "
            "--size."
        )
    table = shuffle_rows(table, seed, GENERAL, ["id"]).head(count)
    given = pl.col("input").fill_null("")
    turn = pl.when(given.str.strip_chars() == "").then("instruction").otherwise(pl.col("instruction") + "\n\n" + given)
    shared = {
        "domain": GENERAL,
        "condition": GENERAL,
        "response_format": response_format,
        "source": Path(file).name.split(".")[0],
    }
    empty = {name: pl.lit(None) for name in INSTRUCTION_SCHEMA if name not in (*shared, "id")}
    rows = table.with_columns(**empty, **{name: pl.lit(value) for name, value in shared.items()})
    return _shape_rows(rows, table.select(turn).to_series(), table["output"])


def read_contexts(file: str | Path, questions: pl.DataFrame) -> pl.DataFrame:
    """The context of each question: `source, domain, id, context`.

    Args:
        file: JSON lines with these columns.
        questions: the question set; a context of another question is an error.

    Raises:
        UserError: the file cannot be read, a context is blank, of no question, or the second of a question.
    """
    table = read_jsonl(file, CONTEXT_SCHEMA)
    known = table.join(questions.select(KEY).with_columns(_known=True), on=KEY, how="left", maintain_order="left")
    blank = pl.col("context").fill_null("").str.strip_chars() == ""
    check_rows(table, blank, "context", "is blank; write it or drop the row", file)
    complaint = "is of no question of the question set (source, domain and id count); name its own contexts"
    check_rows(known, pl.col("_known").is_null(), "id", complaint, file)
    check_unique(table, file)
    return table


def interleave_rows(own: pl.DataFrame, general: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Both tables in one, in a random order that only their sizes and the seed decide: the same in every condition."""
    places = pl.Series("place", range(own.height + general.height)).cast(pl.String).to_frame()
    return pl.concat([own, general])[shuffle_rows(places, seed, "places", ["place"])["place"].cast(pl.Int64)]


def describe_balance(tables: Mapping[str, pl.DataFrame], general: int) -> pl.DataFrame:
    """One row a condition: its size, mean confidence, agreement, and the shares of the letters of gold and of the responses.

    Args:
        tables: name of a condition -> its questions, with `choice`, `belief` and `confidence`.
        general: how many general instructions each of them has beside.
    """
    widest = max(tables.values(), key=lambda table: table["choices"].list.len().max() or 0)
    return pl.concat(
        table.select(
            pl.lit(label).alias("condition"),
            pl.len().alias("questions"),
            pl.lit(general).alias("general"),
            pl.col("confidence").mean().alias("confidence"),
            (pl.col("choice") == pl.col("belief")).mean().alias("= belief"),
            (pl.col("choice") == pl.col("answer")).mean().alias("= gold"),
            *share_letters(widest, "answer", "gold"),
            *share_letters(widest, "choice", "says"),
        )
        for label, table in tables.items()
    )


def _shape_rows(table: pl.DataFrame, turns: Sequence[str] | pl.Series, responses: Sequence[str] | pl.Series) -> pl.DataFrame:
    return table.with_columns(prompt=_write_message("user", turns), completion=_write_message("assistant", responses)).select(
        pl.col(name).cast(kind) for name, kind in INSTRUCTION_SCHEMA.items()
    )


def _write_message(role: str, texts: Sequence[str] | pl.Series) -> pl.Series:
    """A conversation of one message a text."""
    content = pl.Series("content", texts, dtype=pl.String)
    message = content.to_frame().select(pl.struct(pl.lit(role).alias("role"), "content").alias("message"))
    return message.select(pl.concat_list("message")).to_series()
