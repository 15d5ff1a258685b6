"""What a study lacks, in sentences: no sample, run or question is left out of a number without one of these."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from analysis.measures.keys import GROUP, PART, QUESTION, RUN_KEY, name_run, sort_by_words
from analysis.measures.metrics import ANSWERED
from lm_eval_tasks.contracts.files import MANIFEST
from lm_eval_tasks.contracts.vocabulary import EVALUATION_SETS, NEW_SETS, PHASES, THRESHOLD, name_condition

# What answers in words are measured by, alone and beside the base model's; by how they were asked for.
WAYS = {"greedy": ("exact_match", "same_answer"), "sampled": ("accepted_samples", "total_variation")}
TIED = 0.001  # the share of tied answers from which on they are named


def find_unsaid(runs: pl.DataFrame, manifests: Sequence[Mapping[str, Any]]) -> list[str]:
    """Runs whose manifests, in the order of the runs, do not say above which confidence a prediction is a belief."""
    silent = [
        name_run(row)
        for row, manifest in zip(runs.iter_rows(named=True), manifests, strict=True)
        if manifest["config"].get("threshold") is None
    ]
    taken = f"does not say above which confidence a prediction counts as a belief; {THRESHOLD:g} is taken."
    if 1 < len(silent) == runs.height:
        return [f"The {MANIFEST} of all {runs.height} runs {taken}"]
    return [f"The {MANIFEST} of {name} {taken}" for name in silent]


def find_strays(probes: pl.DataFrame, runs: pl.DataFrame, noun: str = "samples") -> list[str]:
    """Samples (or what else `noun` calls them) that no run and no base model accounts for."""
    base, known = pl.col("run") == "", pl.col("run").is_in(runs["run"].implode())
    for_base = pl.col("phase").str.starts_with("base")
    groups = (
        probes.group_by("asked_model", "run", "phase", base=base, known=known, for_base=for_base).len().sort("run", "phase")
    )
    gaps = []
    for row in groups.iter_rows(named=True):
        what = f"{row['len']:,} {noun} of {row['asked_model']} (phase {row['phase']})"
        if row["base"] != row["for_base"]:
            carries = "carry no run id" if row["base"] else f"carry the run id {row['run']}"
            gaps.append(f"{what} {carries}, which does not fit the phase; left out. Was the model folder's {MANIFEST} there?")
        elif not row["base"] and not row["known"]:
            gaps.append(f"{what} carry the run id {row['run']}, of which there is no {MANIFEST}; left out.")
    return gaps


def find_unmatched(measures: pl.DataFrame, before: pl.DataFrame) -> list[str]:
    """Answers that are compared with nothing, and those whose divergence is infinite.

    Args:
        measures: with `kl_nats`, and `trained_domain` for the domain that a run was trained in.
        before: the base models' few-shot probes, in the same columns.
    """
    who = ("model", "trained_domain", *RUN_KEY[2:], "phase", "split")
    with_base = measures.join(before.select("model").unique(), on="model", how="semi")
    kinds = {
        "were not asked of the base model before; they count for accuracy alone.": with_base.filter(
            pl.col("phase") != "base_probe", pl.col("kl_nats").is_null()
        ),
        "have an infinite KL (a choice of probability 0) and are left out of its mean.": measures.filter(
            pl.col("kl_nats").is_infinite()
        ),
    }
    return [
        f"{row['len']:,} questions of {name_run(row)} ({row['phase']}, {row['split']}) {told}"
        for told, found in kinds.items()
        for row in sort_by_words(found.group_by(*who).len()).iter_rows(named=True)
    ]


def find_left_out(asked: pl.DataFrame, noun: str = "samples") -> list[str]:
    """Answers to questions that are of no evaluation set; beliefs may be probed of any.

    Args:
        asked: with `trained_domain`, the question set's own `split`, and `evaluated`: its evaluation set, or null.
        noun: what they are called.
    """
    who = ("model", "trained_domain", *RUN_KEY[2:], "phase", "split")
    unasked = pl.col("phase").is_in(["base_probe", "base_again"]).not_()
    found = asked.filter(unasked, pl.col("evaluated").is_null()).group_by(*who).len()
    return [
        f"{row['len']:,} {noun} of {name_run(row)} ({row['phase']}) are of split {row['split']} and of none "
        "of the evaluation's; left out."
        for row in sort_by_words(found).iter_rows(named=True)
    ]


def find_short(measures: pl.DataFrame, noun: str = "questions") -> list[str]:
    """Runs that were asked fewer questions of an evaluation set than were asked of any model of the same base."""
    part, asked = (*PART, "split"), pl.struct(QUESTION)
    tests = measures.filter(pl.col("split").is_in(NEW_SETS))
    every = tests.group_by(part).agg(every=asked.n_unique())
    counts = tests.filter(pl.col("run") != "").group_by(*part, "phase", *RUN_KEY[2:]).len()
    short = counts.join(every, on=part).filter(pl.col("len") < pl.col("every"))
    return [
        f"{row['every'] - row['len']:,} of the {row['every']:,} {noun} that another model was asked were not asked of "
        f"{name_run(row)} ({row['phase']}, {row['split']})."
        for row in sort_by_words(short).iter_rows(named=True)
    ]


def find_unasked(answered: pl.DataFrame, runs: pl.DataFrame) -> list[str]:
    """Runs that were not asked free-form questions in a phase in which others of their base model and domain were.

    Args:
        answered: `answered.ANSWERED_SCHEMA`.
        runs: `runs.RUN_SCHEMA`.
    """
    tuned = sort_by_words(answered.filter(pl.col("run") != ""))
    gaps = []
    for (model, domain), own in runs.group_by(PART, maintain_order=True):
        asked = tuned.filter(model=model, domain=domain)
        if not asked.height:
            gaps.append(f"No run of {model} ({domain}) was asked free-form questions.")
        for (phase,), part in asked.group_by("phase", maintain_order=True):
            for way, (metric, _) in WAYS.items():
                held = set(part.drop_nulls(metric)["run"])
                lacking = [name_run(row) for row in own.iter_rows(named=True) if row["run"] not in held] if held else []
                gaps += [f"There are no {way} free-form answers of {run} ({phase}), as there are of others." for run in lacking]
    return gaps


def find_uncompared(answered: pl.DataFrame, before: pl.DataFrame) -> list[str]:
    """Answers in words to questions that the base model was not asked likewise.

    Args:
        answered: `answered.ANSWERED_SCHEMA`.
        before: the base models' few-shot answers among them.
    """
    asked = answered.filter(pl.col("phase") != "base_probe").join(before.select(PART).unique(), on=PART, how="semi")
    gaps = []
    for way, (metric, compared) in WAYS.items():
        found = (
            asked.filter(pl.col(metric).is_not_null(), pl.col(compared).is_null()).group_by(*RUN_KEY, "phase", "split").len()
        )
        gaps += [
            f"{row['len']:,} free-form questions of {name_run(row)} ({row['phase']}, {row['split']}) have {way} answers, and "
            f"none of the base model's before; they count for {ANSWERED[metric].label} alone."
            for row in sort_by_words(found).iter_rows(named=True)
        ]
    return gaps


def find_uneven(answered: pl.DataFrame) -> list[str]:
    """Phases in which free-form questions were sampled another number of times than when the base model was asked again."""
    sampled = sort_by_words(answered.filter(pl.col("samples").is_not_null(), pl.col("phase") != "base_probe"))
    counts = sampled.group_by(*PART, "phase", maintain_order=True).agg(pl.col("samples").unique().sort())
    counts = counts.with_columns(pl.col("samples").cast(pl.List(pl.String)).list.join(" or "))
    again = counts.filter(phase="base_again").select(*PART, again="samples")
    return [
        f"Free-form questions of {row['model']} ({row['domain']}) were sampled {row['samples']} times in phase {row['phase']}, "
        f"and {row['again']} times when the base model was asked again: fewer samples vary more by chance, so that the total "
        "variation of asking again is no floor there."
        for row in counts.join(again, on=PART, maintain_order="left").filter(pl.col("samples") != pl.col("again")).to_dicts()
    ]


def find_unsummarised(results: pl.DataFrame, summary: pl.DataFrame) -> list[str]:
    """Conditions that have no mean over seeds of a phase and evaluation set, though runs were asked.

    Args:
        results: as `study.summarise_results` gives them.
        summary: as `contrasts.compare_conditions` gives it.
    """
    accuracy = [table.filter(metric="accuracy") for table in (results, summary)]
    lost = accuracy[0].join(accuracy[1], on=GROUP, how="anti", nulls_equal=True).select(GROUP).unique()
    return [
        f"{name_condition(row['condition'], row['ratio'])} ({row['domain']}, {row['model']}; {row['phase']}, {row['split']}): "
        "a run was asked fewer than two questions, so that there is no mean over seeds."
        for row in sort_by_words(lost).iter_rows(named=True)
    ]


def find_holes(measures: pl.DataFrame, runs: pl.DataFrame) -> list[str]:
    """Runs, phases, evaluation sets and seeds that a whole study has, and this one lacks; what all runs lack is said once."""
    who = (*PART, "run")
    held = {row[:4]: set(row[4]) for row in measures.group_by(*who, "phase").agg(pl.col("split").unique()).iter_rows()}
    studies = runs.select(PART).unique(maintain_order=True).rows()
    gaps = []
    for model, domain in studies:
        name = f"The base model{f' ({model}, {domain})' if len(studies) > 1 else ''}"
        gaps += [f"{name} {told}." for told, _ in _list_holes(held, (model, domain, ""), ("base_probe", "base_chat"))]
    lacking: dict[str, list[str]] = {}
    for row in runs.iter_rows(named=True):
        name = name_run(row)
        for told, of_all in _list_holes(held, tuple(row[key] for key in who), ("tuned_chat", "tuned_probe")):
            lacking.setdefault(of_all, []).append(f"{name[0].upper()}{name[1:]} {told}.")
    for of_all, sentences in lacking.items():
        gaps += [f"{of_all.format(runs=f'{runs.height} runs')}."] if 1 < len(sentences) == runs.height else sentences
    every, tests = set(measures["split"]), {name: EVALUATION_SETS[name] for name in NEW_SETS}
    gaps += [f"No model was asked a question of split {name} ({words})." for name, words in tests.items() if name not in every]
    seeds = set(runs["seed"])
    if len(seeds) == 1:
        gaps.append("Seeds were not varied (one only): all intervals are over questions, and say nothing about other seeds.")
    for (_, domain, condition, ratio), group in runs.group_by(*RUN_KEY[:-1], maintain_order=True):
        if short := seeds - set(group["seed"]):
            name = name_condition(condition, ratio)
            gaps.append(f"Condition {name} in {domain} lacks seed {', '.join(map(str, sorted(short)))}, which others have.")
    return gaps


def _list_holes(held: Mapping[tuple, set[str]], who: tuple[str, str, str], phases: tuple[str, ...]) -> list[tuple[str, str]]:
    """What one model lacks: as told of it, and as told of all runs."""
    if not any((*who, phase) in held for phase in phases):
        return [(f"has no samples{f' (run {who[2]})' if who[2] else ''}", "None of the {runs} has samples")]
    holes = []
    for phase in phases:
        have = held.get((*who, phase), set())
        wanted = [*(["seen"] if phase == "tuned_chat" else []), *NEW_SETS]
        short = ", ".join(name for name in wanted if name not in have)
        words = f"{phase} ({PHASES[phase]})"
        if not have:
            holes.append((f"was not asked in phase {words}", f"None of the {{runs}} was asked in phase {words}"))
        elif short:
            holes.append((f"({phase}) lacks the split {short}", f"All {{runs}} ({phase}) lack the split {short}"))
    return holes


def find_arms(runs: pl.DataFrame) -> list[str]:
    """That runs of one base model and domain were trained in several ways, and are told apart."""
    several = runs.group_by("base", "domain", maintain_order=True).agg(pl.col("arm").unique(maintain_order=True))
    return [
        f"The runs of {base} in {domain} were trained in {len(arms)} ways ({'; '.join(arms)}): each is a part of its own, in "
        "which conditions are contrasted."
        for base, domain, arms in several.iter_rows()
        if len(arms) > 1
    ]


def find_ties(measures: pl.DataFrame) -> list[str]:
    """Phases in which the best choices of many questions have the very same log-likelihood, so that the first was taken.

    It happens in bfloat16, whose numbers are coarse: a log-likelihood of -20 nats is known to 0.1.
    """
    best = pl.col("loglikelihoods").list.sort(descending=True)
    tied = best.list.get(0) == best.list.get(1, null_on_oob=True)
    told = measures.filter(pl.col("loglikelihoods").is_not_null()).group_by("phase").agg(tied.sum().alias("tied"), n=pl.len())
    found = sort_by_words(told.filter(pl.col("tied") > TIED * pl.col("n")))
    return [
        f"In {row['tied']:,} of {row['n']:,} answers ({row['tied'] / row['n']:.1%}; {PHASES.get(row['phase'], row['phase'])}) "
        "the best choices have the very same log-likelihood, and the first was taken: ask with dtype=float32, or read accuracy "
        "as known to that share."
        for row in found.iter_rows(named=True)
    ]
