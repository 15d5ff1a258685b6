"""Partial correlation over runs: do the runs that keep the base model's beliefs do better, where the base model was as good?

A run is one point: its accuracy after training, its consistency (mean correlation of choice ranks, base few-shot against tuned
chat), and, as the control, the base model's few-shot accuracy on the same evaluation set. The control is the same for all runs
of one base model and domain, so it can be taken out only where there are several domains.
"""

import contextlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import scipy

from analysis.chapters.chapter import Chapter, Computed
from analysis.chapters.curves import ENDS, ON_CURVE, PHASE
from analysis.measures.differences import correct_tests
from analysis.measures.intervals import RESAMPLES, SEED
from analysis.measures.keys import PART, sort_by_words
from analysis.showing.formats import DASH, format_interval, format_number, format_p
from analysis.showing.tables import Notes, Table
from lm_eval_tasks.contracts.logs.scores import LEVEL
from lm_eval_tasks.contracts.vocabulary import NEW_SETS, name_condition, name_set

POOLED = "all base models"
FEWEST_CLUSTERS = 10
METHODS = {
    "paper": "the paper's way",
    "textbook": "textbook",
    "clusters": "textbook, clusters resampled",
    "uncontrolled": "not controlled",
}
SCHEMA = pl.Schema(
    dict.fromkeys(("model", "split", "method"), pl.String)
    | dict.fromkeys(("statistic", "low", "high", "p", "p_holm", "p_bh"), pl.Float64)
    | {"n": pl.Int64, "clusters": pl.Int64, "note": pl.String}
)
# Shares and ranks that differ by less than this differ by rounding alone, which must not make ranks of its own.
_DIGITS = 9
_ROUNDING = 10.0**-_DIGITS
_COLUMNS = ("accuracy after", "consistency", "accuracy before")


class Undefined(Exception):  # noqa: N818
    """A correlation that cannot be computed; the message says why."""


class Sample(NamedTuple):
    """The runs of one correlation."""

    after: np.ndarray  # (n,), accuracy after training
    consistency: np.ndarray  # (n,)
    controls: np.ndarray  # (n, k), accuracy before; k is 0 or 1
    cluster: np.ndarray  # (n,), which base model and domain, from 0


class Outcome(NamedTuple):
    """A correlation with its interval and p-value, where there are such."""

    statistic: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    note: str = ""


def compute_partial(results: pl.DataFrame, bases: Mapping[str, str] | None = None) -> pl.DataFrame:
    """Partial correlations of accuracy after training and consistency, given accuracy before; over runs, domains pooled.

    The set `seen` is left out: there the base model was wrong on every question, by the choice of questions.

    Args:
        results: as `study.summarise_results` gives them.
        bases: the base models of those that have several arms: these are no clusters of their own.

    Returns:
        `SCHEMA`: for each base model and evaluation set a row for each of `METHODS`, and the same over the runs of all base
        models (model `POOLED`) where there are several; n: runs. What cannot be computed is null, and `note` says why. P-values
        are corrected over all rows of one method, but for the paper's.
    """
    runs = gather_runs(results).with_columns(base=pl.col("model").replace(bases or {}))
    groups = [(model, part) for (model,), part in runs.group_by("model", maintain_order=True)]
    groups += [(POOLED, runs)] if runs["base"].n_unique() > 1 else []
    rows = []
    for model, part in groups:
        for split in NEW_SETS:
            found = correlate_runs(part.filter(split=split))
            # The paper never mixes base models.
            rows += [{"model": model, "split": split} | row for row in found if model != POOLED or row["method"] != "paper"]
    table = pl.DataFrame(rows, schema=SCHEMA)
    families = [
        correct_tests(table.select(pl.when(pl.col("method") == method).then("p")).to_series())
        for method in ("textbook", "clusters", "uncontrolled")
    ]
    return table.with_columns(pl.coalesce(family[name] for family in families).alias(name) for name in ("p_holm", "p_bh"))


def gather_runs(results: pl.DataFrame) -> pl.DataFrame:
    """One row a run and evaluation set: `model, domain, run, split, after, consistency, before` (null where there is none)."""
    kept = pl.col("condition").is_in(ON_CURVE) & (pl.col("phase") == PHASE) & pl.col("split").is_in(NEW_SETS)
    metrics = {"after": "accuracy", "consistency": "rank_pearson"}
    values = {name: pl.col("value").filter(pl.col("metric") == metric).first() for name, metric in metrics.items()}
    runs = sort_by_words(results.filter(kept)).group_by(*PART, "run", "split", maintain_order=True).agg(**values)
    before = results.filter(phase="base_probe", metric="accuracy").select(*PART, "split", before="value")
    return runs.join(before, on=(*PART, "split"), how="left", maintain_order="left")


