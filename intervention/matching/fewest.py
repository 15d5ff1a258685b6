"""How few questions a condition may have before it is said: what so few can tell, and which threshold gives more."""

from collections.abc import Iterable, Mapping

import polars as pl

from intervention.believing.thresholds import sweep_thresholds
from lm_eval_tasks.contracts.errors import UserError

FEWEST = 32  # of fewer questions a share is known to no better than 17 points
THRESHOLDS = tuple(i / 20 for i in range(4, 20))


def check_size(size: int, asked: int | None, beliefs: pl.DataFrame, kinds: Iterable[str], threshold: float) -> list[str]:
    """A sentence where conditions are small, which a user has to ask for.

    Args:
        size: questions a condition.
        asked: the size that was asked for.
        beliefs: the belief table of the questions that could be taken.
        kinds: which questions the conditions take, as `vocabulary.QUESTIONS` names them.
        threshold: of the beliefs.

    Raises:
        UserError: they are fewer than `FEWEST`, and nobody asked for so few; says what each threshold would give.
    """
    if size >= FEWEST:
        return []
    questions = "question" if size == 1 else "questions"
    few = f"only {size} {questions} a condition: a share of so few is known to ± {98 / size**0.5:.0f} points"
    if asked is not None:
        return [f"{few.capitalize()}."]
    sizes = count_sizes(beliefs, kinds)
    told = ", ".join(f"{value:g}: {count}" for value, count in sizes.items() if count)
    enough = [value for value, count in sizes.items() if count >= FEWEST]
    best = min(enough, key=lambda value: abs(value - threshold)) if enough else None
    take = f"take --threshold {best:g}" if best is not None else "probe more questions"
    raise UserError(
        f"{few}. Of the probed questions each threshold would leave, before matching and texts: {told or 'none any'} (it is "
        f"{threshold:g} now). To have {FEWEST} or more, {take}; or say that so few are wanted: --size {size}."
    )


def count_sizes(beliefs: pl.DataFrame, kinds: Iterable[str]) -> Mapping[float, int]:
    """The most questions that all conditions could have, by threshold."""
    kinds = list(kinds)
    return {
        row["threshold"]: min(beliefs.height if kind == "all" else row[kind] for kind in kinds)
        for row in sweep_thresholds(beliefs, THRESHOLDS).iter_rows(named=True)
    }
