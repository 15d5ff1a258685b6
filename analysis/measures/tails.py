"""What a mean of an unbounded metric hides: its median, its trimmed mean, and the values that it leaves out as infinite."""

import math
from collections.abc import Sequence

import polars as pl

from analysis.measures.metrics import BOUNDS

TRIMMED = 0.1  # cut from each end
TAIL_SCHEMA = pl.Schema(
    {"metric": pl.String, "median": pl.Float64, "trimmed": pl.Float64, "infinite": pl.Int64, "all": pl.Int64}
)


def summarise_tails(measures: pl.DataFrame, by: Sequence[str], metrics: Sequence[str]) -> pl.DataFrame:
    """Median and trimmed mean of all answers of a group, infinite ones too, for each metric without a greatest value.

    Args:
        measures: a row an answer; null where a metric does not exist.
        by: columns that make a group.
        metrics: of which those with a greatest value get no row.

    Returns:
        `by`, then `TAIL_SCHEMA`. `trimmed` leaves out `TRIMMED` of the answers at each end; `infinite` counts those of `all`.

    >>> table = pl.DataFrame({"kl_nats": [*range(18), 900.0, math.inf]}, strict=False)
    >>> summarise_tails(table, (), ("kl_nats",)).row(0)
    ('kl_nats', 9.5, 9.5, 1, 20)
    """
    parts = []
    for metric in (m for m in metrics if math.isinf(BOUNDS[m][1])):
        value = pl.col(metric).cast(pl.Float64)
        cut = (pl.len() * TRIMMED).floor().cast(pl.Int64)
        told = (
            measures.filter(value.is_not_null() & value.is_not_nan())
            .group_by(by or pl.lit(0).alias("_all"))
            .agg(
                metric=pl.lit(metric),
                median=value.median(),
                trimmed=value.sort().slice(cut, pl.len() - 2 * cut).mean(),
                infinite=value.is_infinite().sum().cast(pl.Int64),
                all=pl.len().cast(pl.Int64),
            )
        )
        parts.append(told.select(*by, *TAIL_SCHEMA.names()))
    return pl.concat(parts)
