"""From a folder of runs to one table of measures (a row a question, run and phase) and one of results (a row a mean).

Runs are found by their `manifest.json` of stage `train`, samples by what they are, wherever they lie below the folder; the two
meet on the run id. What is missing is named in `gaps`.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl

from analysis.measures.consistency import COMPARED_SCHEMA, average_presentations, compare_probes, join_probes
from analysis.measures.intervals import summarise_means
from analysis.measures.keys import RUN_KEY, sort_by_words
from analysis.measures.metrics import METRICS, compute_metrics
from analysis.reading.answered import read_answered
from analysis.reading.arms import label_arm
from analysis.reading.bases import match_bases
from analysis.reading.checks import check_names, check_prompts, check_questions, check_scoring
from analysis.reading.fits import read_fits
from analysis.reading.gaps import (
    find_arms,
    find_holes,
    find_short,
    find_strays,
    find_ties,
    find_unmatched,
    find_unsaid,
)
from analysis.reading.letters import Letterings, read_letterings
from analysis.reading.runs import find_runs
from analysis.reading.scores import choose_scores
from analysis.reading.sets import join_runs
from lm_eval_tasks.contracts.logs.probe_table import PROBE_SCHEMA, SCORED_BY
from lm_eval_tasks.contracts.logs.rescoring import keep_loglikelihoods
from lm_eval_tasks.contracts.logs.samples import TEXTS, read_asked
from lm_eval_tasks.contracts.public import make_public
from lm_eval_tasks.contracts.vocabulary import KEY, Primary

# Texts, which most logs repeat, are kept once a question.
UNUSED = {*TEXTS[1:], "explanation", "topics", "category", *SCORED_BY.values()}
PROBE_COLUMNS = [name for name in PROBE_SCHEMA if name not in UNUSED]
RESULT_COLUMNS = ("run", *RUN_KEY, "phase", "split", "metric", "value", "low", "high", "n")


@dataclass(frozen=True)
class Study:
    """All that a folder of runs holds."""

    runs: pl.DataFrame  # RUN_SCHEMA, a row a run
    # RUN_KEY, run, threshold, phase, split, the asked question's key and text, probes, METRICS; a row a question.
    measures: pl.DataFrame
    trained: pl.DataFrame  # the base models' chat answers to train questions, with which `seen` is compared; as measures
    fits: pl.DataFrame  # fits.FIT_SCHEMA, a row a run that says how far it fitted its rows
    again: pl.DataFrame  # the base models asked again, with other demonstrations, also train questions; as measures
    answered: pl.DataFrame  # answered.ANSWERED_SCHEMA, what models answered in words; empty where nobody asked them
    letterings: Letterings  # what models said letter by letter; empty where nothing was asked in every order of choices
    gaps: list[str]  # what is missing, in sentences
    manifests: list[dict[str, Any]]
    primary: Primary | None = None  # the contrast that was named beforehand

    @property
    def bases(self) -> dict[str, str]:
        """The base model of each model's name, of which there are several where runs were trained in several ways."""
        return dict(self.runs.select("model", "base").iter_rows())


