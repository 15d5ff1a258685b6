"""The headline in plain words: what the contrasts of one study say, how sure it is, and what could have been found."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import polars as pl

from analysis.chapters.chapter import AGAINST, Chapter, Frames
from analysis.measures.differences import ALPHA, is_found, limit_difference
from analysis.measures.keys import PART
from analysis.measures.power import count_seeds
from analysis.showing.formats import (
    DASH,
    DETECTABLE,
    format_detectable,
    format_interval,
    format_number,
    format_p,
    format_sizes,
)
from analysis.showing.labels import PRIMARY, name_contrast, name_part, tell_primary
from analysis.showing.tables import Table
from lm_eval_tasks.contracts.vocabulary import CONDITIONS, NEW_SETS, PHASES, REFERENCE, Condition, name_condition, name_set

HEADLINES = sorted((c for c in CONDITIONS.values() if c.headline is not None), key=lambda c: c.headline)
VERDICTS = {
    "clear": "clear after correction, over questions and seeds",
    "these runs": "clear over the questions in these runs; the seeds are too few to say it of training in general",
    "none": "no difference found",
}

# What differs, by whether a difference was found in the chat prompt, and whether few-shot.
MOVED = {
    (True, False): "What differs is how they answer in the chat prompt; whether they know other things, this cannot tell.",
    (True, True): "Both differ: how they answer in the chat prompt, and what they know few-shot.",
    (False, True): "What differs is what they know few-shot, and not how they answer in the chat prompt.",
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


def judge(row: Mapping[str, Any]) -> str:
    """The verdict on a contrast: by its corrected p-value, and by the one that takes these seeds as given.

    One seed says nothing of others, however small its p-value.
    """
    if row["seeds"] > 1 and is_found(row):
        return "clear"
    return "these runs" if is_found(row, "p_holm_questions") or (row["seeds"] == 1 and is_found(row)) else "none"


def write_points(value: float, sign: bool = True) -> str:
    """A share as points: "+13.6"."""
    return format_number(100 * value, 1, sign)


def count_runs(row: Mapping[str, Any]) -> str:
    """How many seeds a contrast is of: "2 seeds"."""
    return f"{row['seeds']} seed{'s' if row['seeds'] > 1 else ''}"


def describe_contrast(row: Mapping[str, Any]) -> Finding:
    """Say one row of the accuracy contrasts in words."""
    these, asked = name_condition(row["condition"], row["ratio"]), name_set(row["split"])
    size = write_points(abs(row["difference"]), False)
    side = "above" if row["difference"] > 0 else "below"
    interval, over_questions = (
        f"{write_points(row[low])} to {write_points(row[high])}"
        for low, high in (("low", "high"), ("low_questions", "high_questions"))
    )
    test = f"corrected p {'' if row['p_holm'] < 0.001 else '= '}{format_p(row['p_holm'])}"
    count = f"{row['n']:,} questions, {count_runs(row)}"
    verdict = judge(row)
    if verdict == "clear":
        sentence = f"{these} is {size} points {side} {REFERENCE.label} on {asked} (95% interval {interval}; {test}; {count})."
    elif verdict == "these runs":
        over_seeds = f" {interval} before correction, {test}." if row["seeds"] > 1 else ""
        sentence = (
            f"{these} is {size} points {side} {REFERENCE.label} on {asked} in these runs (95% interval over questions "
            f"{over_questions}; {count}). {propose_seeds(row)}{over_seeds}"
        )
    else:
        sentence = (
            f"no difference found between {these} and {REFERENCE.label} on {asked}: {write_points(row['difference'])} points "
            f"(95% interval {interval}; {test}; {count}). {tell_detectable(row)}"
        )
    finds = row["mde"] is not None and row["mde"] <= limit_difference(row["metric"])
    n = f"{row['n']:,}" + (f"; finds {write_points(row['mde'], False)}" if verdict == "none" and finds else "")
    sentence = sentence[0].upper() + sentence[1:]
    return Finding(verdict, asked, name_contrast(row), write_points(row["difference"]), interval, n, sentence)


def tell_detectable(row: Mapping[str, Any]) -> str:
    """What the design of a contrast could have found."""
    if row["mde"] is None:
        return "What this design could have found is not known."
    if row["mde"] > limit_difference(row["metric"]):
        return (
            f"No difference that is possible would be found in 80% of repetitions of this design. {propose_seeds(row)}".strip()
        )
    return (
        f"The smallest difference that this design finds in 80% of repetitions, after correction, is "
        f"{write_points(row['mde'], False)} points."
    )


def propose_seeds(row: Mapping[str, Any]) -> str:
    """Which number of seeds would find a difference of this size, by the spread among those there are."""
    if row["seeds"] == 1:
        return "One seed says nothing of others: train with three or more."
    alpha = ALPHA / max(row["family"], 1)
    needed = count_seeds(row["difference"], row["se_seeds"] * row["seeds"] ** 0.5, alpha) if row["se_seeds"] else None
    few = f"{count_runs(row)} are too few to say it of training in general"
    if needed is None or needed <= row["seeds"]:
        return f"{few[0].upper()}{few[1:]}."
    return f"{few[0].upper()}{few[1:]}; with their spread about {needed} would find a difference of this size."


def list_findings(contrasts: pl.DataFrame) -> list[list[Finding | None]]:
    """The paper's headline contrasts of accuracy in the chat prompt: a row a condition, a column for each of `NEW_SETS`."""
    part = contrasts.filter(phase="tuned_chat", metric="accuracy")
    rows = {(row["condition"], row["split"]): describe_contrast(row) for row in part.iter_rows(named=True)}
    found = [[rows.get((condition.name, split)) for split in NEW_SETS] for condition in HEADLINES]
    return [row for row in found if any(row)]


