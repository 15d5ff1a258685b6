"""Belief rules: which predictions of a base model count as beliefs.

The paper's is an absolute threshold of confidence, 0.5. A real model's probabilities, averaged over the orders of the choices,
rarely pass it, so that other rules are needed; which one is taken is a researcher's choice, and stands in every row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.vocabulary import CLASSES, RULES, THRESHOLD


@dataclass(frozen=True)
class Rule:
    """A belief rule.

    Attributes:
        name: a key of `RULES`.
        level: the confidence above which, the share of presentations in which, or the share of predictions that; None where
            the rule has none.
    """

    name: str = "threshold"
    level: float | None = THRESHOLD

    def __str__(self) -> str:
        """The text that `read_rule` reads: "agreement:0.75"."""
        return self.name if self.level is None else f"{self.name}:{self.level:g}"

    @property
    def sentence(self) -> str:
        """What a belief is by it."""
        return RULES[self.name][1].format(self.level or 0)

    @property
    def threshold(self) -> float:
        """The confidence above which an answer that was given once counts, as after training: 0 where the rule has none."""
        return self.level if self.name == "threshold" and self.level is not None else 0.0


def read_rule(text: str) -> Rule:
    """The rule that a text names: NAME or NAME:LEVEL.

    Raises:
        UserError: an unknown name, a level that is none, or one for a rule that has none.

    >>> read_rule("agreement"), read_rule("threshold:0.4"), str(read_rule("top"))
    (Rule(name='agreement', level=0.75), Rule(name='threshold', level=0.4), 'top')
    """
    name, _, level = text.partition(":")
    if name not in RULES:
        raise UserError(f"--belief-rule {text}: {name!r} is none of {', '.join(RULES)}.")
    usual = RULES[name][0]
    if not level:
        return Rule(name, usual)
    try:
        found = float(level)
    except ValueError:
        raise UserError(f"--belief-rule {text}: {level!r} is not a number. Write {name}:{usual or 0.5:g}.") from None
    if usual is None:
        raise UserError(f"--belief-rule {text}: the rule {name} has no level. Write {name}.")
    if name != "threshold" and not found:
        raise UserError(f"--belief-rule {text}: a level of 0 would count all or none. Write more than 0, or the rule top.")
    if not 0 <= found <= 1:
        raise UserError(f"--belief-rule {text}: {level} is not between 0 and 1.")
    return Rule(name, found)


def make_threshold(value: float) -> Rule:
    """The rule of a threshold of confidence.

    Raises:
        UserError: it is not between 0 and 1.
    """
    if not 0 <= value <= 1:
        raise UserError(f"--threshold {value} is not between 0 and 1. The paper uses 0.5.")
    return Rule("threshold", float(value))


def find_rule(config: Mapping[str, Any]) -> Rule:
    """The rule that the configuration of a set or a run names, or its threshold where it is of a version without rules.

    >>> find_rule({"threshold": 0.6}), find_rule({"belief_rule": "top"}).name
    (Rule(name='threshold', level=0.6), 'top')
    """
    return read_rule(config["belief_rule"]) if config.get("belief_rule") else Rule("threshold", config["threshold"])


def apply_rule(table: pl.DataFrame, rule: Rule) -> pl.DataFrame:
    """Add `belief`, `class`, `belief_rule` and `threshold` to questions.

    Args:
        table: `prediction`, `confidence`, `answer`; for the rule agreement `agreement` and `asked` too, and for quantile
            `domain` and `split`, in each of which the share is taken.
        rule: which predictions count.

    Raises:
        UserError: the rule agreement for questions that were asked once.

    >>> asked = pl.DataFrame({"prediction": [0, 1, 1], "confidence": [0.9, 0.7, 0.4], "answer": [0, 0, 1]})
    >>> apply_rule(asked, Rule())["class"].to_list(), apply_rule(asked, read_rule("top"))["class"].to_list()
    (['right', 'wrong', 'unsure'], ['right', 'wrong', 'right'])
    """
    is_right = pl.col("prediction") == pl.col("answer")
    if rule.name == "agreement":
        if table.height and (table["asked"].max() or 0) < 2:
            raise UserError(
                f"--belief-rule {rule}: every question was asked once, so that nothing can agree. Ask in all orders of the "
                "choices (a task whose name ends in _cyclic), or with several draws of demonstrations."
            )
        counts = pl.col("agreement") >= rule.level - 1e-9
    elif rule.name == "quantile":
        among = ["domain", "split", is_right]
        place = pl.col("confidence").rank("ordinal", descending=True).over(among)
        counts = place <= (pl.len().over(among) * rule.level).round()
    else:
        counts = pl.col("confidence") > rule.threshold
    return mark_beliefs(table, counts, rule)


def mark_beliefs(table: pl.DataFrame, counts: pl.Expr, rule: Rule) -> pl.DataFrame:
    """`apply_rule` where it is known which predictions count."""
    right, wrong, unsure = map(pl.lit, CLASSES)
    table = table.with_columns(
        belief=pl.when(counts).then("prediction"), belief_rule=pl.lit(str(rule)), threshold=pl.lit(float(rule.threshold))
    )
    is_gold = pl.col("belief") == pl.col("answer")
    named = pl.when(pl.col("belief").is_null()).then(unsure).when(is_gold).then(right)
    return table.with_columns(named.otherwise(wrong).alias("class"))
