"""What an answer is: right, wrong or unsure, before training and after, by the threshold of the study's own beliefs."""

from collections.abc import Iterable

import polars as pl

from lm_eval_tasks.contracts.vocabulary import CLASSES

STATES = CLASSES


def add_states(measures: pl.DataFrame) -> pl.DataFrame:
    """Add what a belief was and became: a prediction is a belief where its confidence is above the row's `threshold`.

    Args:
        measures: as in `study.Study`.

    Returns:
        The table with `confidence_before`, `state_before` and `state` (one of `STATES`); null where the base was not asked.

    >>> columns = {"answer": 0, "prediction": 1, "confidence": 0.6, "prediction_before": 0, "threshold": [0.5, 0.65]}
    >>> table = pl.DataFrame({**columns, "probs_before": [[0.7, 0.3], [0.6, 0.4]]})
    >>> add_states(table).select("state_before", "state").rows()
    [('right', 'wrong'), ('unsure', 'unsure')]
    """
    before = pl.col("probs_before").list.max()
    return measures.with_columns(
        confidence_before=before,
        state_before=_name_state(before, pl.col("prediction_before")),
        state=_name_state(pl.col("confidence"), pl.col("prediction")),
    )


def rank_state(column: str) -> pl.Expr:
    """Where the states of a column stand in `STATES`; null for what is none."""
    return pl.col(column).replace_strict(STATES, range(len(STATES)), default=None)


def name_thresholds(thresholds: Iterable[float]) -> str:
    """The thresholds that some rows were told by, as sentences name them.

    >>> name_thresholds([0.5, 0.5]), name_thresholds([0.6, 0.5, 0.6])
    ('0.5', '0.5 or 0.6')
    """
    told = sorted(set(thresholds))
    every = "0, so of every answer: the belief rule has no threshold" if 0 in told else ""
    return " or ".join(filter(None, [every, *(f"{threshold:g}" for threshold in told if threshold)]))


def _name_state(confidence: pl.Expr, prediction: pl.Expr) -> pl.Expr:
    right, wrong, unsure = (pl.lit(state) for state in STATES)
    belief = pl.when(prediction == pl.col("answer")).then(right).otherwise(wrong)
    return pl.when(confidence > pl.col("threshold")).then(belief).when(confidence.is_not_null()).then(unsure)
