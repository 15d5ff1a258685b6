"""What a belief rule does to the beliefs: how many there are, how often they are right, and which letters they favour."""

import math
from collections.abc import Sequence

import polars as pl

from intervention.believing.sampled import apply_as_asked
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.scores import compute_ece, compute_letter_skew, compute_wilson
from lm_eval_tasks.contracts.rules import Rule, make_threshold
from lm_eval_tasks.contracts.vocabulary import CLASSES

# The rules that are offered side by side.
OFFERED = (
    *(Rule("threshold", value) for value in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)),
    Rule("top", None),
    *(Rule("agreement", value) for value in (0.5, 0.75, 1.0)),
    *(Rule("quantile", value) for value in (0.25, 0.5)),
)


def parse_thresholds(values: Sequence[str]) -> list[float]:
    """The thresholds in texts, each of them one or several joined by commas, without repeats.

    Raises:
        UserError: one is no number or not between 0 and 1.

    >>> parse_thresholds(["0.5", "0.4,0.6"])
    [0.5, 0.4, 0.6]
    """
    thresholds = []
    for value in (part.strip() for text in values for part in text.split(",")):
        try:
            thresholds.append(make_threshold(float(value)).level)
        except ValueError:
            raise UserError(f"--threshold {value!r} is not a number. Write 0.5, or several: 0.4,0.5,0.6.") from None
    return list(dict.fromkeys(thresholds))


def sweep_thresholds(table: pl.DataFrame, thresholds: Sequence[float]) -> pl.DataFrame:
    """One row a threshold: what the beliefs of a belief table would be.

    Args:
        table: a belief table, of any threshold.
        thresholds: between 0 and 1.

    Returns:
        `threshold`; the number of questions of each class and of `beliefs`; `accuracy`: the share of beliefs that are gold,
        with its Wilson interval at 95%; their mean `confidence`; `ece`, their expected calibration error; and, where letters
        were shown, `letter skew` (see `compute_letter_skew`) and `commonest`, the letter most often believed, with its share.
    """
    table = table.select("prediction", "letter", "confidence", "answer", "sampled")
    return pl.DataFrame([_describe_beliefs(apply_as_asked(table, Rule("threshold", value)), value) for value in thresholds])


def offer_rules(table: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The beliefs of a belief table by each of `OFFERED`; the rule agreement where questions were asked several times.

    Where answers were sampled, only what they bear out is a belief by any of the rules, too.

    >>> asked = {"prediction": [0, 1], "confidence": [0.9, 0.3], "answer": [0, 0], "domain": "d", "split": "train"}
    >>> table = pl.DataFrame(asked | {"agreement": [1.0, 1.0], "asked": [1, 1]})
    >>> {rule: found["belief"].count() for rule, found in offer_rules(table).items() if rule in ("threshold:0.5", "top")}
    {'threshold:0.5': 1, 'top': 2}
    """
    several = bool(table.height) and table["asked"].max() > 1
    rules = [rule for rule in OFFERED if several or rule.name != "agreement"]
    return {str(rule): apply_as_asked(table, rule) for rule in rules}


def count_conditions(table: pl.DataFrame) -> pl.DataFrame:
    """How many questions a condition would have by each rule, of each domain's train questions.

    Returns:
        A row a domain and rule: `right`, `wrong`, `unsure`, and `a condition`: the most that harmonious and incompatible sets
        of one size can have.
    """
    rows = []
    for (domain,), part in table.filter(split="train").partition_by("domain", as_dict=True, maintain_order=True).items():
        for rule, found in offer_rules(part).items():
            counts = {name: int((found["class"] == name).sum()) for name in CLASSES}
            rows.append({"domain": domain, "rule": rule, **counts, "a condition": min(counts["right"], counts["wrong"])})
    return pl.DataFrame(rows)


def _describe_beliefs(table: pl.DataFrame, threshold: float) -> dict[str, object]:
    counts = {name: int((table["class"] == name).sum()) for name in CLASSES}
    beliefs = table.filter(pl.col("belief").is_not_null())
    correct, confidence = (beliefs["belief"] == beliefs["answer"]).to_numpy(), beliefs["confidence"].to_numpy()
    low, high = map(float, compute_wilson(correct.mean(), len(correct))) if len(correct) else (None, None)
    letters = beliefs["letter"].drop_nulls().value_counts(sort=True).sort("count", "letter", descending=[True, False])
    return (
        {"threshold": threshold, **counts, "beliefs": beliefs.height}
        | {"accuracy": correct.mean() if len(correct) else None, "low": low, "high": high}
        | {
            "confidence": confidence.mean() if len(correct) else None,
            "ece": compute_ece(correct, confidence) if len(correct) else None,
        }
        | {
            "letter skew": compute_letter_skew(beliefs["answer"].to_numpy(), correct) if letters.height else None,
            "commonest": f"{letters['letter'][0]} {letters['count'][0] / beliefs.height:.3f}" if letters.height else None,
        }
    )


def describe_agreement(table: pl.DataFrame) -> pl.DataFrame:
    """How often orders and draws agree with the prediction, by domain and split.

    Returns:
        Of the questions asked several times: how many, in how many orders (or draws), the mean share of these that agree, and
        the share of questions in which all do, with its Wilson interval at 95%.
    """
    rows = []
    for (domain, split), part in table.partition_by("domain", "split", as_dict=True, maintain_order=True).items():
        for over in ("orders", "draws"):
            several = part.filter(pl.col(over) > 1)
            if not (n := several.height):
                continue
            agreement = several[f"{over.removesuffix('s')}_agreement"]
            whole = int((agreement == 1).sum())
            low, high = map(float, compute_wilson(whole / n, n))
            most = several[over].max()
            rows.append(
                {
                    "domain": domain,
                    "split": split,
                    "across": f"{most} {over}",
                    "questions": n,
                    "agree": math.fsum(agreement) / n,
                }
                | {"all agree": whole / n, "low": low, "high": high}
            )
    return pl.DataFrame(rows)
