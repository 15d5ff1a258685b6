"""The answers of all runs that were asked alike as one array, so that their questions are resampled together.

A difference of two runs is then paired by question wherever the questions are the same, and by seed number always.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from analysis.measures.intervals import RULE_OF_THREE, measure_skew, resample_means
from analysis.measures.keys import BLOCK, CONDITION, QUESTION, sort_by_words
from analysis.measures.metrics import SHARES


@dataclass(frozen=True)
class Block:
    """One evaluation set of one base model and trained domain in one phase: every run's answers to all its questions."""

    names: dict[str, str]  # the columns of `BLOCK`
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
    """Make one array of the table of measures for each base model, trained domain, phase and evaluation set."""
    for names, part in measures.group_by(BLOCK, maintain_order=True):
        question = number_questions(part)
        runs = sort_by_words(part.select("run", *CONDITION, "seed").unique()).with_row_index("_run")
        run = part.select("run").join(runs, on="run", how="left", maintain_order="left")["_run"].to_numpy()
        values = np.full((question.max() + 1, runs.height, len(metrics)), np.nan)
        values[question, run] = part.select(pl.col(m).cast(pl.Float64) for m in metrics).fill_null(np.nan).to_numpy()
        values[np.isinf(values)] = np.nan
        yield Block(dict(zip(BLOCK, names, strict=True)), runs, values)


def group_runs(block: Block) -> Iterator[tuple[str, float | None, dict[int | None, int]]]:
    """Condition, ratio, and the index in the block of each seed's run."""
    for (condition, ratio), group in block.runs.group_by(CONDITION, maintain_order=True):
        yield condition, ratio, dict(zip(group["seed"].to_list(), group["_run"].to_list(), strict=True))


def number_questions(measures: pl.DataFrame) -> np.ndarray:
    """The number from 0 of each row's question, (n,)."""
    return measures.select(pl.struct(QUESTION).rank("dense") - 1).to_series().to_numpy()


def compute_floor(metrics: tuple[str, ...], n: np.ndarray) -> np.ndarray:
    """The least standard error of each metric's mean over n questions, (M,): that of the rule of three for shares, else 0."""
    return np.where([metric in SHARES for metric in metrics], RULE_OF_THREE / np.maximum(n, 1), 0)


def compute_skew(block: Block, metrics: tuple[str, ...], these: list[int], those: list[int] | None = None) -> np.ndarray:
    """Skewness of each metric's mean over runs (or of its difference from that over `those`), (M,); 0 for shares."""
    skewed = np.array([metric not in SHARES for metric in metrics])
    return skewed * measure_skew(block.values[:, these], None if those is None else block.values[:, those])
