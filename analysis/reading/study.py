"""From a folder of runs to one table of measures (a row a question, run and phase) and one of results (a row a mean).

Runs are found by their `manifest.json` of stage `train`, samples by what they are, wherever they lie below the folder; the two
meet on the run id. What is missing is named in `gaps`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from analysis.chapters.letter_priors import compute_prior_parts
from analysis.measures.consistency import METRICS as CONSISTENCY
from analysis.measures.consistency import average_presentations, compare_probes, join_probes, name_question
from analysis.measures.intervals import summarise_means
from analysis.reading.gaps import find_holes, find_left_out, find_short, find_strays, find_unmatched
from analysis.reading.runs import RUN_KEY, find_runs
from analysis.showing.labels import BASE, METRICS, sort_by_words
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.probe_table import PROBE_SCHEMA
from lm_eval_tasks.contracts.logs.samples import TEXTS, read_asked
from lm_eval_tasks.contracts.prompts import RESPONSE_FORMAT
from lm_eval_tasks.contracts.vocabulary import KEY

# Texts, which most logs repeat, are kept once a question.
UNUSED = {*TEXTS[1:], "explanation", "topics", "category", "loglikelihoods_per_character", "loglikelihoods_pmi"}
PROBE_COLUMNS = [name for name in PROBE_SCHEMA if name not in UNUSED]
RESULT_COLUMNS = ("run", *RUN_KEY, "phase", "split", "metric", "value", "low", "high", "n")


@dataclass(frozen=True)
class Study:
    """All that a folder of runs holds."""

    runs: pl.DataFrame  # RUN_SCHEMA, a row a run
    measures: pl.DataFrame  # RUN_KEY, run, phase, split, the asked question's key and text, probes, METRICS; a row a question
    trained: pl.DataFrame  # the base models' chat answers to train questions, with which `seen` is compared; as measures
    prior_parts: pl.DataFrame  # of the divergence (see `prior_parts`); empty where nothing was asked in every order of choices
    gaps: list[str]  # what is missing, in sentences
    manifests: list[dict[str, Any]]


def read_study(folder: str | Path) -> Study:
    """Read every run and every sample below a folder.

    Raises:
        UserError: no run or no samples at all, the same run twice, a broken manifest or log, or samples of one question that
            do not fit together (another wording, another way of scoring).
    """
    runs, manifests = find_runs(folder)
    asked, questions = read_asked(folder, PROBE_COLUMNS)
    probes = average_presentations(asked).rename({"model": "asked_model"})
    check_scoring(probes, runs, folder)
    check_questions(probes)
    check_names(probes)
    samples = asked.rename({"model": "asked_model"})
    gaps = find_strays(samples, runs)
    bases = match_bases(probes, runs)
    check_prompts(samples, runs, bases)
    # Other ways of scoring show no letters, so nothing lacks there.
    prior_parts, untold = compute_prior_parts(asked.filter(scoring="letter"), runs, bases, name_split())
    base, more = place_base(probes, runs, bases)
    tuned = probes.filter(pl.col("run") != "", pl.col("phase").str.starts_with("tuned")).join(
        runs.select(*RUN_KEY[:-1], "seed", "run", trained_source="source").rename({"domain": "trained_domain"}), on="run"
    )
    everything = pl.concat([base, tuned.select(base.columns)]).with_columns(name_split().alias("evaluated"))
    gaps += find_left_out(everything)
    measures = everything.filter(pl.col("evaluated").is_not_null()).drop("split").rename({"evaluated": "split"})
    measures, apart = add_consistency(measures)
    trained = measures.filter(split="train", phase="base_chat")
    measures = measures.filter(pl.col("split") != "train")
    names = {"domain": "question_domain", "trained_domain": "domain"}
    measures, trained = (
        table.with_columns(accuracy=pl.col("correct").cast(pl.Float64)).rename(names).drop("trained_source")
        for table in (measures, trained)
    )
    measures = measures.join(questions, on="question_hash", how="left", maintain_order="left")
    gaps += more + apart + untold + find_holes(measures, runs) + find_short(measures)
    return Study(runs, measures, trained, prior_parts, gaps, manifests)


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


def check_questions(probes: pl.DataFrame) -> None:
    """Raise a `UserError` where one key stands for two questions, whoever was asked them."""
    held = probes.select(*KEY, "question_hash").unique()
    other = held.filter(held.select(KEY).is_duplicated()).sort(*KEY, "question_hash").head(2)
    if other.height:
        raise UserError(
            f"{name_question(other)} is not the same question in all logs (question_hash {other['question_hash'][0]} and "
            f"{other['question_hash'][1]}). Ask all models the same question set."
        )


def check_names(probes: pl.DataFrame) -> None:
    """Raise a `UserError` where a run's answers to one question stand under two names of its model."""
    key = ("run", "phase", *KEY)
    tuned = probes.filter(pl.col("run") != "")
    if not tuned.select(pl.struct(key).is_duplicated().any()).item():
        return
    twice = tuned.filter(pl.struct(key).is_duplicated()).sort(*key, "asked_model").head(2)
    raise UserError(
        f"{name_question(twice)} was asked twice of run {twice['run'][0]} in phase {twice['phase'][0]}, as "
        f"{' and as '.join(twice['asked_model'])}. Remove the log of one of them."
    )


