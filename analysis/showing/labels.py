"""How tables and titles name rows, contrasts and studies; the words themselves are the project's (`contracts.vocabulary`)."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from lm_eval_tasks.contracts.vocabulary import BASE, PHASES, name_condition

PRIMARY = " (primary)"  # what follows the name of the contrast that was named beforehand


def name_row(condition: str, ratio: float | None, phase: str) -> str:
    """What a row of a table or figure is called: a condition, and the base model by how it was asked.

    >>> name_row("mix", 0.4, "tuned_chat"), name_row("base", None, "base_chat")
    ('mix 0.4', 'base model, chat prompt')
    """
    return PHASES[phase] if condition == BASE else name_condition(condition, ratio)


def name_contrast(row: Mapping[str, Any]) -> str:
    """A condition less the reference: "self-aligning − incompatible"."""
    return f"{name_condition(row['condition'], row['ratio'])} − {row['reference']}"


def tell_primary(contrasts: pl.DataFrame) -> str:
    """What a note says where a table holds the contrast that was named beforehand; else nothing."""
    held = contrasts.height and contrasts["primary"].any()
    return "The primary contrast was named beforehand and is corrected apart from all others. " if held else ""


def name_part(frame: pl.DataFrame) -> str:
    """What a title adds where all rows are of one base model and one trained domain."""
    models, domains = frame["model"].unique(), frame["domain"].unique()
    return f" ({models[0]}, {domains[0]})" if len(models) == len(domains) == 1 else ""


def choose_rows(frame: pl.DataFrame, phase: str) -> pl.DataFrame:
    """The tuned models in a phase, below the base model asked again and asked in the chat prompt."""
    base = frame.filter(pl.col("phase").is_in(["base_again", "base_chat"]), condition=BASE)
    return pl.concat([base, frame.filter(pl.col("condition") != BASE, phase=phase)])
