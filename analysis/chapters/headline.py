"""The headline in plain words: what the contrasts of one study say, how sure it is, and what could have been found."""

from typing import Any, NamedTuple

import polars as pl

from analysis.chapters.chapter import AGAINST, Chapter, Frames
from analysis.measures.differences import is_found, limit_difference
from analysis.measures.keys import PART
from analysis.showing.formats import (
    DASH,
    DETECTABLE,
    format_detectable,
    format_interval,
    format_number,
    format_p,
    format_sizes,
)
from analysis.showing.labels import name_contrast, name_part
from analysis.showing.tables import Table
from lm_eval_tasks.contracts.vocabulary import CONDITIONS, NEW_SETS, REFERENCE, name_condition, name_set

HEADLINES = sorted((c for c in CONDITIONS.values() if c.headline is not None), key=lambda c: c.headline)
VERDICTS = {
    "clear": "significant after correction",
    "these seeds": "clear over the questions; too few seeds to say it of seeds in general",
    "none": "no difference found",
}


class Finding(NamedTuple):
    """One contrast, put into words."""

    verdict: str  # a key of VERDICTS
    evaluation: str  # "HOMO"
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

    these, asked = name_condition(row["condition"], row["ratio"]), name_set(row["split"])
    size = format_number(abs(100 * row["difference"]), 1)
    side = "above" if row["difference"] > 0 else "below"
    interval = f"{points('low', True)} to {points('high', True)}"
    over_questions = f"{points('low_questions', True)} to {points('high_questions', True)}"
    seeds = f"{row['seeds']} seed{'s' if row['seeds'] > 1 else ''}"
    test = f"corrected p {'' if row['p_holm'] < 0.001 else '= '}{format_p(row['p_holm'])}"
    count = f"{row['n']:,} questions, {seeds}"
    verdict = judge(row)
    if verdict == "clear":
        sentence = f"{these} is {size} points {side} {REFERENCE.label} on {asked} (95% interval {interval}; {test}; {count})."
    elif verdict == "these seeds":
        sentence = (
            f"{these} is {size} points {side} {REFERENCE.label} on {asked} in these runs (95% interval over questions "
            f"{over_questions}; {count}). {row['seeds']} seeds are too few to say it of seeds in general: "
            f"{interval} before correction, {test}."
        )
    else:
        found = f"The smallest difference that this design finds in 80% of repetitions is {points('mde')} points."
        if row["mde"] > limit_difference(row["metric"]):
            found = "No difference that is possible would be found in 80% of repetitions of this design."
        sentence = (
            f"no difference found between {these} and {REFERENCE.label} on {asked}: {points('difference', True)} points (95% "
            f"interval {interval}; {test}; {count}). {found}"
        )
    n = f"{row['n']:,}" + (
        f"; finds {points('mde')}" if verdict == "none" and row["mde"] <= limit_difference(row["metric"]) else ""
    )
    sentence = sentence[0].upper() + sentence[1:]
    return Finding(verdict, asked, name_contrast(row), points("difference", True), interval, n, sentence)


def list_findings(contrasts: pl.DataFrame) -> list[list[Finding | None]]:
    """The paper's headline contrasts of accuracy in the chat prompt: a row a condition, a column for each of `NEW_SETS`."""
    part = contrasts.filter(phase="tuned_chat", metric="accuracy")
    rows = {(row["condition"], row["split"]): describe_contrast(row) for row in part.iter_rows(named=True)}
    found = [[rows.get((condition.name, split)) for split in NEW_SETS] for condition in HEADLINES]
    return [row for row in found if any(row)]


def write_headline(contrasts: pl.DataFrame) -> tuple[str, str]:
    """The study's headline, and the sentence with its uncertainty: the first of the paper's contrasts there is, on HOMO."""
    part = contrasts.filter(phase="tuned_chat", metric="accuracy", split="homo")
    for condition in HEADLINES:
        found = part.filter(condition=condition.name)
        if not found.height:
            continue
        row = found.row(0, named=True)
        finding, (this, that) = describe_contrast(row), condition.deeds
        if finding.verdict == "none":
            return f"{this} or {that}: no difference found", finding.sentence
        first, second = (this, that) if row["difference"] > 0 else (that[:1].upper() + that[1:], this[:1].lower() + this[1:])
        where = " in these runs" if finding.verdict == "these seeds" else ""
        return f"{first} beat {second} by {abs(100 * row['difference']):.1f} points{where}", finding.sentence
    wanted = ", ".join(condition.label for condition in HEADLINES)
    sentence = f"It takes chat samples on HOMO of runs trained on {REFERENCE.label} and on one of {wanted}."
    return "No headline contrast can be made", sentence


def tabulate_headline(contrasts: pl.DataFrame) -> Table:
    """The paper's headline comparisons as one table: accuracy in the chat prompt; what lacks is a row of dashes."""
    part = contrasts.filter(pl.col("ratio").is_null(), phase="tuned_chat", metric="accuracy")
    studies = part.select(PART).unique(maintain_order=True).rows()
    rows, named = [], len(studies) > 1
    for model, domain in studies:
        cells = {(row["condition"], row["split"]): row for row in part.filter(model=model, domain=domain).iter_rows(named=True)}
        for condition in HEADLINES:
            for split in NEW_SETS:
                words = [model, domain] if named else []
                words += [f"{condition.label} − {REFERENCE.label}", name_set(split)]
                row = cells.get((condition.name, split))
                rows.append(words + (_list_cells(row) if row else [DASH] * 10))
    header = [*(["base model", "domain"] if named else []), "contrast", "split", "difference", "95% interval", "over questions"]
    header += ["Cohen's h", "p", "p (Holm)", "p (BH)", "detectable", "n", "seeds"]
    note = (
        "Interval: over questions, and over seeds where there are several. Over questions: the seeds taken as given. Cohen's "
        "h: the effect size of a difference of shares. p (Holm) and p (BH): corrected over all accuracy contrasts in the chat "
        "prompt, those not shown here too. " + DETECTABLE + " A row of dashes: no run of the condition, or of the "
        "reference, was asked this, or the two have no seed in common."
    )
    title = f"The headline comparisons: accuracy against {REFERENCE.label} training{name_part(part)}"
    return Table("headline", title, header, rows, note, left=4 if named else 2)


def _list_cells(row: dict[str, Any]) -> list[str]:
    numbers = [format_number(row["difference"], sign=True), format_interval(row, sign=True)]
    numbers += [format_interval(row, "low_questions", "high_questions", sign=True), format_number(row["effect"], 2, sign=True)]
    tests = [format_p(row[name]) for name in ("p", "p_holm", "p_bh")]
    return [*numbers, *tests, format_detectable(row), format_sizes(row), str(row["seeds"])]


def tabulate_across(frames: Frames) -> list[Table]:
    """The headline comparisons of all parts in one table, where there are several parts."""
    contrasts = frames["contrasts"]
    return [tabulate_headline(contrasts)] if contrasts.select(PART).n_unique() > 1 else []


CHAPTER = Chapter(heading=AGAINST, tables=lambda part: [tabulate_headline(part.frames["contrasts"])], across=tabulate_across)
