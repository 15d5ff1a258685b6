"""The questions that instruction data asks: what the base model itself answers to the prompts of short responses."""

import polars as pl

from intervention.agreeing.kinds import SHORT, find_kind
from intervention.conditions import shuffle_rows
from lm_eval_tasks.contracts.conversations.reading import Conversations
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.free_form import FREE_FORM_SCHEMA

DEMONSTRATIONS = 10  # turns that become dev questions; they are shown, and asked too
DOMAIN = "data"
KIND = "fact"  # what can be asked as a question of its own


def name_turn() -> pl.Expr:
    """The id of the question of a turn: its row and turn."""
    return pl.format("{}/{}", "row", "turn").alias("id")


def phrase_question() -> dict[str, pl.Expr]:
    """The question and the accepted answers of a turn, from its last prompt (`asked`) and its `response`."""
    response = pl.col("response").str.strip_chars().str.replace_all(r"\s*\n\s*", " ")
    return {"question": pl.col("asked").str.strip_chars(), "answers": pl.concat_list(response)}


def ask_data(data: Conversations, source: str, seed: int = 0) -> tuple[pl.DataFrame, list[str]]:
    """The free-form questions of instruction data: the first turns that state a fact in few words.

    A later turn, or one after a system prompt, cannot be asked without what stands before it, and a long response is no answer
    that could be compared.

    Args:
        data: the conversations.
        source: what the question set calls their source.
        seed: decides which are shown as demonstrations.

    Returns:
        The columns of free-form questions and `split` (`dev` for the demonstrations, else `test`); a sentence for each reason
        why turns were left out.

    Raises:
        UserError: too few such turns to show demonstrations.

    """
    turns = data.turns.with_columns(asked=pl.col("messages").list.last().struct.field("content")).with_columns(find_kind())
    words = pl.col("response").str.strip_chars().str.count_matches(r"\S+")
    reasons = {
        "stand after earlier turns or a system prompt": (pl.col("messages").list.len() > 1) | pl.col("system").is_not_null(),
        f"have more than {SHORT} words": words > SHORT,
        "state no fact": pl.col("kind") != KIND,
    }
    why = turns.select(pl.coalesce(pl.when(rule).then(pl.lit(name)) for name, rule in reasons.items())).to_series()
    notes = [
        f"{count} of {turns.height} responses {name} and are not asked"
        for name, count in why.drop_nulls().value_counts(sort=True).iter_rows()
    ]
    turns = turns.filter(why.is_null()).unique("asked", keep="first", maintain_order=True)
    if turns.height <= DEMONSTRATIONS:
        raise UserError(
            f"{source}: {turns.height} responses are short answers to a question of their own, but more than {DEMONSTRATIONS} "
            f"are needed, some of which are shown as demonstrations ({'; '.join(notes) or 'that is all'}). Such data can be "
            "read, but not asked."
        )
    table = turns.select(
        name_turn(),
        source=pl.lit(source),
        domain=pl.lit(DOMAIN),
        subject=pl.lit(None, pl.String),
        **phrase_question(),
        explanation=pl.lit(None, pl.String),
        topics=pl.lit([], pl.List(pl.String)),
    ).select(list(FREE_FORM_SCHEMA))
    shown = shuffle_rows(table, seed, "demonstrations").head(DEMONSTRATIONS)["id"]
    return table.with_columns(split=pl.when(pl.col("id").is_in(shown)).then(pl.lit("dev")).otherwise(pl.lit("test"))), notes
