"""What `agree` prints: how many turns have each verdict, by what they differ, and which to look at first."""

from collections.abc import Sequence

import polars as pl

from intervention.agreeing.verdicts import VERDICTS
from lm_eval_tasks.contracts.conversations.reading import Conversations
from lm_eval_tasks.contracts.logs.scores import compute_wilson

GROUPED_BY = ("source", "dataset", "category", "topic", "subject", "domain", "task", "type")  # columns that data often has
MOST_GROUPS = 12
FIRST = 10  # turns that are shown
WIDTH = 60  # characters of a text in a table


def share_verdicts(rows: pl.DataFrame, by: Sequence[str] = ()) -> pl.DataFrame:
    """The share of each verdict with its Wilson interval at 95%, of all turns or of each group.

    Args:
        rows: the row table with `verdict`.
        by: columns that name groups.

    Returns:
        `by`, `verdict, share, low, high, turns, n`: n is how many turns the group has.
    """
    totals = rows.group_by(by, maintain_order=True).len("n") if by else rows.select(pl.len().alias("n"))
    words = pl.DataFrame({"verdict": list(VERDICTS)})
    counts = rows.group_by(*by, "verdict").len("turns")
    table = totals.join(words, how="cross").join(
        counts, on=[*by, "verdict"], how="left", nulls_equal=True, maintain_order="left"
    )
    table = table.with_columns(pl.col("turns").fill_null(0))
    share = (table["turns"] / table["n"]).to_numpy()
    low, high = compute_wilson(share, table["n"].to_numpy())
    values = {"share": share, "low": low, "high": high}
    return table.with_columns(pl.Series(name, value) for name, value in values.items()).select(
        *by, "verdict", "share", "low", "high", "turns", "n"
    )


def find_groups(data: Conversations) -> list[str]:
    """The columns of the data by which its turns can be told apart: of `GROUPED_BY`, those with a few values of text."""
    return [
        name for name in GROUPED_BY if data.rows.schema.get(name) == pl.String and 1 < data.rows[name].n_unique() <= MOST_GROUPS
    ]


def list_first(rows: pl.DataFrame, verdict: str = "clashes") -> pl.DataFrame:
    """The turns of a verdict that a person should look at first: `id, asked, response, belief` and what says it."""
    found = sort_confident(rows.filter(verdict=verdict)).head(FIRST)
    expected = (
        pl.coalesce(name for name in ("belief", "expected") if name in rows.columns)
        if {"belief", "expected"} & {*rows.columns}
        else pl.lit(None, pl.String)
    )
    shown = (pl.col(name).str.replace_all(r"\s+", " ").str.slice(0, WIDTH) for name in ("asked", "response"))
    return found.select("id", *shown, expected.alias("the model"), evidence=pl.col("evidence").list.join(", "))


def sort_confident(rows: pl.DataFrame) -> pl.DataFrame:
    """Turns of one verdict, those of which the model is most sure first."""
    order = list_confidence(rows)
    return rows.sort(order, descending=True, nulls_last=True, maintain_order=True) if order else rows


def list_confidence(rows: pl.DataFrame) -> list[str]:
    """The columns that tell how sure the model is, the one that counts most first, of those that a row table has."""
    return [name for name in ("belief_share", "excess_nats_in_context", "excess_nats_chat") if name in rows.columns]
