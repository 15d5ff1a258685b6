"""Conditions against each other, and conditions by themselves, over questions and seeds.

All runs that were asked the same questions are resampled together, so a contrast is paired by question wherever the questions
are the same, and by seed number always.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_effectsize

from analysis.measures.consistency import METRICS as CONSISTENCY
from analysis.measures.intervals import (
    BINARY,
    BOUNDS,
    RULE_OF_THREE,
    Estimate,
    correct_tests,
    cut_differences,
    estimate_mean,
    resample_means,
)
from analysis.showing.labels import BASE, METRICS, sort_by_words
from lm_eval_tasks.contracts.logs.scores import LEVEL

REFERENCE = "incompatible"
COMPARED = ("harmonious", "self_aligning", "contextualized", "mix", "random_wrong", "gold")
CONTRAST_METRICS = ("accuracy", *CONSISTENCY)
ALPHA = 1 - LEVEL

SUMMARY_SCHEMA = pl.Schema(
    dict.fromkeys(("model", "domain", "condition"), pl.String)
    | {"ratio": pl.Float64}
    | dict.fromkeys(("phase", "split", "metric"), pl.String)
    | dict.fromkeys(("value", "low", "high", "low_questions", "high_questions"), pl.Float64)
    | {"n": pl.Int64, "seeds": pl.Int64, "method": pl.String}
)
CONTRAST_SCHEMA = pl.Schema(
    dict.fromkeys(("model", "domain", "condition"), pl.String)
    | {"ratio": pl.Float64}
    | dict.fromkeys(("reference", "phase", "split", "metric"), pl.String)
    | dict.fromkeys(("difference", "low", "high", "low_questions", "high_questions", "p", "p_holm", "mde"), pl.Float64)
    | {"n": pl.Int64, "n_reference": pl.Int64, "seeds": pl.Int64, "paired": pl.Boolean, "method": pl.String}
    | {"p_bh": pl.Float64, "effect": pl.Float64, "effect_name": pl.String}
    | {"p_questions": pl.Float64, "p_holm_questions": pl.Float64}
)


@dataclass(frozen=True)
class Block:
    """One split of one study in one phase: every run's answers to every question that any of them was asked."""

    names: dict[str, str]  # model, domain, phase, split
    runs: pl.DataFrame  # condition, ratio, seed; a row a run
    values: np.ndarray  # (Q, R, M); NaN where a run was not asked, or a metric does not exist

    @cached_property
    def points(self) -> np.ndarray:
        """Means over questions, (R, M)."""
        known = np.isfinite(self.values)
        with np.errstate(invalid="ignore"):
            return np.where(known, self.values, 0).sum(axis=0) / known.sum(axis=0)

    @cached_property
    def resampled(self) -> np.ndarray:
        """The same over resampled questions, (B, R, M); computed when first asked for."""
        return resample_means(self.values)

    def count(self, run: int) -> np.ndarray:
        """Questions of a run, a metric each: (M,)."""
        return np.isfinite(self.values[:, run]).sum(axis=0)


def cut_blocks(measures: pl.DataFrame, metrics: tuple[str, ...]) -> Iterator[Block]:
    """Turn the table of measures into one array for each model, domain, phase and split."""
    for names, part in measures.group_by("model", "domain", "phase", "split", maintain_order=True):
        question = part.select(pl.struct("source", "question_domain", "id").rank("dense") - 1).to_series().to_numpy()
        runs = sort_by_words(part.select("run", "condition", "ratio", "seed").unique()).with_row_index("_run")
        run = part.select("run").join(runs, on="run", how="left", maintain_order="left")["_run"].to_numpy()
        values = np.full((question.max() + 1, runs.height, len(metrics)), np.nan)
        values[question, run] = part.select(pl.col(m).cast(pl.Float64) for m in metrics).fill_null(np.nan).to_numpy()
        values[np.isinf(values)] = np.nan
        yield Block(dict(zip(("model", "domain", "phase", "split"), names, strict=True)), runs, values)


def group_runs(block: Block) -> Iterator[tuple[str, float | None, dict[int | None, int]]]:
    """Condition, ratio, and the place of each seed's run."""
    for (condition, ratio), group in block.runs.group_by("condition", "ratio", maintain_order=True):
        yield condition, ratio, dict(zip(group["seed"].to_list(), group["_run"].to_list(), strict=True))


def _floor(metrics: tuple[str, ...], n: np.ndarray) -> np.ndarray:
    return np.where([m in BINARY for m in metrics], RULE_OF_THREE / np.maximum(n, 1), 0)


