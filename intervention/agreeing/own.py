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


def shape_questions(table: pl.DataFrame, source: str) -> pl.DataFrame:
    """Free-form questions of instruction data (`FREE_FORM_SCHEMA`), from their `id, question, answers`."""
    empty = (pl.lit(None, pl.String).alias(name) for name in ("subject", "explanation"))
    table = table.with_columns(*empty, source=pl.lit(source), domain=pl.lit(DOMAIN), topics=pl.lit([], pl.List(pl.String)))
    return table.select(pl.col(name).cast(kind) for name, kind in FREE_FORM_SCHEMA.items())


def find_turns(data: Conversations) -> pl.DataFrame:
    """The turns of instruction data with `asked` (the last user message), `kind`, and `why` a turn cannot be asked as it is.

    A later turn, or one after a system prompt, cannot be asked without what stands before it, and a long response is no answer
    that could be compared; `why` is null of the others.
    """
    turns = data.turns.with_columns(asked=pl.col("messages").list.last().struct.field("content")).with_columns(find_kind())
    words = pl.col("response").str.strip_chars().str.count_matches(r"\S+")
    reasons = {
        "stand after earlier turns or a system prompt": (pl.col("messages").list.len() > 1) | pl.col("system").is_not_null(),
        f"have more than {SHORT} words": words > SHORT,
        "state no fact": pl.col("kind") != KIND,
    }
    return turns.with_columns(why=pl.coalesce(pl.when(rule).then(pl.lit(name)) for name, rule in reasons.items()))


def ask_data(
    data: Conversations, source: str, seed: int = 0, claims: pl.DataFrame | None = None
) -> tuple[pl.DataFrame, list[str]]:
    """The free-form questions of instruction data: the first turns that state a fact in few words, and claims of others.

    Args:
        data: the conversations.
        source: what the question set calls their source.
        seed: decides which are shown as demonstrations.
        claims: what other responses state, as `claims.read_claims` gives it.

    Returns:
        The columns of free-form questions and `split` (`dev` for the demonstrations, else `test`); a sentence for each reason
        why turns were left out.

    Raises:
        UserError: too few questions to show demonstrations.

    """
    turns = find_turns(data)
    notes = [
        f"{count} of {turns.height} responses {name} and are not asked as they are"
        for name, count in turns["why"].drop_nulls().value_counts(sort=True).iter_rows()
    ]
    turns = turns.filter(pl.col("why").is_null()).unique("asked", keep="first", maintain_order=True)
    table = shape_questions(turns.select(name_turn(), **phrase_question()), source)
    if claims is not None:
        table = pl.concat([table, claims]).unique("question", keep="first", maintain_order=True)
    if table.height <= DEMONSTRATIONS:
        raise UserError(
            f"{source}: {table.height} responses are short answers to a question of their own, but more than {DEMONSTRATIONS} "
            f"are needed, some of which are shown as demonstrations ({'; '.join(notes) or 'that is all'}). Have a model write "
            "what long responses state (requests claims), or read such data without asking it."
        )
    shown = shuffle_rows(table, seed, "demonstrations").head(DEMONSTRATIONS)["id"]
    return table.with_columns(split=pl.when(pl.col("id").is_in(shown)).then(pl.lit("dev")).otherwise(pl.lit("test"))), notes