def check_prompts(probes: pl.DataFrame, runs: pl.DataFrame, bases: Mapping[str, str | None]) -> None:
    """Raise a `UserError` where a base model and its runs were asked a question with different prompts in the same way.

    Few-shot prompts are compared with few-shot ones, and chat prompts with chat prompts. Trained questions are not compared:
    their choices are turned, and a context may stand before them.
    """
    named = {name: model for model, name in bases.items() if name}
    asked = probes.filter(pl.col("prompt_hash").is_not_null(), split="test").with_columns(
        kind=pl.col("phase").str.split("_").list.last(),
        base=pl.when(run="")
        .then(pl.col("asked_model").replace_strict(named, default=None, return_dtype=pl.String))
        .otherwise(pl.col("run").replace_strict(runs["run"], runs["model"], default=None, return_dtype=pl.String)),
    )
    key = ("base", "kind", *KEY, "draw", "order")
    asked = asked.filter(pl.col("base").is_not_null(), pl.col("kind") != "context")
    other = asked.group_by(key).agg(pl.col("prompt_hash").n_unique()).filter(pl.col("prompt_hash") > 1).sort(key).head(1)
    if other.height:
        rows = asked.join(other.select(key), on=key, nulls_equal=True).unique("prompt_hash", maintain_order=True)
        one, two = ("{asked_model} ({phase}, prompt_hash {prompt_hash})".format(**row) for row in rows.head(2).to_dicts())
        raise UserError(
            f"{name_question(other)} was asked with one prompt of {one} and with another of {two}, so their answers cannot be "
            "compared. Ask all models by one task, with the same demonstrations and chat template."
        )


def match_bases(probes: pl.DataFrame, runs: pl.DataFrame) -> dict[str, str | None]:
    """For each base model that a run names, the name it has in the samples (the same, or the same last part), or None.

    A name with the same last part counts where it can be meant by one base model only.
    """
    alike = find_alike(probes, runs)
    meant = [names[0] for names in alike.values() if len(names) == 1]
    return {model: names[0] if len(names) == 1 == meant.count(names[0]) else None for model, names in alike.items()}


def find_alike(probes: pl.DataFrame, runs: pl.DataFrame) -> dict[str, list[str]]:
    """For each base model that a run names, the names in the samples that may be its: its own, else those of like last part."""
    asked, named = sorted(probes.filter(run="")["asked_model"].unique()), sorted(runs["model"].unique())
    return {
        model: [model] if model in asked else [n for n in asked if Path(n).name == Path(model).name and n not in named]
        for model in named
    }


def place_base(probes: pl.DataFrame, runs: pl.DataFrame, bases: Mapping[str, str | None]) -> tuple[pl.DataFrame, list[str]]:
    """The base model's samples, once for every domain that a run was trained in, as rows of condition `base`; and gaps."""
    named, gaps = find_alike(probes, runs), []
    for model in (model for model, name in bases.items() if not name):
        alike = " or ".join(named[model])
        told = f"may be {alike}: keep the samples of one. Till then" if alike else "has no samples, so"
        gaps.append(f"Base model {model} {told} its runs are compared with nothing.")
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
    joined = join_probes(before, measures.filter(pl.col("phase") != "base_probe"), on=on).table
    compared = compare_probes(joined) if joined.height else joined
    compared = compared.join(before.select(*on, choice_mass_before="choice_mass"), on=on, maintain_order="left")
    added = [*CONSISTENCY, "rank_undefined", "probs_before", "prediction_before", "choice_mass_before"]
    row = ("run", "phase", *on)
    if not compared.height:
        kinds = (pl.Float64, pl.Float64, pl.Boolean, pl.Boolean, pl.List(pl.Float64), pl.Int64, pl.Float64)
        compared = compared.select(*row, *(pl.lit(None, kind).alias(name) for name, kind in zip(added, kinds, strict=True)))
    measures = measures.join(compared.select(*row, *added), on=row, how="left", maintain_order="left")
    return measures, find_unmatched(measures.filter(pl.col("split") != "train"), before)


def summarise_results(measures: pl.DataFrame) -> pl.DataFrame:
    """The long result table (`RESULT_COLUMNS`): means over questions with intervals."""
    results = summarise_means(measures, ("run", *RUN_KEY, "phase", "split"), tuple(METRICS))
    return sort_by_words(results.select(RESULT_COLUMNS))
