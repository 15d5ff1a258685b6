"""What is said of a difference: how large it can be, how large it is for its spread, and whether it is one after correction."""

import gc
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from analysis.measures.metrics import BOUNDS
from analysis.measures.power import find_detectable
from lm_eval_tasks.contracts.logs.scores import LEVEL

ALPHA = 1 - LEVEL


def limit_difference(metric: str) -> float:
    """The largest difference that two means of a metric can have.

    >>> limit_difference("accuracy"), limit_difference("rank_pearson")
    (1.0, 2.0)
    """
    return float(np.diff(BOUNDS[metric])[0])


def cut_differences(table: pl.DataFrame) -> pl.DataFrame:
    """Cut the intervals of differences to what a difference of the row's `metric` can be."""
    limit = pl.col("metric").replace_strict({metric: limit_difference(metric) for metric in BOUNDS}, return_dtype=pl.Float64)
    bounds = [name for name in ("low", "high", "low_questions", "high_questions") if name in table.columns]
    return table.with_columns(pl.col(name).clip(-limit, limit) for name in bounds)


def correct_tests(p: Sequence[float | None] | np.ndarray) -> pl.DataFrame:
    """`p_holm` and `p_bh`: the p-values of one family after Holm's and Benjamini and Hochberg's corrections.

    Holm's bounds the chance of any false finding, Benjamini and Hochberg's the expected share of false ones among those found.
    A test that was not made (null or NaN) stays null, and does not count towards the family.

    >>> correct_tests([0.01, None, 0.04]).rows()
    [(0.02, 0.02), (None, None), (0.04, 0.04)]
    """
    from statsmodels.stats.multitest import fdrcorrection, multipletests

    p = np.array([np.nan if value is None else value for value in p], dtype=float)
    made = np.isfinite(p)
    holm, bh = np.full((2, len(p)), np.nan)
    if made.any():
        gc.freeze()  # multipletests has Python look for circles among all that is there, which takes seconds
        holm[made], bh[made] = multipletests(p[made], method="holm")[1], fdrcorrection(p[made])[1]
        gc.unfreeze()
    return pl.DataFrame({"p_holm": holm, "p_bh": bh}).fill_nan(None)


def correct_family(table: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Correct the p-values of each family of tests, and say what each test could have found.

    Args:
        table: `p`, `se` and `se_seeds` (see `intervals.Estimate`), `seeds`; NaN or null where nothing was tested.
        by: the columns whose values make a family.

    Returns:
        The table with `family` (how many tests it has), `p_holm`, `p_bh` and `mde`: the smallest true difference that the test
        finds in 80% of repetitions at the level that Holm's correction leaves to the smallest p-value of the family, null
        where nothing was tested.
    """
    families = []
    for _, part in table.with_columns(pl.col("p", "se", "se_seeds").fill_nan(None)).group_by(by, maintain_order=True):
        tests = part["p"].count()
        alpha = ALPHA / max(tests, 1)
        mde = [_find_mde(*row, alpha) for row in part.select("se", "se_seeds", "seeds").iter_rows()]
        found = [*correct_tests(part["p"]).get_columns(), pl.Series("mde", mde, dtype=pl.Float64)]
        families.append(part.with_columns(*found, family=pl.lit(tests, dtype=pl.Int64)))
    empty = table.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in ("p_holm", "p_bh", "mde")).clear()
    return pl.concat([empty, *families], how="diagonal")


def _find_mde(se: float | None, se_seeds: float | None, seeds: int | None, alpha: float) -> float | None:
    if se is None:
        return None
    over_seeds = find_detectable(se_seeds, seeds - 1, alpha) if se_seeds and seeds and seeds > 1 else 0.0
    return max(find_detectable(se, float("inf"), alpha), over_seeds)


def is_found(row: Mapping[str, Any], name: str = "p_holm") -> bool:
    """Whether a corrected p-value of a contrast says that there is a difference; none says so where nothing was tested."""
    return row[name] is not None and row[name] < ALPHA


def compute_mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """Exact McNemar p-value of two models' right answers (bool) to the same questions.

    >>> compute_mcnemar(np.array([True, True, True, True]), np.array([False, False, False, True]))
    0.25
    """
    from statsmodels.stats.contingency_tables import mcnemar

    table = [[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]]
    return float(mcnemar(table, exact=True).pvalue)


def measure_effect(these: np.ndarray, those: np.ndarray, paired: np.ndarray) -> np.ndarray:
    """Standardised mean differences, (M,), of two groups of runs, each question averaged over its seeds first.

    Where the questions are the same, d_z: the mean difference over the standard deviation of the questions' differences;
    elsewhere Cohen's d, over the pooled standard deviation. NaN where nothing varies.

    Args:
        these: (Q, S, M), NaN where not asked.
        those: the same of the reference.
        paired: (M,), whether both were asked the same questions.
    """
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # means of questions that one side was not asked
        a, b = np.nanmean(these, axis=1), np.nanmean(those, axis=1)
        n, n_reference = np.isfinite(a).sum(axis=0), np.isfinite(b).sum(axis=0)
        squares = (n - 1) * np.nanvar(a, axis=0, ddof=1) + (n_reference - 1) * np.nanvar(b, axis=0, ddof=1)
        spread = np.where(paired, np.nanstd(a - b, axis=0, ddof=1), np.sqrt(squares / (n + n_reference - 2)))
        difference = np.nanmean(a, axis=0) - np.nanmean(b, axis=0)
        return np.where(spread > 1e-12, difference / spread, np.nan)
