"""What each setting changes, where a study varies one thing at a time: against its main way of training, over base models.

The main arm is the one whose every setting is that of most arms. Each other arm is named by what it sets otherwise.
"""

from collections import Counter
from collections.abc import Sequence

import polars as pl

from analysis.chapters.chapter import Chapter, Computed, Whole
from analysis.chapters.units import average_units
from analysis.measures.keys import CONDITION, PART, sort_by_words
from analysis.reading.arms import SEPARATOR
from analysis.showing.formats import DASH, format_interval, format_number
from analysis.showing.tables import Table
from lm_eval_tasks.contracts.vocabulary import BASE, NEW_SETS, REFERENCE, name_condition, name_set

ASKED = ("phase", "split")
UNIT = ("base", "domain")
SETTING_SCHEMA = pl.Schema(
    {"setting": pl.String, "condition": pl.String, "ratio": pl.Float64}
    | dict.fromkeys(ASKED, pl.String)
    | dict.fromkeys(("value", "change", "low", "high", "least", "greatest", "contrast", "contrast_main"), pl.Float64)
    | {"n": pl.Int64}
)


def find_main(arms: Sequence[str]) -> str | None:
    """The arm each of whose settings most arms have; None where there is no such arm.

    >>> find_main(["a, b", "a, c", "d, b"]), find_main(["a, b", "c, d"])
    ('a, b', None)
    """
    counts = [Counter(words).most_common(2) for words in zip(*(arm.split(SEPARATOR) for arm in arms), strict=True)]
    if any(len(most) > 1 and most[0][1] == most[1][1] for most in counts):
        return None
    main = SEPARATOR.join(most[0][0] for most in counts)
    return main if main in arms else None


def name_setting(arm: str, main: str) -> str:
    """What an arm sets otherwise than the main one.

    >>> name_setting("64 questions, 2 epochs", "256 questions, 2 epochs")
    '64 questions'
    """
    return SEPARATOR.join(own for own, usual in zip(arm.split(SEPARATOR), main.split(SEPARATOR), strict=True) if own != usual)


def compare_settings(whole: Whole) -> pl.DataFrame:
    """`SETTING_SCHEMA`: a row a setting, condition, phase and new evaluation set, where units have a main arm.

    `value`: accuracy, in the mean over `n` units (base models and domains); `change`: less that of the main arm, with Student's
    t interval over units where these are three or more; `least` and `greatest`: of the units' own changes. `contrast`:
    accuracy less that of incompatible training in the same arm; `contrast_main`: the same in the main arm.
    """
    runs = whole.study.runs.select("model", "base", "arm", "domain").unique(maintain_order=True).filter(pl.col("arm") != "")
    named = []
    for (base, domain), part in runs.group_by(UNIT, maintain_order=True):
        if main := find_main(part["arm"].to_list()):
            rows = [{"arm": arm, "setting": name_setting(arm, main)} for arm in part["arm"]]
            named.append(pl.DataFrame(rows).with_columns(base=pl.lit(base), domain=pl.lit(domain)))
    if not named:
        return pl.DataFrame(schema=SETTING_SCHEMA)
    settings = runs.join(pl.concat(named), on=[*UNIT, "arm"], maintain_order="left")
    kept = whole.frames["summary"].filter(pl.col("split").is_in(NEW_SETS), pl.col("condition") != BASE, metric="accuracy")
    values = kept.join(settings, on=PART).select(*UNIT, "setting", *CONDITION, *ASKED, "value")
    reference = values.filter(condition=REFERENCE.name).select(*UNIT, "setting", *ASKED, reference="value")
    values = values.join(reference, on=[*UNIT, "setting", *ASKED], how="left", maintain_order="left")
    values = values.with_columns(contrast=pl.col("value") - pl.col("reference"))
    keys = [*UNIT, *CONDITION, *ASKED]
    main = values.filter(setting="").select(*keys, main="value", contrast_main="contrast")
    others = values.filter(pl.col("setting") != "").join(main, on=keys, nulls_equal=True, maintain_order="left")
    return average_settings(others.with_columns(change=pl.col("value") - pl.col("main")))


def average_settings(changes: pl.DataFrame) -> pl.DataFrame:
    """The mean over units of what each setting changes."""
    rows, keys = [], ("setting", *CONDITION, *ASKED)
    for names, part in changes.group_by(keys, maintain_order=True):
        told = average_units(part["change"].to_numpy())
        ends = {end: told[end] if part.height > 2 else None for end in ("low", "high")}
        means = {name: part[name].mean() for name in ("value", "contrast", "contrast_main")}
        rest = {"change": told["difference"], "least": told["least"], "greatest": told["greatest"], "n": part.height}
        rows.append(dict(zip(keys, names, strict=True)) | means | rest | ends)
    return sort_by_words(pl.DataFrame(rows, schema=SETTING_SCHEMA)).sort("setting", maintain_order=True)


def tabulate_settings(settings: pl.DataFrame) -> Table:
    """What each setting changes in the chat prompt, on new questions of the trained source."""
    rows = []
    for row in settings.filter(phase="tuned_chat", split=NEW_SETS[0]).iter_rows(named=True):
        interval = format_interval(row, sign=True) if row["low"] is not None else DASH
        changes = [format_number(row[name], sign=True) for name in ("change", "least", "greatest")]
        contrasts = [DASH if row["condition"] == REFERENCE.name else format_number(row[name], sign=True)
                     for name in ("contrast", "contrast_main")]  # fmt: skip
        who = [row["setting"], name_condition(row["condition"], row["ratio"])]
        rows.append([*who, format_number(row["value"]), changes[0], interval, *changes[1:], *contrasts, str(row["n"])])
    header = ["setting", "trained on", "accuracy", "change", "95% interval", "least", "greatest"]
    header += [f"minus {REFERENCE.label}", "in the main arm", "n"]
    note = (
        f"Accuracy in the chat prompt on {name_set(NEW_SETS[0])}, in the mean over n units. Change: less what "
        "the same condition reaches in the main arm, whose every setting is that of most arms; least and greatest: of single "
        "units. "
        "The interval is Student's t over units, from three on."
    )
    return Table("settings", "What each setting changes", header, rows, note, left=2)


CHAPTER = Chapter(
    compute=lambda whole: Computed({"settings": compare_settings(whole)}),
    across=lambda frames: [tabulate_settings(frames["settings"])],
)
