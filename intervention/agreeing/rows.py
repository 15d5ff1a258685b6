"""The row table: one row a turn of instruction data, with all that was measured of it."""

import polars as pl

from intervention.agreeing.kinds import find_kind
from intervention.agreeing.measures import MEASURES, measure_readings
from lm_eval_tasks.contracts.conversations.reading import Conversations
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.readings import PROMPTS

TURN = ("row", "turn")
JUDGING = ("chat", "in_context")  # the prompts whose conflicts are evidence; `alone` is what the others are compared with


def make_rows(data: Conversations, readings: pl.LazyFrame, folder: str, tokens: dict[int, str]) -> pl.DataFrame:
    """The row table of instruction data.

    Args:
        data: the conversations.
        readings: of their responses, as `readings.scan_readings` gives them.
        folder: where the readings are, for errors.
        tokens: what the ids of tokens stand for.

    Returns:
        One row a turn: `row, turn, id, text_hash, asked` (the last user message), `response, kind, flaws`, the measures under
        each prompt that was read (`surprisal_nats_chat`, ...), and

        - `ifd`: the surprisal of the response in the chat over that of it alone (instruction-following difficulty, Li et al.
          2024, arXiv 2308.12032): small where the prompt tells much of the response;
        - `conflict`: whether the model overrules the response at one place under both judging prompts;
        - `conflict_start`, `conflict_end`, `expected`: that place in characters, and what the model held for most probable
          there.

    Raises:
        UserError: the readings are of other data, or not of all of it.
    """
    measures = measure_readings(readings, data.turns)
    check_same(data.turns, measures, folder)
    prompts = [prompt for prompt in PROMPTS if prompt in measures["prompt"].unique()]
    wide = data.turns.select(*TURN, "text_hash", "response", asked=pl.col("messages").list.last().struct.field("content"))
    wide = wide.with_columns(find_kind())
    for prompt in prompts:
        own = measures.filter(prompt=prompt).select(*TURN, pl.col("whole", *MEASURES).name.suffix(f"_{prompt}"))
        wide = wide.join(own, on=TURN, how="left", maintain_order="left")
    if {"chat", "alone"} <= {*prompts}:
        wide = wide.with_columns(ifd=pl.col("surprisal_nats_chat") / pl.col("surprisal_nats_alone"))
    names = pl.DataFrame(
        {"preferred": list(tokens), "expected": list(tokens.values())}, schema={"preferred": pl.UInt32, "expected": pl.String}
    )
    if {*JUDGING} <= {*prompts}:
        wide = find_conflicts(wide).join(names, on="preferred", how="left", maintain_order="left").drop("preferred")
    flaws = data.flaws.filter(pl.col("turn").is_not_null()).group_by(TURN).agg(pl.col("flaw").unique().sort().alias("flaws"))
    wide = wide.join(flaws, on=TURN, how="left", maintain_order="left").with_columns(pl.col("flaws").fill_null([]))
    ids = data.rows.select("row", id=data.ids)
    return wide.join(ids, on="row", how="left", maintain_order="left").select(*TURN, "id", pl.exclude(*TURN, "id"))


def find_conflicts(rows: pl.DataFrame) -> pl.DataFrame:
    """Add `conflict`, where it is, and `preferred` (the token that the model expected there)."""
    starts, ends = ([pl.col(f"span_{side}_{prompt}") for prompt in JUDGING] for side in ("start", "end"))
    begins, stops = pl.max_horizontal(starts), pl.min_horizontal(ends)
    both = pl.all_horizontal(column.is_not_null() for column in starts) & (begins < stops)
    first = pl.col(f"preferred_{JUDGING[0]}")
    return rows.with_columns(
        conflict=both,
        conflict_start=pl.when(both).then(begins),
        conflict_end=pl.when(both).then(stops),
        preferred=pl.when(both).then(first),
    )


def check_same(turns: pl.DataFrame, measures: pl.DataFrame, folder: str) -> None:
    """Raise a `UserError` where readings are not of these turns, each once under each prompt."""
    for (prompt,), part in measures.group_by("prompt", maintain_order=True):
        same = part.select(*TURN, "text_hash").equals(turns.select(*TURN, "text_hash"))
        if same:
            continue
        strange = part.join(turns, on=(*TURN, "text_hash"), how="anti")
        if strange.height:
            row = strange.row(0, named=True)
            raise UserError(
                f"{folder} holds readings of other data: row {row['row']}, turn {row['turn']} has another text there "
                f"({strange.height} of {part.height} turns have). Read this data: python -m lm_eval_tasks read DATA ..."
            )
        raise UserError(
            f"{folder} holds {part.height} turns under the prompt {prompt}, but the data has {turns.height}. Read it again."
        )