def correlate_runs(runs: pl.DataFrame) -> list[dict[str, Any]]:
    """The rows of runs on one evaluation set: one for each method, `uncontrolled` only where the control does not vary."""
    numbers = ("after", "consistency", "before")
    whole = runs.filter(pl.all_horizontal(pl.col(name).is_finite().fill_null(False) for name in numbers))
    after, consistency, before = (whole[name].to_numpy() for name in numbers)
    cluster = whole.select(pl.struct("base", "domain").rank("dense") - 1).to_series().to_numpy().astype(int)
    sample = Sample(after, consistency, before[:, None], cluster)
    lost = runs.height - whole.height
    lacking = [f"{lost} of {runs.height} runs lack accuracy before or consistency: left out"] if lost else []
    counts = {"n": whole.height, "clusters": len(set(cluster))}
    rows = []
    for method, compute in _COMPUTE.items():
        if method == "uncontrolled":
            if whole.height == 0 or not is_constant(before):
                continue
            sample = sample._replace(controls=np.empty((whole.height, 0)))
        try:
            outcome = compute(sample)
        except Undefined as error:
            outcome = Outcome(None, note=f"not computed: {error}")
        outcome = (outcome if method == "clusters" else withhold_test(outcome, **counts))._asdict()
        rows.append(counts | {"method": method} | outcome | {"note": "; ".join(filter(None, [*lacking, outcome["note"]]))})
    return rows


def withhold_test(outcome: Outcome, n: int, clusters: int) -> Outcome:
    """A correlation without interval and p-value where its runs are not independent.

    Runs of one base model and domain share both, and their questions: taken for independent, they gave false findings in up to
    41% of null studies.

    Args:
        outcome: the correlation.
        n: runs.
        clusters: base models x domains that they are of.
    """
    if outcome.statistic is None:
        return outcome
    if clusters < FEWEST_CLUSTERS:
        reason = f"{clusters} cluster{'s' if clusters != 1 else ''} of runs, fewer than {FEWEST_CLUSTERS}: no interval and no p"
    elif n > clusters:
        reason = "several runs of one cluster: no interval and no p, which the resampled clusters give"
    else:
        return outcome
    return outcome._replace(low=None, high=None, p=None, note="; ".join(filter(None, [outcome.note, reason])))


def is_constant(values: np.ndarray) -> bool:
    """Whether numbers of about 1 differ by rounding alone."""
    return bool(np.ptp(values) < _ROUNDING)