def read_study(folder: str | Path, primary: Primary | None = None) -> Study:
    """Read every run and every sample below a folder.

    Args:
        folder: it.
        primary: the contrast that was named beforehand, if one was.

    Raises:
        UserError: no run or no samples at all, the same run twice, a broken manifest or log, or samples of one question that
            do not fit together (another wording, another way of scoring).
    """
    runs, manifests = find_runs(folder)
    gaps = find_unsaid(runs, manifests) + find_arms(runs)
    scores = choose_scores(runs, folder)
    columns = [*PROBE_COLUMNS, *dict.fromkeys(SCORED_BY[score] for score in scores.values())]
    asked, questions = read_asked(folder, columns, score=scores)
    asked = keep_loglikelihoods(asked)
    probes = average_presentations(asked).rename({"model": "asked_model"})
    check_scoring(probes, runs, folder)
    check_questions(probes)
    check_names(probes)
    samples = asked.rename({"model": "asked_model"})
    gaps += find_strays(samples, runs)
    bases = match_bases(probes, runs)
    check_prompts(samples, runs, bases)
    # Other ways of scoring show no letters, so nothing lacks there.
    letterings, untold = read_letterings(asked.filter(scoring="letter"), runs, bases)
    measures, more = join_runs(probes, runs, bases)
    measures, apart = add_consistency(measures)
    trained = measures.filter(split="train", phase="base_chat")
    again = measures.filter(phase="base_again")
    measures = measures.filter(pl.col("split") != "train")
    names = {"domain": "question_domain", "trained_domain": "domain"}
    measures, trained, again = (
        table.with_columns(**compute_metrics()).rename(names).drop("trained_source") for table in (measures, trained, again)
    )
    measures = measures.join(questions, on="question_hash", how="left", maintain_order="left")
    gaps += more + apart + untold + find_holes(measures, runs) + find_short(measures) + find_ties(measures)
    answered, unanswered = read_answered(folder, runs)
    gaps += unanswered
    public = name_models(runs["base"].unique())
    named = {label: label_arm(public[base], arm) for label, base, arm in runs.select("model", "base", "arm").iter_rows()}
    runs, measures, trained, again, answered = (
        table.with_columns(pl.col("model").replace(named)) for table in (runs, measures, trained, again, answered)
    )
    runs = runs.with_columns(pl.col("base").replace(public))
    letterings = {(public.get(who, who), phase): letters for (who, phase), letters in letterings.items()}
    fits, gaps = read_fits(runs), make_public(gaps)
    return Study(runs, measures, trained, fits, again, answered, letterings, gaps, manifests, primary)


def name_models(models: Iterable[str]) -> dict[str, str]:
    """What a report, which others may see, calls base models: of a path its last part, numbered where two share it.

    >>> name_models(["meta-llama/Llama-2-7b-hf", "/home/me/a/base", "/home/me/b/base"])
    {'/home/me/a/base': 'base (1)', '/home/me/b/base': 'base (2)', 'meta-llama/Llama-2-7b-hf': 'meta-llama/Llama-2-7b-hf'}
    """
    public = {model: make_public(model) for model in sorted(models)}
    shared = Counter(public.values())
    number = {name: count(1) for name in shared}
    return {model: f"{name} ({next(number[name])})" if shared[name] > 1 else name for model, name in public.items()}


def add_consistency(measures: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Compare every phase with the base model's probe of the same question; null in that probe itself, and where it lacks."""
    on = ("model", "trained_domain", *KEY)
    before = measures.filter(phase="base_probe")
    joined = join_probes(before, measures.filter(pl.col("phase") != "base_probe"), on=on).table
    compared = compare_probes(joined) if joined.height else joined
    compared = compared.join(before.select(*on, choice_mass_before="choice_mass"), on=on, maintain_order="left")
    kinds = {"probs_before": pl.List(pl.Float64), "prediction_before": pl.Int64, "choice_mass_before": pl.Float64}
    kinds = dict(COMPARED_SCHEMA) | kinds
    row = ("run", "phase", *on)
    if not compared.height:
        compared = compared.select(*row, *(pl.lit(None, kind).alias(name) for name, kind in kinds.items()))
    measures = measures.join(compared.select(*row, *kinds), on=row, how="left", maintain_order="left")
    return measures, find_unmatched(measures.filter(pl.col("split") != "train"), before)


def summarise_results(measures: pl.DataFrame) -> pl.DataFrame:
    """The long result table (`RESULT_COLUMNS`): means over questions with intervals."""
    results = summarise_means(measures, ("run", *RUN_KEY, "phase", "split"), tuple(METRICS))
    return sort_by_words(results.select(RESULT_COLUMNS))
