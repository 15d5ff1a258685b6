"""The command `consistency`: two sets of logs in, one comparison out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from analysis.measures.consistency import add_spearman, average_presentations, compare_probes, join_probes
from analysis.measures.intervals import summarise_means
from analysis.measures.metrics import CONSISTENCY, METRICS, SPEARMAN
from analysis.measures.priors import PARTS as PRIOR_PARTS
from analysis.measures.priors import describe_parts
from analysis.measures.states import STATES, add_states
from analysis.reading.scores import align_scores, tell_score
from analysis.reading.sets import find_set
from analysis.reporting.rows import check_format, write_rows
from analysis.showing.formats import format_interval, format_number
from analysis.showing.tables import Table, write_text
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import MANIFEST
from lm_eval_tasks.contracts.logs.rescoring import keep_loglikelihoods
from lm_eval_tasks.contracts.logs.samples import read_probes
from lm_eval_tasks.contracts.manifest import read_manifest
from lm_eval_tasks.contracts.questions import name_question
from lm_eval_tasks.contracts.vocabulary import KEY, THRESHOLD

SHOWN = {**{name: METRICS[name] for name in CONSISTENCY}, SPEARMAN.name: SPEARMAN}
# How questions are told apart: the key in the comparison, and the column.
PARTS = {"by_split": "split", "by_domain": "domain", "by_subject": "subject", "by_belief": "state_before"}
QUESTION_COLUMNS = (
    *(*KEY, "question", "subject", "split", "choices", "answer", "prediction_before", "prediction", "probs_before", "probs"),
    *("kl_nats", "rank_pearson", "rank_undefined", "spearman", "top1_agreement", "state_before", "state"),
)


def compare_logs(
    before: Sequence[Path],
    after: Sequence[Path],
    phases: tuple[str | None, str | None] = (None, None),
    models: tuple[str | None, str | None] = (None, None),
    questions: Path | None = None,
    score: str | None = None,
) -> dict[str, Any]:
    """Compare two phases by question.

    Args:
        before: logs, probe tables or folders.
        after: the same.
        phases: the phase to take of each, where there are several.
        models: the model to take of each, where there are several.
        questions: a file for the comparison of every question (see `write_questions`).
        score: by which score of texts both are read; where None by that of the training of `after`, or the default.

    Returns:
        `n, kl_nats, rank_pearson, top1_agreement, spearman`; `intervals` (low, high); `kl_infinite` (left out of the mean)
        and `rank_undefined` (counted as 0 in both rank correlations); `only_before` and `only_after` (questions); `before`
        and `after`; `trained_on`, `threshold` (of beliefs) with `threshold_known` (whether a manifest says it), and
        `prompts_differ` (see `find_training` and `compare_prompts`); the same means for the questions of each `by_split` (see
        `name_sets`), `by_domain`, `by_subject` (those without one left out) and `by_belief` (what it was before: right, wrong
        or unsure); and `letter_prior`, the divergence's parts (see `priors.describe_parts`).

    Raises:
        UserError: unreadable logs, several models or phases and none named, no question in both, other questions, or a file of
            questions that cannot be written.
    """
    check_format("--questions", questions)
    sides = [
        choose_one(read_probes(list(paths), score=score), name, phase, model)
        for name, paths, phase, model in zip(("before", "after"), (before, after), phases, models, strict=True)
    ]
    config = find_training(sides[1])
    sides = [keep_loglikelihoods(side) for side in (sides if score else align_scores(sides, config))]
    tables = [average_presentations(table) for table in sides]
    joined = join_probes(*tables)
    if not joined.table.height:
        raise UserError(
            f"no question is in both: --before has {tables[0].height:,} questions, --after {tables[1].height:,}, and they "
            "share no (source, domain, id). Ask both models the same question set."
        )
    trained = {name: config[name] for name in ("source", "domain")} if config.get("source") and config.get("domain") else None
    threshold = THRESHOLD if config.get("threshold") is None else config["threshold"]
    compared = add_spearman(compare_probes(joined.table)).with_columns(threshold=pl.lit(threshold))
    compared = name_sets(add_states(compared), trained)
    if questions:
        write_questions(compared, questions)
    told = {
        name: {key: table[key][0] for key in ("model", "run", "phase", "scoring", "score")}
        | {"presentations": side.height / table.height}
        for name, side, table in zip(("before", "after"), sides, tables, strict=True)
    }
    return {
        **summarise(compared),
        "only_before": joined.only_before,
        "only_after": joined.only_after,
        **told,
        "trained_on": trained,
        "threshold": threshold,
        "threshold_known": config.get("threshold") is not None,
        "prompts_differ": compare_prompts(*sides),
        **{key: summarise_parts(compared, column) for key, column in PARTS.items()},
        "letter_prior": describe_parts(*sides),
    }


def find_training(probes: pl.DataFrame) -> dict[str, Any]:
    """The `config` by which a tuned model was trained, from the manifest in its folder; empty where it is not there.

    Args:
        probes: of one model; its name is its folder where it was asked from one.

    Raises:
        UserError: there is a manifest, and it cannot be read, or its threshold is no number.
    """
    run, model = probes["run"][0], probes["model"][0]
    manifest = read_manifest(model) if run else None
    if not manifest or manifest["run"] != run or manifest["stage"] != "train":
        return {}
    config = manifest["config"]
    threshold = config.get("threshold")
    if threshold is not None and type(threshold) not in (int, float):
        raise UserError(f"{Path(model) / MANIFEST}: threshold is {json.dumps(threshold)}, which is no number. Train it again.")
    return config


def name_sets(compared: pl.DataFrame, trained: dict[str, str] | None) -> pl.DataFrame:
    """Name evaluation sets by what the tuned model was trained on (homo, id, ood, seen), in the column `split`.

    What is not evaluated, and all questions where nobody knows that, keep the split of the question set (train, dev, test).
    """
    if not trained:
        return compared
    relative = compared.with_columns(trained_source=pl.lit(trained["source"]), trained_domain=pl.lit(trained["domain"]))
    return relative.with_columns(pl.coalesce(find_set(), "split").alias("split")).drop("trained_source", "trained_domain")


def compare_prompts(before: pl.DataFrame, after: pl.DataFrame) -> dict[str, Any] | None:
    """How many questions were asked with another prompt before than after (`n`), and the `first` of them by its key.

    None where that is not to be known: one was asked few-shot and the other in a chat prompt, or a log tells no prompts.

    Args:
        before: probes of one model in one phase, not averaged over presentations.
        after: the same.
    """
    kinds = {table["phase"][0].split("_")[-1] for table in (before, after)}
    key = (*KEY, "draw", "order")
    both = before.select(*key, "prompt_hash").join(after.select(*key, "prompt_hash"), on=key, nulls_equal=True, suffix="_after")
    both = both.drop_nulls(["prompt_hash", "prompt_hash_after"])
    if len(kinds) > 1 or not both.height:
        return None
    other = both.filter(pl.col("prompt_hash") != pl.col("prompt_hash_after")).select(KEY).unique().sort(KEY)
    return {"n": other.height, "first": name_question(other.row(0, named=True)) if other.height else None}


def write_questions(compared: pl.DataFrame, file: Path) -> None:
    """Write the comparison of every question, most moved first, as parquet or CSV; there lists are JSON.

    Raises:
        UserError: the file cannot be written.
    """
    table = compared.select(QUESTION_COLUMNS).sort("kl_nats", *KEY, descending=[True, False, False, False])
    write_rows(table, file)


def choose_one(table: pl.DataFrame, side: str, phase: str | None, model: str | None) -> pl.DataFrame:
    """The samples of one model in one phase; raises a `UserError` where that leaves a choice, or nothing."""
    for column, value in (("phase", phase), ("model", model)):
        held = sorted(table[column].unique())
        if value is not None and value not in held:
            raise UserError(f"--{side} holds no samples of {column} {value!r}; it holds {', '.join(held)}.")
        if value is None and len(held) > 1:
            names = ", ".join(held[:8]) + (", ..." if len(held) > 8 else "")
            raise UserError(
                f"--{side} holds several {column}s ({names}). Name one with --{side}-{column}, or name its log alone."
            )
        table = table.filter(pl.col(column) == (value or held[0]))
    for column in ("run", "scoring"):
        if table[column].n_unique() > 1:
            held = ", ".join(repr(value) for value in sorted(table[column].unique()))
            raise UserError(f"--{side} holds several {column}s ({held}). Name the log of one.")
    return table


def summarise_parts(compared: pl.DataFrame, column: str) -> dict[str, dict[str, Any]]:
    """`summarise` of the questions of each value of a column, in the order of values (of `STATES`); null is left out."""
    parts = compared.filter(pl.col(column).is_not_null()).partition_by(column, as_dict=True)
    names = sorted((name for (name,) in parts), key=lambda name: (STATES.index(name) if name in STATES else -1, name))
    return {name: summarise(parts[name,]) for name in names}


def summarise(compared: pl.DataFrame) -> dict[str, Any]:
    """Means, intervals and counts of compared questions, ready for JSON."""
    means = {row["metric"]: row for row in summarise_means(compared, (), tuple(SHOWN)).iter_rows(named=True)}
    return {
        "n": compared.height,
        **{metric: means[metric]["value"] if metric in means else None for metric in SHOWN},
        "intervals": {metric: [means[metric]["low"], means[metric]["high"]] for metric in SHOWN if metric in means},
        "kl_infinite": int(compared["kl_nats"].is_infinite().sum()),
        "rank_undefined": int(compared["rank_undefined"].sum()),
    }


def write_comparison(report: dict[str, Any]) -> str:
    """The comparison for a terminal."""
    rows = []
    for name, part in list_parts(report):
        cells = []
        for metric in SHOWN:
            low, high = part["intervals"].get(metric, (None, None))
            cells += [format_number(part[metric], 4), format_interval({"low": low, "high": high}, digits=4)]
        rows.append([name, f"{part['n']:,}", *cells])
    header = ["questions", "n"]
    for metric in SHOWN.values():
        header += [metric.header, "95% interval"]
    title = " against ".join("{model} ({phase}, {scoring})".format(**report[side]) for side in ("before", "after"))
    notes = [
        f"Left out: {report['only_before']:,} questions only in --before, {report['only_after']:,} only in --after.",
        f"Both rank correlations undefined for {report['rank_undefined']:,} questions, counted as 0.",
        f"KL infinite for {report['kl_infinite']:,} questions, left out of its mean.",
    ]
    notes += [
        f"--{side}: {report[side]['presentations']:.3g} presentations a question, averaged choice by choice."
        for side in ("before", "after")
        if report[side]["presentations"] > 1
    ]
    notes += [*describe_sets(report), describe_threshold(report)]
    notes += filter(None, [tell_score(report["after"]["scoring"], report["after"]["score"])])
    notes += describe_prompts(report["prompts_differ"]) + describe_prior(report["letter_prior"])
    return write_text(Table("consistency", title, header, rows, "\n".join(notes))).rstrip()


def list_parts(report: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What the terminal shows: all questions, then each way to part them that has more than one part."""
    shown = [("all", report)]
    for key in PARTS:
        if len(report[key]) > 1:
            shown += [(f"{key.removeprefix('by_')} {name}", part) for name, part in report[key].items()]
    return shown


