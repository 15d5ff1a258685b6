"""From a folder of runs to one table of measures (a row a question, run and phase) and one of results (a row a mean).

Runs are found by their `manifest.json` of stage `train`, samples by what they are, wherever they lie below the folder; the two
meet on the run id. What is missing is named in `gaps`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from analysis.consistency import METRICS as CONSISTENCY
from analysis.consistency import average_presentations, compare_probes, join_probes
from analysis.intervals import summarise_means
from analysis.labels import BASE, METRICS, PHASES, SPLITS, name_condition, sort_by_words
from analysis.runs import RUN_KEY, find_runs
from lm_eval_tasks.manifest import MANIFEST, UserError
from lm_eval_tasks.prompts import RESPONSE_FORMAT
from lm_eval_tasks.questions import KEY
from lm_eval_tasks.samples import read_probes

RESULT_COLUMNS = ("run", *RUN_KEY, "phase", "split", "metric", "value", "low", "high", "n")


@dataclass(frozen=True)
class Study:
    """All that a folder of runs holds."""

    runs: pl.DataFrame  # RUN_SCHEMA, a row a run
    measures: pl.DataFrame  # RUN_KEY, run, phase, split, the asked question's key and text, probes, METRICS; a row a question
    gaps: list[str]  # what is missing, in sentences
    manifests: list[dict[str, Any]]


def read_study(folder: str | Path) -> Study:
    """Read every run and every sample below a folder.

    Raises:
        UserError: no run or no samples at all, the same run twice, a broken manifest or log, or samples of one question that
            do not fit together (another wording, another way of scoring).
    """
    runs, manifests = find_runs(folder)
    probes = average_presentations(read_probes(folder)).rename({"model": "asked_model"})
    check_scoring(probes, runs, folder)
    gaps = find_strays(probes, runs)
    bases = match_bases(probes, runs)
    base, more = place_base(probes, runs, bases)
    tuned = probes.filter(pl.col("run") != "", pl.col("phase").str.starts_with("tuned")).join(
        runs.select(*RUN_KEY[:-1], "seed", "run", trained_source="source").rename({"domain": "trained_domain"}), on="run"
    )
    measures = pl.concat([base, tuned.select(base.columns)]).with_columns(name_split()).filter(pl.col("split").is_not_null())
    measures, apart = add_consistency(measures)
    names = {"domain": "question_domain", "trained_domain": "domain"}
    measures = measures.with_columns(accuracy=pl.col("correct").cast(pl.Float64)).rename(names).drop("trained_source")
    gaps += more + apart + find_holes(measures, runs)
    return Study(runs, measures, gaps, manifests)


def check_scoring(probes: pl.DataFrame, runs: pl.DataFrame, folder: str | Path) -> None:
    """Raise a `UserError` where a model was asked in two ways of scoring, or in a way that its training did not teach."""
    several = probes.group_by("asked_model", "run", "phase").agg(pl.col("scoring").unique().sort())
    several = several.filter(pl.col("scoring").list.len() > 1).sort("asked_model", "phase")
    if several.height:
        row = several.row(0, named=True)
        raise UserError(
            f"{folder}: {row['asked_model']} was scored by {' and by '.join(row['scoring'])} in phase {row['phase']}. "
            "Report one way of scoring at a time: move the logs of the other elsewhere."
        )
    asked = probes.filter(phase="tuned_chat").join(runs.select("run", "folder", "response_format"), on="run")
    wrong = asked.filter(pl.col("scoring").replace_strict(RESPONSE_FORMAT) != pl.col("response_format")).head(1)
    if wrong.height:
        row = wrong.row(0, named=True)
        raise UserError(
            f"{row['folder']} was trained on {row['response_format']} responses, but its chat samples are scored by "
            f"{row['scoring']}. Ask it with the chat task that fits."
        )


def find_strays(probes: pl.DataFrame, runs: pl.DataFrame) -> list[str]:
    """Samples that no run and no base model accounts for."""
    base, known = pl.col("run") == "", pl.col("run").is_in(runs["run"].implode())
    for_base = pl.col("phase").str.starts_with("base")
    groups = (
        probes.group_by("asked_model", "run", "phase", base=base, known=known, for_base=for_base).len().sort("run", "phase")
    )
    gaps = []
    for row in groups.iter_rows(named=True):
        what = f"{row['len']:,} samples of {row['asked_model']} (phase {row['phase']})"
        if row["base"] != row["for_base"]:
            carries = "carry no run id" if row["base"] else f"carry the run id {row['run']}"
            gaps.append(f"{what} {carries}, which does not fit the phase; left out. Was the model folder's {MANIFEST} there?")
        elif not row["base"] and not row["known"]:
            gaps.append(f"{what} carry the run id {row['run']}, of which there is no {MANIFEST}; left out.")
    return gaps


def match_bases(probes: pl.DataFrame, runs: pl.DataFrame) -> dict[str, str | None]:
    """For each base model that a run names, the name it has in the samples (the same, or the same last part), or None."""
    asked = sorted(probes.filter(run="")["asked_model"].unique())
    bases: dict[str, str | None] = {}
    for model in sorted(runs["model"].unique()):
        alike = [name for name in asked if Path(name).name == Path(model).name]
        bases[model] = model if model in asked else alike[0] if len(alike) == 1 else None
    return bases


def place_base(probes: pl.DataFrame, runs: pl.DataFrame, bases: Mapping[str, str | None]) -> tuple[pl.DataFrame, list[str]]:
    """The base model's samples, once for every domain that a run was trained in, as rows of condition `base`; and gaps."""
    gaps = [
        f"Base model {model} has no samples, so its runs are compared with nothing."
        for model, name in bases.items()
        if not name
    ]
    asked = probes.filter(pl.col("run") == "", pl.col("phase").str.starts_with("base"))
    used = {name for name in bases.values() if name}
    gaps += [
        f"No run was trained from {m}, of which there are samples; left out." for m in sorted(set(asked["asked_model"]) - used)
    ]
    trained = (
        runs.select("model", trained_domain="domain", trained_source="source")
        .unique(maintain_order=True)
        .with_columns(
            asked_model=pl.col("model").replace_strict(bases, return_dtype=pl.String),
            condition=pl.lit(BASE),
            ratio=pl.lit(None, pl.Float64),
            seed=pl.lit(None, pl.Int64),
        )
    )
    return asked.join(trained, on="asked_model"), gaps


