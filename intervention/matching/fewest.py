"""How few questions a condition may have before it is said: what so few can tell, and which belief rule gives more."""

from collections.abc import Iterable, Mapping

import polars as pl

from intervention.believing.sampled import split_rule
from intervention.believing.thresholds import offer_rules
from intervention.conditions import Pools, count_pools
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.rules import Rule, read_rule

FEWEST = 32  # of fewer questions a share is known to no better than 17 points


def check_pools(pools: Pools, asked: int | None, beliefs: pl.DataFrame, rule: Rule) -> None:
    """Raise a `UserError` where there are too few questions before anything is matched, which says what each rule would give.

    Args:
        pools: the questions that each kind of condition can take.
        asked: the size that was asked for.
        beliefs: the belief table of the questions that could be taken.
        rule: of the beliefs.
    """
    largest = min(pool.height for pool in pools.values())
    if largest and not (asked and asked > largest):
        return
    told, wanted = f"of the train questions there are {count_pools(pools)}", max(asked or FEWEST, 1)
    start = (
        f"no set can be built: {told}" if not largest else f"--size {asked}: {told}, so a size from 1 to {largest} is possible"
    )
    raise UserError(f"{start}. {tell_rules(beliefs, pools, rule, wanted)}.")


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
    raise UserError(f"{few}. {tell_rules(beliefs, kinds, rule, FEWEST)}; or say that so few are wanted: --size {size}.")


def tell_rules(beliefs: pl.DataFrame, kinds: Iterable[str], rule: Rule, wanted: int) -> str:
    """How many questions a condition each belief rule would leave, and which one gives as many as are wanted."""
    sizes = count_sizes(beliefs, kinds)
    told = ", ".join(f"{name} {count}" for name, count in sizes.items() if count)
    own = split_rule(rule)[0]  # that sampled answers bear a belief out, each rule asks for where this one does
    enough = [read_rule(name) for name, count in sizes.items() if count >= wanted]
    # The paper's kind of rule first, at the level nearest to the one that was asked for.
    best = min(enough, key=lambda one: (one.name != "threshold", abs(one.threshold - own.threshold)), default=None)
    option = f"--threshold {best.level:g}" if best and best.name == "threshold" else f"--belief-rule {best}"
    return (
        f"Of the probed questions each belief rule would leave, before matching and texts: {told or 'none any'} (it is {rule} "
        f"now). To have {wanted} or more, {f'take {option}' if best else 'probe more questions'}"
    )


def count_sizes(beliefs: pl.DataFrame, kinds: Iterable[str]) -> Mapping[str, int]:
    """The most questions that all conditions could have, by belief rule."""
    kinds = list(kinds)
    return {
        rule: min(found.height if kind == "all" else int((found["class"] == kind).sum()) for kind in kinds)
        for rule, found in offer_rules(beliefs).items()
    }