def describe_threshold(report: dict[str, Any]) -> str:
    """What the terminal says of beliefs: by which threshold they are told, and who says so."""
    whose = "as --after was trained by" if report["threshold_known"] else "the project's own, as no manifest says another"
    return f"Beliefs: right or wrong above a confidence of {report['threshold']:g} ({whose}), else unsure."


def describe_sets(report: dict[str, Any]) -> list[str]:
    """What the terminal says of the evaluation sets of a tuned model's questions: a sentence."""
    model, run, trained = report["after"]["model"], report["after"]["run"], report["trained_on"]
    if trained:
        return ["Splits are relative to what --after was trained on: {source}/{domain}.".format(**trained)]
    return [f"Splits are those of the question set: {model} is no folder with the manifest of run {run}."] if run else []


def describe_prompts(differ: dict[str, Any] | None) -> list[str]:
    """What the terminal says of prompts that differ: a sentence."""
    if not differ or not differ["n"]:
        return []
    return [
        f"{differ['n']:,} questions were asked with another prompt before than after (the first: {differ['first']}): what "
        "differs may be the prompts' doing."
    ]


def describe_prior(parts: dict[str, Any]) -> list[str]:
    """What the terminal says of the letter prior's part: sentences."""
    if not parts["n"]:
        return parts["notes"]
    kl, part, rest = (
        f"{format_number(parts[name], 4)} {format_interval({'low': low, 'high': high}, digits=4)}"
        for name, (low, high) in ((name, parts["intervals"].get(name, (None, None))) for name in PRIOR_PARTS)
    )
    words = (
        f"KL in each order on its own ({parts['n']:,} questions): {kl} nats: the letter prior's part {part}, the rest {rest}."
    )
    left_out = f" Infinite for {parts['infinite']:,} questions, left out." if parts["infinite"] else ""
    return [words + left_out, *parts["notes"]]
