"""Contrasts over base models and worlds: where there are several, each base model in each trained domain counts once.

More questions or seeds do not say whether a difference holds for another base model. Only more base models do.
"""

import numpy as np
import polars as pl
from scipy import stats

from analysis.chapters.contrasts import REFERENCE, is_found
from analysis.measures.intervals import POWER, correct_tests, cut_differences
from analysis.showing.labels import METRICS, PHASES, name_condition, name_split, sort_by_words
from analysis.showing.tables import DASH, DETECTABLE, Table, format_detectable, format_interval, format_number, format_p
from lm_eval_tasks.contracts.logs.scores import LEVEL

FEWEST = 3
KEY = ("condition", "ratio", "reference", "phase", "split", "metric")
UNIT_SCHEMA = pl.Schema(
    {"condition": pl.String, "ratio": pl.Float64}
    | dict.fromkeys(KEY[2:], pl.String)
    | dict.fromkeys(("difference", "low", "high", "p", "p_holm", "p_bh", "mde"), pl.Float64)
    | dict.fromkeys(("n", "models", "domains"), pl.Int64)
    | {"note": pl.String}
)


def compare_units(contrasts: pl.DataFrame) -> pl.DataFrame:
    """Mean difference over units (base model x domain), each counted once, with Student's t interval over them.

    Args:
        contrasts: as `contrasts.compare_conditions` gives them.

    Returns:
        `UNIT_SCHEMA`: a row for each condition, phase, split and metric; n: units. The interval, `p` and `mde` (the smallest
        true mean difference that is found in 80% of repetitions, before correction) are null where there is one unit, or where
        units do not vary; `note` says so. P-values are corrected over all contrasts of one phase and metric. No row at all
        where the contrasts are of one unit.
    """
    if contrasts.select("model", "domain").n_unique() < 2:
        return pl.DataFrame(schema=UNIT_SCHEMA)
    rows = []
    for names, part in contrasts.group_by(KEY, maintain_order=True):
        counts = {"n": part.height, "models": part["model"].n_unique(), "domains": part["domain"].n_unique()}
        rows.append(dict(zip(KEY, names, strict=True)) | counts | average_units(part["difference"].to_numpy()))
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
        label = f"{name_condition(row['condition'], row['ratio'])} − {row['reference']}"
        numbers = [
            format_number(row["difference"], sign=True),
            interval,
            *tests,
            DASH if is_found(row) else format_detectable(row),
        ]
        rows.append([label, name_split(row["split"]), *numbers, *counts, row["note"]])
    note = (
        "Each base model in each domain counts once, whatever its questions and seeds; n: such units. Student's t over units. "
        "Units of one base model share it, so with one base model this speaks of domains, not of base models. p (Holm) and p "
        "(BH): corrected over all contrasts of this metric and phase. " + DETECTABLE
    )
    name = METRICS[metric][:1].upper() + METRICS[metric][1:]
    title = f"{name} against {REFERENCE} training over base models and domains, {PHASES[phase]}"
    return Table(f"units-{metric}-{phase}", title, header, rows, note, left=2)
