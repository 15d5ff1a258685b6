"""Contrasts over base models and worlds: where there are several, each base model in each trained domain counts once.

More questions or seeds do not say whether a difference holds for another base model. Only more base models do.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import scipy

from analysis.chapters.chapter import Chapter, Computed, Frames, Whole
from analysis.measures.differences import correct_family, cut_differences
from analysis.measures.keys import CONDITION, GROUP, PART, QUESTION, sort_by_words
from analysis.measures.metrics import CONTRASTED, METRICS
from analysis.showing.figures import Sketch
from analysis.showing.formats import DASH, DETECTABLE, format_detectable, format_interval, format_number, format_p
from analysis.showing.grids import Panel, plot_grid
from analysis.showing.labels import name_contrast
from analysis.showing.tables import Notes, Table
from lm_eval_tasks.contracts.logs.scores import LEVEL
from lm_eval_tasks.contracts.vocabulary import PHASES, REFERENCE, name_set

FEWEST = 3
CONTRAST = (*CONDITION, "reference", "phase", "split", "metric")
UNIT_SCHEMA = pl.Schema(
    {"condition": pl.String, "ratio": pl.Float64}
    | dict.fromkeys(CONTRAST[2:], pl.String)
    | dict.fromkeys(("difference", "least", "greatest", "low", "high", "p", "p_holm", "p_bh", "mde"), pl.Float64)
    | dict.fromkeys(("se", "se_seeds"), pl.Float64)
    | dict.fromkeys(("n", "above", "models", "domains", "seeds"), pl.Int64)
    | {"note": pl.String}
)
UNITS = (
    "The tuned models in the chat prompt. A unit is a base model in a trained domain. Bars: means over units; open marks: "
    "each, by the mean over its seeds; thick bars: 95% intervals, Student's t over units. Lines: the base models before any "
    "training."
)
SHARED = "units share {}, so that their differences are not independent: no interval and no p"


def compare_units(contrasts: pl.DataFrame, measures: pl.DataFrame, bases: Mapping[str, str] = {}) -> pl.DataFrame:
    """Mean difference over units (base model x domain), each counted once, with Student's t interval over them.

    Units that share a base model or questions rise and fall together, and a test that takes them for independent finds
    differences where there are none (20 to 40% of null studies at a correlation of .3 to .6, against 5%). They are described
    and not tested.

    Args:
        contrasts: as `contrasts.compare_conditions` gives them.
        measures: as in `study.Study`: which questions each unit was asked.
        bases: the base models of those that have several arms, of which each counts once, by the mean over its arms.

    Returns:
        `UNIT_SCHEMA`: a row for each condition, phase, evaluation set and metric; n: units, of which `above` have a difference
        above 0; `least` and `greatest`: of the units' own differences. The interval, `p` and `mde` are null where units share
        something, where there is one, or where they do not vary; `note` says so. P-values are corrected over all contrasts of
        one phase and metric. No row at all where the contrasts are of one unit.
    """
    contrasts, measures = (table.with_columns(pl.col("model").replace(bases)) for table in (contrasts, measures))
    contrasts = contrasts.group_by(*PART, *CONTRAST, maintain_order=True).agg(pl.col("difference").mean())
    if contrasts.select(PART).n_unique() < 2:
        return pl.DataFrame(schema=UNIT_SCHEMA)
    shared = find_shared_questions(measures)
    rows = []
    for names, part in contrasts.group_by(CONTRAST, maintain_order=True):
        who = dict(zip(CONTRAST, names, strict=True))
        counts = {"n": part.height, "models": part["model"].n_unique(), "domains": part["domain"].n_unique()}
        common = ["a base model"] * (counts["models"] < part.height) + ["questions"] * ((who["phase"], who["split"]) in shared)
        rows.append(who | counts | average_units(part["difference"].to_numpy(), common))
    table = cut_differences(pl.DataFrame(rows, schema=UNIT_SCHEMA))
    return sort_by_words(correct_family(table, ("phase", "metric")).select(UNIT_SCHEMA.names()))


def find_shared_questions(measures: pl.DataFrame) -> set[tuple[str, str]]:
    """The phases and evaluation sets in which two units were asked a common question."""
    asked = measures.select(*PART, "phase", "split", *QUESTION).unique()
    counts = asked.group_by("phase", "split").agg(all=pl.len(), different=pl.struct(QUESTION).n_unique())
    return set(counts.filter(pl.col("all") > pl.col("different")).select("phase", "split").iter_rows())


def average_units(differences: np.ndarray, common: Sequence[str] = ()) -> dict[str, float | int | str | None]:
    """Mean of one difference a unit, (n,), with its t interval and p-value, and a note where there are none.

    Args:
        differences: one a unit.
        common: what some units share.

    >>> average_units(np.array([0.1, 0.2, 0.3]))["p"] < 0.1
    True
    >>> average_units(np.array([0.1, 0.2, 0.3]), ["a base model"])["p"] is None
    True
    """
    n = len(differences)
    told = {"difference": float(differences.mean()), "least": float(differences.min()), "greatest": float(differences.max())}
    told |= {"above": int((differences > 0).sum()), "seeds": n} | dict.fromkeys(("low", "high", "p", "se", "se_seeds"))
    if n == 1:
        return told | {"note": "one unit: no interval over units"}
    if common:
        return told | {"note": SHARED.format(" and ".join(common))}
    se = float(scipy.stats.sem(differences))
    if se < 1e-12:
        return told | {"note": "the units do not differ: no interval over units"}
    test = scipy.stats.ttest_1samp(differences, 0)
    low, high = test.confidence_interval(LEVEL)
    note = "" if n >= FEWEST else f"{n} units, fewer than {FEWEST}: the interval is very wide"
    return told | {"low": float(low), "high": float(high), "p": float(test.pvalue), "se": se, "se_seeds": se, "note": note}


def tabulate_units(units: pl.DataFrame, metric: str = "accuracy", phase: str = "tuned_chat") -> Table:
    """The contrasts of one metric in one phase over units."""
    header = ["contrast", "split", "difference", "95% interval", "p", "p (Holm)", "p (BH)", "detectable"]
    header += ["least", "greatest", "above 0", "n", "models", "domains", "note"]
    notes = Notes()
    rows = []
    for row in units.filter(metric=metric, phase=phase).iter_rows(named=True):
        interval = format_interval(row, sign=True) if row["low"] is not None else DASH
        tests = [format_p(row[name]) for name in ("p", "p_holm", "p_bh")]
        ends = [format_number(row[name], sign=True) for name in ("least", "greatest")]
        counts = [str(row[name]) for name in ("above", "n", "models", "domains")]
        numbers = [format_number(row["difference"], sign=True), interval, *tests, format_detectable(row), *ends]
        rows.append([name_contrast(row), name_set(row["split"]), *numbers, *counts, notes.mark(row["note"])])
    note = (
        "Each base model in each domain counts once, whatever its questions and seeds; n: such units, of which so many lie "
        "above 0; least and greatest: the units' own differences. Student's t over units, where these share neither a base "
        "model nor questions. p (Holm) and p (BH): corrected over all contrasts of this metric and phase. " + DETECTABLE
    )
    title = f"{METRICS[metric].title} against {REFERENCE.label} training over base models and domains, {PHASES[phase]}"
    return Table(f"units-{metric}-{phase}", title, header, rows, note + notes.write(), left=2)


def average_summary(summary: pl.DataFrame) -> pl.DataFrame:
    """Accuracy of each condition over units: mean and t interval, in the columns of a summary.

    `seeds` counts units, `n` questions. Where there are fewer than two units there is no row.
    """
    rows = []
    for names, part in summary.filter(metric="accuracy").group_by(*GROUP[2:], "metric", maintain_order=True):
        if part.height > 1:
            told = average_units(part["value"].to_numpy())
            bounds = {end: told["difference"] if told[end] is None else told[end] for end in ("low", "high")}  # all alike
            ends = {f"{end}{suffix}": value for end, value in bounds.items() for suffix in ("", "_questions")}
            who = dict(zip((*GROUP[2:], "metric"), names, strict=True))
            rows.append(who | {"value": told["difference"], "n": part["n"].sum(), "seeds": part.height} | ends)
    return sort_by_words(pl.DataFrame(rows, schema_overrides={"ratio": pl.Float64})) if rows else summary.clear()


def sketch_units(frames: Frames) -> list[Sketch]:
    """Accuracy by condition over units, each by a mark, where they share nothing and so have an interval."""
    tested = frames["units"].filter(pl.col("low").is_not_null(), metric="accuracy", phase="tuned_chat")
    if tested.is_empty() or frames["arms"].height:
        return []
    averaged = average_summary(frames["summary"])
    title, panels = "Accuracy by training condition, over base models and domains", (Panel("accuracy", "accuracy", (0, 1)),)
    return [Sketch("units", title, UNITS, plot_grid(averaged, frames["summary"], panels, title, counted="unit"))]


def compute_chapter(whole: Whole) -> Computed:
    """The table of `compare_units`."""
    return Computed({"units": compare_units(whole.frames["contrasts"], whole.study.measures, whole.study.bases)})


CHAPTER = Chapter(
    compute=compute_chapter,
    across=lambda frames: [tabulate_units(frames["units"], metric) for metric in CONTRASTED],
    figures_across=sketch_units,
    shown=("summary", "units", "arms"),
)
