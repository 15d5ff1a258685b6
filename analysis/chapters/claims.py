"""The paper's claims, and one that is newer: what the units of a study say of each, where there are several units.

A unit is a base model in a trained domain, such as a miniature world with the base that was pretrained in it. Each counts
once, by the mean over its seeds, and the interval is over units, so that it speaks of other base models and domains.

1 to 5: Ren et al. 2024 (arXiv 2402.18243). 6: Shenfeld et al. 2025, "RL's Razor": what training moves on its own prompts
predicts what is lost elsewhere.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import scipy

from analysis.chapters.chapter import Chapter, Computed, Frames, Whole
from analysis.chapters.curves import PHASE
from analysis.chapters.partial import gather_runs
from analysis.chapters.units import average_units, find_shared_questions
from analysis.measures.differences import ALPHA, correct_tests
from analysis.measures.keys import PART
from analysis.showing.formats import DASH, format_interval, format_number, format_p
from analysis.showing.tables import Notes, Table
from lm_eval_tasks.contracts.vocabulary import CONDITIONS, NEW_SETS, REFERENCE, name_set

FEWEST_RUNS = 4
HOLDS, REVERSED, OPEN = "holds", "the reverse", "not decided"
CLAIM_SCHEMA = pl.Schema(
    {"number": pl.Int64, "claim": pl.String, "quantity": pl.String, "split": pl.String}
    | dict.fromkeys(("value", "least", "greatest", "low", "high", "p", "p_holm", "p_bh"), pl.Float64)
    | {"above": pl.Int64, "n": pl.Int64, "verdict": pl.String, "note": pl.String}
)
Values = pl.DataFrame  # a row a unit: `model`, `domain`, `value`


class Claim(NamedTuple):
    """A claim holds on an evaluation set if its quantity is above 0 there, in the mean over units."""

    number: int
    text: str
    quantity: str
    measure: Callable[[Frames, str], Values]


def take_contrast(condition: str) -> Callable[[Frames, str], Values]:
    """A condition's accuracy in the chat prompt less that of incompatible training."""

    def measure(frames: Frames, split: str) -> Values:
        asked = frames["contrasts"].filter(phase=PHASE, split=split, metric="accuracy")
        rows = asked.filter(condition=condition, reference=REFERENCE.name)
        return rows.select(*PART, value="difference")

    return measure


def take_gain(frames: Frames, split: str) -> Values:
    """The best mix less the better end, the mix chosen and estimated apart (see `optimum`)."""
    return frames["optima"].filter(pl.col("gain").is_not_null(), phase=PHASE, split=split).select(*PART, value="gain")


def correlate_consistency(frames: Frames, split: str) -> Values:
    """Spearman's correlation of consistency and accuracy over a unit's runs, whose base model is the same throughout."""
    runs = gather_runs(frames["results"]).filter(split=split)
    return correlate_within(runs, lambda part: rank(part, "consistency", "after"))


def compare_predictors(frames: Frames, split: str) -> Values:
    """How much closer KL on the trained prompts goes with what is lost few-shot than the share of trained rows given does.

    The difference of two absolute values of Spearman's correlation over a unit's runs.
    """
    results, run = frames["results"], (*PART, "run")
    before = results.filter(phase="base_probe", split=split, metric="accuracy").select(*PART, before="value")
    after = results.filter(phase="tuned_probe", split=split, metric="accuracy").select(*run, after="value")
    moved = results.filter(phase=PHASE, split="seen", metric="kl_nats").select(*run, kl="value")
    runs = after.join(before, on=PART).join(moved, on=run).join(frames["fit"].select(*run, "given"), on=run)
    runs = runs.with_columns(lost=pl.col("before") - pl.col("after"))
    return correlate_within(runs, lambda part: abs(rank(part, "kl", "lost")) - abs(rank(part, "given", "lost")))


def correlate_within(runs: pl.DataFrame, compute: Callable[[pl.DataFrame], float]) -> Values:
    """A number of the runs of each unit; units whose runs are few or do not vary are left out."""
    rows = []
    for (model, domain), part in runs.drop_nulls().group_by(PART, maintain_order=True):
        value = compute(part) if part.height >= FEWEST_RUNS else float("nan")
        rows += [{"model": model, "domain": domain, "value": value}] if np.isfinite(value) else []
    return pl.DataFrame(rows, schema=dict.fromkeys(PART, pl.String) | {"value": pl.Float64})


