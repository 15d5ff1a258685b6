"""From questions and the choices that answer them to the rows of an instruction set."""

from collections.abc import Sequence

import polars as pl

from intervention.conditions import shuffle_rows
from lm_eval_tasks.contracts.prompts import LETTERS, SCORING, write_hint, write_response, write_user_turn
from lm_eval_tasks.contracts.questions import rotate_choices

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
        "order": pl.Int64,  # by how much the choices are rotated: shown[i] = own[(i + order) mod n]
        "confidence": pl.Float64,  # of the base model's prediction
        "belief_rule": pl.String,  # by which it is a belief (see `contracts.rules`); the same in all rows of a set
        "threshold": pl.Float64,  # above which it is one; 0 where the rule has none
        "score": pl.String,  # which log-likelihoods of choices confidence is of (`vocabulary.SCORES`); of letters the sum
        "match": pl.String,  # what the conditions of the set are alike in; null in general instructions
        "explanation_from": pl.String,  # `gold` or `model`; null where the response has no explanation
        "contradicts": pl.Boolean,  # whether the explanation states another letter or choice; null where it states none
        "question_hash": pl.String,
    }
)
# The index of a choice among those that the prompt shows.
SHOWN = {
    name: (pl.col(name) - pl.col("order")) % pl.col("choices").list.len().cast(pl.Int64)
    for name in ("answer", "belief", "choice")
}


def add_turns(table: pl.DataFrame, response_format: str) -> pl.DataFrame:
    """Add `turn`: what the user says.

    Args:
        table: the question columns, `order` (by how much the choices are rotated), and `context` (knowledge that comes before
            the question, or null).
        response_format: `letter` (the choices are listed) or `text` (they are not).
    """
    shown = table.select("question", "choices", "order", "context")
    if (shown["order"] != 0).any():
        shown = rotate_choices(shown, pl.col("order"))
    turns = [write_user_turn(doc, SCORING[response_format], doc["context"]) for doc in shown.iter_rows(named=True)]
    return table.with_columns(turn=pl.Series(turns, dtype=pl.String))


def write_instructions(table: pl.DataFrame, response_format: str) -> pl.DataFrame:
    """The rows of an instruction set, in the order of the questions.

    Args:
        table: the question columns, `question_hash`, and `choice` (index of the response), `belief` (index, or null),
            `confidence`, `belief_rule`, `threshold`, `score`, `match`, `condition`, `ratio`, `order` (by how much the choices
            are rotated), `reason` (the explanation in the response, or null), `explanation_from`, `contradicts`, `turn` (what
            the user says).
        response_format: `letter` or `text`.
    """
    responses = write_responses(table, response_format)
    flags = {f"agrees_with_{name}": pl.col("choice") == pl.col(of) for name, of in (("belief", "belief"), ("gold", "answer"))}
    rows = name_letters(table, response_format).with_columns(response_format=pl.lit(response_format), **flags)
    return shape_rows(rows, table["turn"], responses)


def write_responses(table: pl.DataFrame, response_format: str) -> list[str]:
    """What the assistant says, a row a question; the columns `choice`, `choices`, `order` and `reason` decide."""
    texts = table.select("reason", choice=SHOWN["choice"], says=pl.col("choices").list.get("choice")).iter_rows()
    return [write_response(choice, text, reason, response_format) for reason, choice, text in texts]


def give_away(table: pl.DataFrame, response_format: str) -> pl.DataFrame:
    """The rows with a turn that holds the whole response before the question, after its context if it has one."""
    hints = pl.Series("hint", map(write_hint, write_responses(table, response_format)), dtype=pl.String)
    context = pl.concat_str("context", hints, separator="\n\n", ignore_nulls=True)
    return add_turns(table.with_columns(context), response_format)


def name_letters(table: pl.DataFrame, response_format: str) -> pl.DataFrame:
    """Add `gold_letter`, `belief_letter` and `response_letter` as the prompt shows them; null where it lists no choices."""
    columns = (("gold", "answer"), ("belief", "belief"), ("response", "choice"))
    lettered = SCORING[response_format] == "letter"
    return table.with_columns(
        (_name_letter(SHOWN[column]) if lettered else pl.lit(None, dtype=pl.String)).alias(f"{name}_letter")
        for name, column in columns
    )


def _name_letter(choice: pl.Expr) -> pl.Expr:
    return choice.replace_strict(dict(enumerate(LETTERS)), default=None, return_dtype=pl.String)


def shuffle_positions(own: int, general: int, seed: int) -> pl.Series:
    """The order of `own` rows and `general` ones behind them in one table.

    It is random and decided only by their numbers and the seed, so that it is the same in every condition.
    """
    positions = pl.Series("position", range(own + general)).cast(pl.String).to_frame()
    return shuffle_rows(positions, seed, "places", ["position"])["position"].cast(pl.Int64)


def shape_rows(table: pl.DataFrame, turns: Sequence[str] | pl.Series, responses: Sequence[str] | pl.Series) -> pl.DataFrame:
    """Rows of `INSTRUCTION_SCHEMA`: a user turn and a response each, beside the columns of the table."""
    return table.with_columns(prompt=_write_message("user", turns), completion=_write_message("assistant", responses)).select(
        pl.col(name).cast(kind) for name, kind in INSTRUCTION_SCHEMA.items()
    )


def _write_message(role: str, texts: Sequence[str] | pl.Series) -> pl.Series:
    """A conversation of one message a text."""
    content = pl.Series("content", texts, dtype=pl.String)
    message = content.to_frame().select(pl.struct(pl.lit(role).alias("role"), "content").alias("message"))
    return message.select(pl.concat_list("message")).to_series()
