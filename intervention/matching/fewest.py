"""How few questions a condition may have before it is said: what so few can tell, and which belief rule gives more."""

from collections.abc import Iterable, Mapping

import polars as pl

from intervention.believing.thresholds import offer_rules
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.rules import Rule, read_rule

FEWEST = 32  # of fewer questions a share is known to no better than 17 points


def check_size(size: int, asked: int | None, beliefs: pl.DataFrame, kinds: Iterable[str], rule: Rule) -> list[str]:
    """A sentence where conditions are small, which a user has to ask for.

    Args:
        size: questions a condition.
        asked: the size that was asked for.
        beliefs: the belief table of the questions that could be taken.
        kinds: which questions the conditions take, as `vocabulary.QUESTIONS` names them.
        rule: of the beliefs.

    Raises:
        UserError: they are fewer than `FEWEST`, and nobody asked for so few; says what each rule would give.
    """
    if size >= FEWEST:
        return []
    questions = "question" if size == 1 else "questions"
    few = f"only {size} {questions} a condition: a share of so few is known to ± {98 / size**0.5:.0f} points"
    if asked is not None:
        return [f"{few.capitalize()}."]
    sizes = count_sizes(beliefs, kinds)
    told = ", ".join(f"{name} {count}" for name, count in sizes.items() if count)
    enough = [read_rule(name) for name, count in sizes.items() if count >= FEWEST]
    # The paper's kind of rule first, at the level nearest to the one that was asked for.
    best = min(enough, key=lambda one: (one.name != "threshold", abs(one.threshold - rule.threshold)), default=None)
    option = f"--threshold {best.level:g}" if best and best.name == "threshold" else f"--belief-rule {best}"
    take = f"take {option}" if best else "probe more questions"
    raise UserError(
        f"{few}. Of the probed questions each belief rule would leave, before matching and texts: {told or 'none any'} (it is "
        f"{rule} now). To have {FEWEST} or more, {take}; or say that so few are wanted: --size {size}."
    )


def count_sizes(beliefs: pl.DataFrame, kinds: Iterable[str]) -> Mapping[str, int]:
    """The most questions that all conditions could have, by belief rule."""
    kinds = list(kinds)
    return {
        rule: min(found.height if kind == "all" else int((found["class"] == kind).sum()) for kind in kinds)
        for rule, found in offer_rules(beliefs).items()
    }