def rank(runs: pl.DataFrame, first: str, second: str) -> float:
    """Spearman's correlation of two columns; not a number where one does not vary."""
    if any(runs[name].n_unique() < 2 for name in (first, second)):
        return float("nan")
    return float(scipy.stats.spearmanr(runs[first], runs[second]).statistic)


CLAIMS = (
    *(
        Claim(number, f"{CONDITIONS[name].label} beats {REFERENCE.label}", "difference of accuracy", take_contrast(name))
        for number, name in enumerate(("harmonious", "self_aligning", "contextualized"), start=1)
    ),
    Claim(4, "some mix beats both ends", "gain of accuracy", take_gain),
    Claim(5, "consistency goes with accuracy, of one base model", "rank correlation over runs", correlate_consistency),
    Claim(
        6,
        "KL on trained prompts tells what is lost few-shot better than how well they are learnt",
        "difference of two rank correlations",
        compare_predictors,
    ),
)


def examine_claims(whole: Whole) -> pl.DataFrame:
    """`CLAIM_SCHEMA`: a row a claim and evaluation set, where a study has two units or more.

    `value`: the mean over `n` units, of which `above` lie above 0; Student's t interval over them, where they share neither a
    base model nor questions. P-values are corrected over all rows; the verdict is by the corrected one, at 5%.
    """
    if whole.frames["contrasts"].select(PART).n_unique() < 2:
        return pl.DataFrame(schema=CLAIM_SCHEMA)
    rows = list(_examine(whole.frames, whole.study.bases, find_shared_questions(whole.study.measures)))
    table = pl.DataFrame(rows, schema=CLAIM_SCHEMA).with_columns(pl.col("low", "high").clip(-1, 1))
    table = table.with_columns(correct_tests(table["p"]).get_columns())
    clear = (pl.col("p_holm") < ALPHA).fill_null(False)
    above = pl.when(pl.col("value") > 0).then(pl.lit(HOLDS)).otherwise(pl.lit(REVERSED))
    verdict = pl.when(clear).then(above).otherwise(pl.lit(OPEN))
    return table.with_columns(verdict=verdict).select(CLAIM_SCHEMA.names())


def _examine(frames: Frames, bases: Mapping[str, str], shared: set[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    for claim in CLAIMS:
        for split in NEW_SETS:
            values = claim.measure(frames, split).with_columns(pl.col("model").replace(bases))
            units = values.group_by(PART, maintain_order=True).agg(pl.col("value").mean())
            if units.height < 2:
                continue
            shares = {"a base model": units["model"].n_unique() < units.height, "questions": (PHASE, split) in shared}
            told = average_units(units["value"].to_numpy(), [what for what, does in shares.items() if does])
            kept = {name: told[name] for name in ("least", "greatest", "low", "high", "p", "above", "note")}
            who = {"number": claim.number, "claim": claim.text, "quantity": claim.quantity, "split": split}
            yield who | {"n": units.height, "value": told["difference"]} | kept


def tabulate_claims(claims: pl.DataFrame) -> Table:
    """What the units say of each claim."""
    notes, rows = Notes(), []
    for row in claims.iter_rows(named=True):
        interval = format_interval(row, sign=True) if row["low"] is not None else DASH
        numbers = [format_number(row[name], sign=True) for name in ("value", "least", "greatest")]
        counts = [f"{row['above']} of {row['n']}"]
        words = [f"{row['number']}. {row['claim']}", name_set(row["split"]), row["verdict"], row["quantity"]]
        rows.append([*words, numbers[0], interval, format_p(row["p_holm"]), *numbers[1:], *counts, notes.mark(row["note"])])
    header = ["claim", "split", "verdict", "quantity", "mean", "95% interval", "p (Holm)", "least", "greatest", "above 0"]
    note = (
        "A unit is a base model in a trained domain, and counts once. Mean and Student's t interval over units; p corrected "
        "over all rows, and the verdict by it. Accuracy in the chat prompt, but in 6, where what is lost is few-shot. 1 to 5: "
        "Ren et al. 2024; 6: Shenfeld et al. 2025."
    )
    return Table("claims", "Claims, over base models and domains", [*header, "note"], rows, note + notes.write(), left=4)


CHAPTER = Chapter(
    compute=lambda whole: Computed({"claims": examine_claims(whole)}),
    across=lambda frames: [tabulate_claims(frames["claims"])],
)