def name_split() -> pl.Expr:
    """The split of an evaluation, relative to what the run was trained on; null for what is not evaluated."""
    same_domain = pl.col("domain") == pl.col("trained_domain")
    home = same_domain & (pl.col("source") == pl.col("trained_source"))
    test = pl.col("split") == "test"
    return (
        pl.when(test & home).then(pl.lit("homo"))
        .when(test & same_domain).then(pl.lit("id"))
        .when(test).then(pl.lit("ood"))
        .when((pl.col("split") == "train") & home & (pl.col("run") != "")).then(pl.lit("seen"))
        # The base model's probe of the train questions is what `seen` is compared with; it is no split of its own.
        .when((pl.col("split") == "train") & home).then(pl.lit("train"))
        .alias("split")
    )  # fmt: skip


def add_consistency(measures: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Compare every phase with the base model's probe of the same question; null in that probe itself, and where it lacks."""
    on = ("model", "trained_domain", *KEY)
    before = measures.filter(phase="base_probe")
    joined = join_probes(before, measures.filter(pl.col("phase") != "base_probe"), on=on)
    compared = compare_probes(joined.table) if joined.table.height else joined.table
    added = [*CONSISTENCY, "rank_undefined", "probs_before", "prediction_before"]
    row = ("run", "phase", *on)
    if not compared.height:
        kinds = (pl.Float64, pl.Float64, pl.Boolean, pl.Boolean, pl.List(pl.Float64), pl.Int64)
        compared = compared.select(*row, *(pl.lit(None, kind).alias(name) for name, kind in zip(added, kinds, strict=True)))
    measures = measures.join(compared.select(*row, *added), on=row, how="left", maintain_order="left")
    measures = measures.filter(pl.col("split") != "train")
    with_base = measures.join(before.select("model").unique(), on="model", how="semi")
    who = ("trained_domain", *RUN_KEY[2:], "phase", "split")
    lacking = with_base.filter(pl.col("phase") != "base_probe", pl.col("kl_nats").is_null())
    gaps = [
        f"{row['len']:,} questions of {_name_run(row)} ({row['phase']}, {row['split']}) were not asked of the base "
        "model before; they count for accuracy alone."
        for row in sort_by_words(lacking.group_by(*who).len()).iter_rows(named=True)
    ]
    infinite = measures.filter(pl.col("kl_nats").is_infinite()).group_by(*who).len()
    gaps += [
        f"{row['len']:,} questions of {_name_run(row)} ({row['phase']}, {row['split']}) have an infinite KL "
        "(a choice of probability 0) and are left out of its mean."
        for row in sort_by_words(infinite).iter_rows(named=True)
    ]
    return measures, gaps


def find_holes(measures: pl.DataFrame, runs: pl.DataFrame) -> list[str]:
    """Runs, phases, splits and seeds that a complete study has, and this one lacks."""
    gaps = []
    held = {row[:2]: set(row[2]) for row in measures.group_by("run", "phase").agg(pl.col("split").unique()).iter_rows()}
    tests = [split for split in SPLITS if split != "seen"]
    every = set(measures["split"])
    asked = [("", "the base model", ("base_probe", "base_chat"))]
    asked += [(row["run"], _name_run(row), ("tuned_chat", "tuned_probe")) for row in runs.iter_rows(named=True)]
    for run, name, phases in asked:
        if not any((run, phase) in held for phase in phases):
            gaps.append(f"{name[0].upper()}{name[1:]} has no samples{f' (run {run})' if run else ''}.")
            continue
        for phase in phases:
            have = held.get((run, phase), set())
            wanted = [*(["seen"] if phase == "tuned_chat" else []), *tests]
            lacking = [s for s in wanted if s not in have]
            if not have:
                gaps.append(f"{name[0].upper()}{name[1:]} was not asked in phase {phase} ({PHASES[phase]}).")
            elif lacking:
                gaps.append(f"{name[0].upper()}{name[1:]} ({phase}) lacks the split {', '.join(lacking)}.")
    gaps += [f"No model was asked a question of split {split} ({SPLITS[split]})." for split in tests if split not in every]
    seeds = set(runs["seed"])
    if len(seeds) == 1:
        gaps.append("Seeds were not varied (one only): all intervals are over questions, and say nothing about other seeds.")
    for (_, domain, condition, ratio), group in runs.group_by(*RUN_KEY[:-1], maintain_order=True):
        if lacking := seeds - set(group["seed"]):
            name = name_condition(condition, ratio)
            gaps.append(f"Condition {name} in {domain} lacks seed {', '.join(map(str, sorted(lacking)))}, which others have.")
    return gaps


def _name_run(row: Mapping[str, Any]) -> str:
    if row["condition"] == BASE:
        return "the base model"
    return (
        f"{name_condition(row['condition'], row['ratio'])}, seed {row['seed']} ({row.get('trained_domain') or row['domain']})"
    )


def summarise_results(measures: pl.DataFrame) -> pl.DataFrame:
    """The long result table (`RESULT_COLUMNS`): means over questions with intervals."""
    results = summarise_means(measures, ("run", *RUN_KEY, "phase", "split"), tuple(METRICS))
    return sort_by_words(results.select(RESULT_COLUMNS))
