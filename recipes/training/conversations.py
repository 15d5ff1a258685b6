"""Anybody's instruction data as rows to train: one a response, with all that stands before it as its prompt."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from lm_eval_tasks.contracts.conversations.reading import Conversations
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.vocabulary import INSTRUCTION_DATA
from recipes.training.masks import MASKED, list_spans

if TYPE_CHECKING:
    from datasets import Dataset

WEIGHT = "weight"  # the column that says how much of a row's loss counts, and that of what is trained
MESSAGE = pl.Struct({"role": pl.String, "content": pl.String})


def make_own_rows(data: Conversations) -> "Dataset":
    """The turns of conversations as rows: `id` (the row's, and its turn where that is not the first), `prompt`, `completion`,
    `condition`; `weight` (its row's) and `masked` (of this turn, which is turn 0 of what is trained) where the data has them.

    So a conversation of several turns is several rows, and each response is trained once, under all that was said before.

    Raises:
        UserError: a mask that is no list of spans.
    """
    from datasets import Dataset

    system = pl.concat_list(pl.struct(role=pl.lit("system"), content="system").cast(MESSAGE))
    prompt = pl.when(pl.col("system").is_null()).then("messages").otherwise(system.list.concat("messages"))
    completion = pl.concat_list(pl.struct(role=pl.lit("assistant"), content="response").cast(MESSAGE))
    turns = data.turns.join(data.rows.select("row", id=data.ids), on="row", how="left", maintain_order="left")
    named = pl.when(pl.col("turn") == 0).then("id").otherwise(pl.format("{}/{}", "id", "turn")).alias("id")
    rows = turns.select(named, prompt=prompt, completion=completion, condition=pl.lit(INSTRUCTION_DATA))
    where = data.turns.select("row", "turn")
    own = {name: data.rows[name].to_list() for name in (WEIGHT, MASKED) if name in data.rows.columns}
    trained = Dataset.from_polars(rows)
    if WEIGHT in own:
        trained = trained.add_column(WEIGHT, [own[WEIGHT][row] for row in where["row"]])
    if MASKED in own:
        trained = trained.add_column(MASKED, [_find_masks(data, own[MASKED], *turn) for turn in where.iter_rows()])
    return trained


def _find_masks(data: Conversations, masks: list[Any], row: int, turn: int) -> list[dict[str, Any]]:
    """The spans that a row masks of one of its turns."""
    spans = list_spans({MASKED: masks[row]})
    if not all(isinstance(span, Mapping) and type(span.get("turn")) is int for span in spans):
        raise UserError(
            f"{data.name_row(row)} has {repr(masks[row])[:80]} as {MASKED}. Write a list of {{turn, start, end}}, or leave the "
            "column out."
        )
    return [{**span, "turn": 0} for span in spans if span["turn"] == turn]


def name_data(config: Mapping[str, Any]) -> str:
    """How a run's data is called: the config of an instruction set, else the file, folder or data set.

    >>> name_data({"dataset": "data/alpaca.json", "dataset_config": None})
    'alpaca'
    """
    return config["dataset_config"] or Path(config["dataset"]).stem
