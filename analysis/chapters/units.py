"""Contrasts over base models and worlds: where there are several, each base model in each trained domain counts once.

More questions or seeds do not say whether a difference holds for another base model. Only more base models do.
"""

import numpy as np
import polars as pl
from scipy import stats

from analysis.chapters.chapter import Chapter, Computed
from analysis.measures.differences import correct_tests, cut_differences
from analysis.measures.intervals import POWER
from analysis.measures.keys import CONDITION, PART, sort_by_words
from analysis.measures.metrics import CONTRASTED, METRICS
from analysis.showing.formats import DASH, DETECTABLE, format_detectable, format_interval, format_number, format_p
from analysis.showing.labels import name_contrast
from analysis.showing.tables import Table
from lm_eval_tasks.contracts.logs.scores import LEVEL
from lm_eval_tasks.contracts.vocabulary import PHASES, REFERENCE, name_set

FEWEST = 3
CONTRAST = (*CONDITION, "reference", "phase", "split", "metric")
UNIT_SCHEMA = pl.Schema(
    {"condition": pl.String, "ratio": pl.Float64}
    | dict.fromkeys(CONTRAST[2:], pl.String)
    | dict.fromkeys(("difference", "low", "high", "p", "p_holm", "p_bh", "mde"), pl.Float64)
    | dict.fromkeys(("n", "models", "domains"), pl.Int64)
    | {"note": pl.String}
)


def compare_units(contrasts: pl.DataFrame) -> pl.DataFrame:
    """Mean difference over units (base model x domain), each counted once, with Student's t interval over them.

    Args:
        contrasts: as `contrasts.compare_conditions` gives them.

    Returns:
        `UNIT_SCHEMA`: a row for each condition, phase, evaluation set and metric; n: units. The interval, `p` and `mde` (the
        smallest true mean difference that is found in 80% of repetitions, before correction) are null where there is one unit,
        or where units do not vary; `note` says so. P-values are corrected over all contrasts of one phase and metric. No row
        at all where the contrasts are of one unit.
    """
    if contrasts.select(PART).n_unique() < 2:
        return pl.DataFrame(schema=UNIT_SCHEMA)
    rows = []
    for names, part in contrasts.group_by(CONTRAST, maintain_order=True):
        counts = {"n": part.height, "models": part["model"].n_unique(), "domains": part["domain"].n_unique()}
        rows.append(dict(zip(CONTRAST, names, strict=True)) | counts | average_units(part["difference"].to_numpy()))
    table = cut_differences(pl.DataFrame(rows, schema=UNIT_SCHEMA))
    families = table.group_by("phase", "metric", maintain_order=True)
    return sort_by_words(pl.concat(part.with_columns(correct_tests(part["p"]).get_columns()) for _, part in families))


def average_units(differences: np.ndarray) -> dict[str, float | str | None]:
    """Mean of one difference a unit, (n,), with its t interval, p-value, detectable difference, and a note where in doubt."""
    n = len(differences)
    mean, nothing = float(differences.mean()), dict.fromkeys(("low", "high", "p", "mde"))
    if n == 1:
        return {"difference": mean, **nothing, "note": "one unit: no interval over units"}
    se = float(stats.sem(differences))
    if se < 1e-12:
        return {"difference": mean, **nothing, "note": "the units do not differ: no interval over units"}
    test = stats.ttest_1samp(differences, 0)
    low, high = test.confidence_interval(LEVEL)
    mde = float(high - mean + stats.t.ppf(POWER, n - 1) * se)
    note = "" if n >= FEWEST else f"{n} units, fewer than {FEWEST}: the interval is very wide"
    return {"difference": mean, "low": float(low), "high": float(high), "p": float(test.pvalue), "mde": mde, "note": note}


def tabulate_units(units: pl.DataFrame, metric: str = "accuracy", phase: str = "tuned_chat") -> Table:
    """The contrasts of one metric in one phase over units."""
    header = ["contrast", "split", "difference", "95% interval", "p", "p (Holm)", "p (BH)", "detectable"]
    header += ["n", "models", "domains", "note"]
    rows = []
    for row in units.filter(metric=metric, phase=phase).iter_rows(named=True):
        interval = format_interval(row, sign=True) if row["low"] is not None else DASH
        tests = [format_p(row[name]) for name in ("p", "p_holm", "p_bh")]
        counts = [str(row[name]) for name in ("n", "models", "domains")]
        numbers = [format_number(row["difference"], sign=True), interval, *tests, format_detectable(row)]
        rows.append([name_contrast(row), name_set(row["split"]), *numbers, *counts, row["note"]])
    note = (
        "Each base model in each domain counts once, whatever its questions and seeds; n: such units. Student's t over units. "
        "Units of one base model share it, so with one base model this speaks of domains, not of base models. p (Holm) and p "
        "(BH): corrected over all contrasts of this metric and phase. " + DETECTABLE
    )
    title = f"{METRICS[metric].title} against {REFERENCE.label} training over base models and domains, {PHASES[phase]}"
    return Table(f"units-{metric}-{phase}", title, header, rows, note, left=2)


CHAPTER = Chapter(
    compute=lambda whole: Computed({"units": compare_units(whole.frames["contrasts"])}),
    across=lambda frames: [tabulate_units(frames["units"], metric) for metric in CONTRASTED],
)