def take_residuals(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Ranks (ties share their mean rank) of accuracy after and of consistency, less what the ranks of the controls explain.

    Raises:
        Undefined: too few runs, a column that does not vary, or one that the control determines.
    """
    n, k = sample.controls.shape
    if n < 4 + k:
        raise Undefined(f"{n} runs, fewer than {4 + k}")
    columns = np.column_stack([sample.after, sample.consistency, sample.controls])
    for name, column in zip(_COLUMNS, columns.T, strict=False):
        if is_constant(column):
            one = " (one domain)" if len(set(sample.cluster)) == 1 else ""
            raise Undefined(f"{name} does not vary{f'{one}, so there is nothing to control' if name == _COLUMNS[2] else ''}")
    ranks = scipy.stats.rankdata(np.round(columns, _DIGITS), axis=0)
    ranks -= ranks.mean(axis=0)
    y, x = ranks[:, :2], ranks[:, 2:]
    residuals = np.round(y - x @ np.linalg.lstsq(x, y)[0], _DIGITS) if k else y
    for name, column in zip(_COLUMNS, residuals.T, strict=False):
        if is_constant(column):
            raise Undefined(f"{_COLUMNS[2]} determines {name}")
    return residuals[:, 0], residuals[:, 1]


def correlate_as_paper(sample: Sample) -> Outcome:
    """Spearman correlation of the residuals of ranks, with its p-value as if nothing had been taken out."""
    test = scipy.stats.spearmanr(*take_residuals(sample))
    return Outcome(float(test.statistic), p=float(test.pvalue))


def correlate_partially(sample: Sample) -> Outcome:
    """Pearson correlation of the residuals of ranks: t test with n - 2 - k degrees of freedom, Fisher's with n - 3 - k.

    Both are approximations: a line through ranks does not take out all of a control that explains nearly everything.
    """
    n, k = sample.controls.shape
    r = compute_statistic(sample)
    if abs(r) > 1 - _ROUNDING:
        return Outcome(r, note="the ranks agree without exception, where neither the interval nor p holds")
    p = 2 * scipy.stats.t.sf(abs(r) * np.sqrt((n - 2 - k) / (1 - r**2)), n - 2 - k)
    half = scipy.stats.norm.ppf((1 + LEVEL) / 2) / np.sqrt(n - 3 - k)
    return Outcome(r, float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half)), float(p))


def compute_statistic(sample: Sample) -> float:
    """The partial rank correlation itself."""
    x, y = take_residuals(sample)  # centred
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1, 1))


def resample_clusters(sample: Sample) -> Outcome:
    """The partial rank correlation with a percentile interval over resampled clusters, each with all its runs.

    Raises:
        Undefined: fewer than `FEWEST_CLUSTERS` clusters, or the correlation itself, or more than one in twenty resamples.
    """
    clusters = len(set(sample.cluster))
    if clusters < FEWEST_CLUSTERS:
        raise Undefined(f"{clusters} cluster{'s' if clusters != 1 else ''} of runs, fewer than {FEWEST_CLUSTERS}")
    statistic = compute_statistic(sample)
    runs = [np.flatnonzero(sample.cluster == c) for c in range(clusters)]
    rng = np.random.default_rng(SEED)
    found = []
    for _ in range(RESAMPLES):
        at = np.concatenate([runs[c] for c in rng.integers(0, clusters, clusters)])
        with contextlib.suppress(Undefined):
            found.append(compute_statistic(Sample(*(column[at] for column in sample))))
    lost = RESAMPLES - len(found)
    if lost > RESAMPLES / 20:
        raise Undefined(f"{lost} of {RESAMPLES} resamples of clusters do not vary")
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    note = f"{lost} of {RESAMPLES} resamples do not vary: left out" if lost else ""
    beyond = min(np.mean(np.array(found) <= 0), np.mean(np.array(found) >= 0))
    p = min(2 * max(float(beyond), 1 / len(found)), 1.0)
    return Outcome(statistic, float(low), float(high), p, note)


_COMPUTE = {
    "paper": correlate_as_paper,
    "textbook": correlate_partially,
    "clusters": resample_clusters,
    "uncontrolled": correlate_partially,
}


def tabulate_partial(partial: pl.DataFrame) -> Table:
    """All partial correlations; notes are numbered, and stand below the table."""
    notes, rows = Notes(), []
    for row in partial.iter_rows(named=True):
        interval = format_interval(row, digits=2, sign=True) if row["low"] is not None else DASH
        tests = [format_p(row[name]) for name in ("p", "p_holm", "p_bh")]
        words = [row["model"], name_set(row["split"]), METHODS[row["method"]]]
        counts = [str(row["n"]), str(row["clusters"])]
        rows.append([*words, format_number(row["statistic"], 2, sign=True), interval, *tests, *counts, notes.mark(row["note"])])
    conditions = sorted(ON_CURVE, key=lambda name: ENDS.get(name, 0.5))  # mixes between the ends
    header = ["base model", "split", "method", "correlation", "95% interval", "p", "p (Holm)", "p (BH)"]
    note = (
        f"Over runs of the conditions {', '.join(map(name_condition, conditions))}: accuracy in the chat prompt "
        "and mean rank correlation with the base model's few-shot probe, both as ranks, less what the rank of the base model's "
        "few-shot accuracy on the split explains. The paper's way: Spearman correlation of these residuals; its p-value "
        "forgets the control, and is not corrected. Textbook: Pearson correlation of the residuals, with the degrees of "
        "freedom that the control costs; corrected over base models and splits. n: runs; a cluster is one base model in one "
        "domain. Runs of a cluster share the base model, questions and control, so that tests of single runs would take them "
        "for more independent than they are: there is none below ten clusters, and above it is over resampled clusters."
    )
    title = "Consistency and accuracy over runs, accuracy before taken out"
    return Table("partial", title, [*header, "n", "clusters", "note"], rows, note + notes.write(), left=3)


CHAPTER = Chapter(
    compute=lambda whole: Computed({"partial": compute_partial(whole.frames["results"], whole.study.bases)}),
    across=lambda frames: [tabulate_partial(frames["partial"])],
)
