"""The headline in plain words: what the contrasts of one study say, how sure it is, and what could have been found."""

from typing import Any, NamedTuple

import polars as pl

from analysis.chapters.contrasts import REFERENCE, is_found
from analysis.measures.intervals import limit_difference
from analysis.showing.labels import TESTS, name_condition, name_split
from analysis.showing.tables import DASH, DETECTABLE, Table, format_detectable, format_interval, format_number, format_p

HEADLINES = ("self_aligning", "harmonious", "contextualized")
# What two conditions do, as the two sides of "... beat ...".
_DEEDS = {
    "self_aligning": ("Repeating the model's own wrong answers", "teaching it the right ones"),
    "harmonious": ("Training on what the model already knew", "teaching it what it had wrong"),
    "contextualized": ("Teaching with the knowledge at hand", "teaching without it"),
}
VERDICTS = {
    "clear": "significant after correction",
    "these seeds": "clear over the questions; too few seeds to say it of seeds in general",
    "none": "no difference found",
}


class Finding(NamedTuple):
    """One contrast, put into words."""

    verdict: str  # a key of VERDICTS
    split: str
    contrast: str  # "self-aligning − incompatible"
    points: str  # "+13.6"
    interval: str
    n: str
    sentence: str


def judge(row: dict[str, Any]) -> str:
    """The verdict on a contrast: by its corrected p-value, and by the one that takes these seeds as given."""
    if is_found(row):
        return "clear"
    return "these seeds" if row["seeds"] > 1 and is_found(row, "p_holm_questions") else "none"


def describe_contrast(row: dict[str, Any]) -> Finding:
    """Say one row of the accuracy contrasts in words."""

    def points(name: str, sign: bool = False) -> str:
        return format_number(100 * row[name], 1, sign)

    these, split = name_condition(row["condition"], row["ratio"]), name_split(row["split"])
    size = format_number(abs(100 * row["difference"]), 1)
    side = "above" if row["difference"] > 0 else "below"
    interval = f"{points('low', True)} to {points('high', True)}"
    over_questions = f"{points('low_questions', True)} to {points('high_questions', True)}"
    seeds = f"{row['seeds']} seed{'s' if row['seeds'] > 1 else ''}"
    test = f"corrected p {'' if row['p_holm'] < 0.001 else '= '}{format_p(row['p_holm'])}"
    count = f"{row['n']:,} questions, {seeds}"
    verdict = judge(row)
    if verdict == "clear":
        sentence = f"{these} is {size} points {side} {REFERENCE} on {split} (95% interval {interval}; {test}; {count})."
    elif verdict == "these seeds":
        sentence = (
            f"{these} is {size} points {side} {REFERENCE} on {split} in these runs (95% interval over questions "
            f"{over_questions}; {count}). {row['seeds']} seeds are too few to say it of seeds in general: "
            f"{interval} before correction, {test}."
        )
    else:
        found = f"The smallest difference that this design finds in 80% of repetitions is {points('mde')} points."
        if row["mde"] > limit_difference(row["metric"]):
            found = "No difference that is possible would be found in 80% of repetitions of this design."
        sentence = (
            f"no difference found between {these} and {REFERENCE} on {split}: {points('difference', True)} points (95% "
            f"interval {interval}; {test}; {count}). {found}"
        )
    contrast = f"{these} − {row['reference']}"
    n = f"{row['n']:,}" + (
        f"; finds {points('mde')}" if verdict == "none" and row["mde"] <= limit_difference(row["metric"]) else ""
    )
    return Finding(verdict, split, contrast, points("difference", True), interval, n, sentence[0].upper() + sentence[1:])


def list_findings(contrasts: pl.DataFrame) -> list[list[Finding | None]]:
    """The paper's headline contrasts of accuracy in the chat prompt: a row a condition, a place for each of `TESTS`."""
    part = contrasts.filter(phase="tuned_chat", metric="accuracy")
    rows = {(row["condition"], row["split"]): describe_contrast(row) for row in part.iter_rows(named=True)}
    found = [[rows.get((condition, split)) for split in TESTS] for condition in HEADLINES]
    return [row for row in found if any(row)]


def write_headline(contrasts: pl.DataFrame) -> tuple[str, str]:
    """The study's headline, and the sentence with its uncertainty: the first of the paper's contrasts there is, on HOMO."""
    part = contrasts.filter(phase="tuned_chat", metric="accuracy", split="homo")
    for condition in HEADLINES:
        found = part.filter(condition=condition)
        if not found.height:
            continue
        row = found.row(0, named=True)
        finding, (this, that) = describe_contrast(row), _DEEDS[condition]
        if finding.verdict == "none":
            return f"{this} or {that}: no difference found", finding.sentence
        first, second = (this, that) if row["difference"] > 0 else (that[:1].upper() + that[1:], this[:1].lower() + this[1:])
        where = " in these runs" if finding.verdict == "these seeds" else ""
        return f"{first} beat {second} by {abs(100 * row['difference']):.1f} points{where}", finding.sentence
    wanted = ", ".join(name_condition(condition, None) for condition in HEADLINES)
    sentence = f"It takes chat samples on HOMO of runs trained on {REFERENCE} and on one of {wanted}."
    return "No headline contrast can be drawn", sentence


def tabulate_headline(contrasts: pl.DataFrame) -> Table:
    """The paper's headline comparisons by split as one table: accuracy in the chat prompt; what lacks is a row of dashes."""
    part = contrasts.filter(pl.col("ratio").is_null(), phase="tuned_chat", metric="accuracy")
    studies = part.select("model", "domain").unique(maintain_order=True).rows()
    rows, named = [], len(studies) > 1
    for model, domain in studies:
        cells = {(row["condition"], row["split"]): row for row in part.filter(model=model, domain=domain).iter_rows(named=True)}
        for condition in HEADLINES:
            for split in TESTS:
                words = [model, domain] if named else []
                words += [f"{name_condition(condition, None)} − {REFERENCE}", name_split(split)]
                row = cells.get((condition, split))
                rows.append(words + (_list_cells(row) if row else [DASH] * 10))
    header = [*(["base model", "domain"] if named else []), "contrast", "split", "difference", "95% interval", "over questions"]
    header += ["Cohen's h", "p", "p (Holm)", "p (BH)", "detectable", "n", "seeds"]
    note = (
        "Interval: over questions, and over seeds where there are several. Over questions: the seeds taken as given. Cohen's "
        "h: the effect size of a difference of shares. p (Holm) and p (BH): corrected over all accuracy contrasts in the chat "
        "prompt, those not shown here too. " + DETECTABLE + " A row of dashes: no run of the condition, or of the "
        "reference, was asked this, or the two have no seed in common."
    )
    where = f" ({studies[0][0]}, {studies[0][1]})" if len(studies) == 1 else ""
    title = f"The headline comparisons: accuracy against {REFERENCE} training{where}"
    return Table("headline", title, header, rows, note, left=4 if named else 2)


def _list_cells(row: dict[str, Any]) -> list[str]:
    numbers = [format_number(row["difference"], sign=True), format_interval(row, sign=True)]
    numbers += [format_interval(row, "low_questions", "high_questions", sign=True), format_number(row["effect"], 2, sign=True)]
    tests = [format_p(row[name]) for name in ("p", "p_holm", "p_bh")]
    detectable = DASH if is_found(row) else format_detectable(row)
    n = f"{row['n']:,}" if row["n"] == row["n_reference"] else f"{row['n']:,} / {row['n_reference']:,}"
    return [*numbers, *tests, detectable, n, str(row["seeds"])]
