"""What an answer is: right, wrong or unsure, before training and after."""

import polars as pl

THRESHOLD = 0.5  # of confidence, above which a prediction is a belief
STATES = ("right", "wrong", "unsure")


def add_states(measures: pl.DataFrame) -> pl.DataFrame:
    """Add what a belief was and became.

    Args:
        measures: as in `results.Study`.

    Returns:
        The table with `confidence_before`, `state_before` and `state` (one of `STATES`); null where the base was not asked.
    """
    before = pl.col("probs_before").list.max()
    return measures.with_columns(
        confidence_before=before,
        state_before=_name_state(before, pl.col("prediction_before")),
        state=_name_state(pl.col("confidence"), pl.col("prediction")),
    )


def _name_state(confidence: pl.Expr, prediction: pl.Expr) -> pl.Expr:
    right = pl.when(prediction == pl.col("answer")).then(pl.lit("right")).otherwise(pl.lit("wrong"))
    return pl.when(confidence > THRESHOLD).then(right).when(confidence.is_not_null()).then(pl.lit("unsure"))