def compare_conditions(measures: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Summaries over seeds, and contrasts with the incompatible condition.

    Args:
        measures: as `results.read_study` gives them.

    Returns:
        `SUMMARY_SCHEMA`: a row for each condition, phase, split and metric. `CONTRAST_SCHEMA`: a row for each condition other
        than the reference, with p-values corrected over all contrasts of one phase and metric, and an effect size: Cohen's h of
        the two mean shares, or what `measure_effect` gives.
    """
    metrics = tuple(METRICS)
    summary, contrasts = [], []
    for block in cut_blocks(measures, metrics):
        groups = list(group_runs(block))
        for condition, ratio, places in groups:
            summary += _summarise_group(block, metrics, condition, ratio, list(places.values()))
        reference = next((places for condition, _, places in groups if condition == REFERENCE), None)
        for condition, ratio, places in groups if reference else ():
            if condition in COMPARED and (seeds := [seed for seed in places if seed in reference]):
                pairs = [(places[seed], reference[seed]) for seed in seeds]
                contrasts += _contrast_groups(block, metrics, condition, ratio, pairs)
    return (
        sort_by_words(pl.DataFrame(summary, schema=SUMMARY_SCHEMA)),
        sort_by_words(correct_family(cut_differences(pl.DataFrame(contrasts, schema=CONTRAST_SCHEMA)))),
    )


def _summarise_group(
    block: Block, metrics: tuple[str, ...], condition: str, ratio: float | None, runs: list[int]
) -> list[dict]:
    n = np.min([block.count(run) for run in runs], axis=0)
    estimate = estimate_mean(block.points[runs], block.resampled[:, runs], _floor(metrics, n))
    rows = []
    for m in np.flatnonzero(n > 1):
        name = metrics[m]
        bounds = {key: np.clip(getattr(estimate, key)[m], *BOUNDS[name]) for key in Estimate._fields[1:5]}
        row = {"condition": condition, "ratio": ratio, "metric": name, "value": estimate.value[m], **bounds, "n": n[m]}
        rows.append(block.names | row | {"seeds": 0 if condition == BASE else estimate.seeds, "method": estimate.method[m]})
    return rows


def _contrast_groups(
    block: Block, metrics: tuple[str, ...], condition: str, ratio: float | None, pairs: list[tuple[int, int]]
) -> list[dict]:
    """One row a metric: the runs of a condition minus those of the reference, seed by seed."""
    these, those = (list(side) for side in zip(*pairs, strict=True))
    n, n_reference = (np.min([block.count(run) for run in side], axis=0) for side in (these, those))
    known = np.isfinite(block.values)
    paired = (known[:, these] == known[:, those]).all(axis=(0, 1))
    estimate = estimate_mean(
        block.points[these] - block.points[those],
        block.resampled[:, these] - block.resampled[:, those],
        _floor(metrics, np.minimum(n, n_reference)),
    )
    effects = measure_effect(block.values[:, these], block.values[:, those], paired)
    rows = []
    for m in (m for m, name in enumerate(metrics) if name in CONTRAST_METRICS and min(n[m], n_reference[m]) > 1):
        p, method = estimate.p[m], estimate.method[m]
        if len(pairs) == 1 and paired[m] and metrics[m] in BINARY:
            a, b = (block.values[known[:, run, m], run, m] > 0 for run in pairs[0])
            p, method = compute_mcnemar(a, b), "exact McNemar; interval: bootstrap over questions"
        row = {
            "condition": condition,
            "ratio": ratio,
            "reference": REFERENCE,
            "metric": metrics[m],
            "difference": estimate.value[m],
        }
        row |= {key: getattr(estimate, key)[m] for key in ("low", "high", "low_questions", "high_questions", "mde")}
        row |= {
            "p": p,
            "p_questions": estimate.p_questions[m],
            "method": method,
            "n": n[m],
            "n_reference": n_reference[m],
            "seeds": len(pairs),
            "paired": bool(paired[m]),
        }
        if metrics[m] in BINARY:
            # By Cohen's conventions 0.2 is small and 0.8 large.
            kind, effect = "Cohen's h", proportion_effectsize(*(block.points[side, m].mean() for side in (these, those)))
        else:
            kind, effect = "d_z" if paired[m] else "Cohen's d", effects[m]
        row |= {"effect": effect if np.isfinite(effect) else None, "effect_name": kind}
        rows.append(block.names | row)
    return rows


def compute_mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """Exact McNemar p-value of two models' right answers (bool) to the same questions."""
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


def correct_family(contrasts: pl.DataFrame) -> pl.DataFrame:
    """Fill `p_holm` and `p_bh`, Holm's and Benjamini and Hochberg's corrections over all contrasts of one phase and metric.

    And `p_holm_questions`, Holm's of the p-values that take the seeds as given. What was not tested is null.
    """
    contrasts = contrasts.with_columns(pl.col("p", "p_questions", "mde").fill_nan(None))
    families = []
    for _, part in contrasts.group_by("phase", "metric", maintain_order=True):
        given = correct_tests(part["p_questions"])["p_holm"].alias("p_holm_questions")
        families.append(part.with_columns(*correct_tests(part["p"]).get_columns(), given))
    return pl.concat(families) if families else contrasts


def is_found(row: Mapping[str, Any], name: str = "p_holm") -> bool:
    """Whether a corrected p-value of a contrast says that there is a difference; none says so where nothing was tested."""
    return row[name] is not None and row[name] < ALPHA