def write_headline(contrasts: pl.DataFrame) -> tuple[str, str]:
    """The study's headline, and the sentence with its uncertainty: the contrast that was named beforehand where it is one of
    the paper's on HOMO, else the first of the paper's there is.

    The title is what gets quoted. It states a difference only where it is clear after correction, over what was varied;
    elsewhere it says what was measured, and that the design cannot tell. It always says what the two prompts show, since a
    difference in the chat prompt that is gone few-shot is one of format and not of knowledge.
    """
    part = contrasts.filter(metric="accuracy", split="homo")
    named = set(part.filter("primary")["condition"])
    for condition in sorted(HEADLINES, key=lambda condition: condition.name not in named):
        rows = {row["phase"]: row for row in part.filter(condition=condition.name).iter_rows(named=True)}
        if "tuned_chat" not in rows:
            continue
        chat, probe = rows["tuned_chat"], rows.get("tuned_probe")
        return write_title(condition, chat, probe), " ".join(list_sentences(condition, chat, probe, contrasts))
    wanted = ", ".join(condition.label for condition in HEADLINES)
    sentence = f"It takes chat samples on HOMO of runs trained on {REFERENCE.label} and on one of {wanted}."
    return "No headline contrast can be made", sentence


def write_title(condition: Condition, chat: Mapping[str, Any], probe: Mapping[str, Any] | None) -> str:
    """The title of one headline contrast, asked in the chat prompt and, where it was, few-shot."""
    few_shot = "" if probe is None else f", {write_points(probe['difference'])} few-shot"
    measured = f"{condition.label} − {REFERENCE.label}: {write_points(chat['difference'])} points in the chat prompt{few_shot}"
    measured = measured[:1].upper() + measured[1:]
    verdict = judge(chat)
    if verdict == "none":
        clear = probe is not None and judge(probe) == "clear"
        return f"{measured}: no difference found in the chat prompt{', but one few-shot' if clear else ''}"
    if verdict == "these runs":
        return f"{measured} in these runs; {count_runs(chat)} cannot tell it of training in general"
    this, that = condition.deeds
    first, second = (this, that) if chat["difference"] > 0 else (that[:1].upper() + that[1:], this[:1].lower() + this[1:])
    beat = f"{first} beat {second} by {write_points(abs(chat['difference']), False)} points in the chat prompt"
    if probe is None:
        return beat
    told = f"{write_points(probe['difference'])} few-shot"
    if judge(probe) == "clear":
        same = (probe["difference"] > 0) == (chat["difference"] > 0)
        return (
            f"{beat}, and knowledge moved with it ({told})" if same else f"{beat}, and few-shot it was the other way ({told})"
        )
    if judge(probe) == "these runs":
        return f"{beat}; few-shot {write_points(probe['difference'])} points in these runs"
    return f"{beat}; few-shot no difference was found ({write_points(probe['difference'])} points)"


def list_sentences(
    condition: Condition, chat: Mapping[str, Any], probe: Mapping[str, Any] | None, contrasts: pl.DataFrame
) -> list[str]:
    """What stands below the title: the contrast in both prompts, which of the two moved, and what else differs."""
    sentences = [f"In the chat prompt: {describe_contrast(chat).sentence}"]
    if chat["primary"]:
        sentences.append("This contrast was named beforehand, and is corrected apart from all others.")
    else:
        sentences += [
            f"Named beforehand, and corrected apart from all others: {PHASES[row['phase']]}, {describe_contrast(row).sentence}"
            for row in contrasts.filter("primary").iter_rows(named=True)
        ]
    if probe is None:
        sentences.append("The tuned models were not asked few-shot, so that this may be format or knowledge.")
    else:
        sentences.append(f"Few-shot: {describe_contrast(probe).sentence}")
        sentences += filter(None, [MOVED.get((judge(chat) != "none", judge(probe) != "none"))])
    mass = contrasts.filter(metric="choice_mass", split="homo", phase="tuned_chat", condition=condition.name)
    sentences += [f"Their probability on any choice differs by {write_points(value)} points." for value in mass["difference"]]
    if condition.questions != REFERENCE.questions:
        same = [c.label for c in HEADLINES if c.questions == REFERENCE.questions]
        sentences.append(
            f"{condition.label[:1].upper()}{condition.label[1:]} and {REFERENCE.label} sets hold different questions, of "
            f"different difficulty; only {' and '.join(same)} share theirs with {REFERENCE.label}."
        )
    return sentences


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
                row = cells.get((condition.name, split))
                mark = PRIMARY * bool(row and row["primary"])
                words += [f"{condition.label} − {REFERENCE.label}{mark}", name_set(split)]
                rows.append(words + (_list_cells(row) if row else [DASH] * 10))
    header = [*(["base model", "domain"] if named else []), "contrast", "split", "difference", "95% interval", "over questions"]
    header += ["Cohen's h", "p", "p (Holm)", "p (BH)", "detectable", "n", "seeds"]
    note = (
        "Interval: over questions, and over seeds where there are several. Over questions: the seeds taken as given. Cohen's "
        "h: the effect size of a difference of shares. p (Holm) and p (BH): corrected over all accuracy contrasts in the chat "
        f"prompt, those not shown here too. {tell_primary(part)}"
        + DETECTABLE
        + " A row of dashes: no run of the condition, or of the "
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
