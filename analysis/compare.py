"""The command `consistency`: two sets of logs in, one comparison out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from analysis.consistency import METRICS, add_spearman, average_presentations, compare_probes, join_probes
from analysis.explorer import STATES, add_states
from analysis.intervals import summarise_means
from analysis.priors import PARTS as PRIOR_PARTS
from analysis.priors import describe_split
from analysis.tables import Table, format_interval, format_number, write_text
from lm_eval_tasks.manifest import UserError
from lm_eval_tasks.samples import read_probes

SHOWN = (*METRICS, "spearman")
# How questions are told apart: the key in the comparison, and the column.
PARTS = {"by_split": "split", "by_domain": "domain", "by_subject": "subject", "by_belief": "state_before"}


def compare_logs(
    before: Sequence[Path],
    after: Sequence[Path],
    phases: tuple[str | None, str | None] = (None, None),
    models: tuple[str | None, str | None] = (None, None),
) -> dict[str, Any]:
    """Compare two phases by question.

    Args:
        before: logs, probe tables or folders.
        after: the same.
        phases: the phase to take of each, where there are several.
        models: the model to take of each, where there are several.

    Returns:
        `n, kl_nats, rank_pearson, top1_agreement, spearman`; `intervals` (low, high); `kl_infinite` (left out of the mean)
        and `rank_undefined` (counted as 0 in both rank correlations); `only_before` and `only_after` (questions); `before`
        and `after`; the same means for the questions of each `by_split` (of the question set: train, dev, test), `by_domain`,
        `by_subject` (those without one left out) and `by_belief` (what it was before: right, wrong or unsure); and
        `letter_prior`, the divergence's parts (see `priors.describe_split`).

    Raises:
        UserError: unreadable logs, several models or phases and none named, no question in both, or other questions.
    """
    sides = [
        choose_one(read_probes(list(paths)), name, phase, model)
        for name, paths, phase, model in zip(("before", "after"), (before, after), phases, models, strict=True)
    ]
    tables = [average_presentations(table) for table in sides]
    joined = join_probes(*tables)
    if not joined.table.height:
        raise UserError(
            f"no question is in both: --before has {tables[0].height:,} questions, --after {tables[1].height:,}, and they "
            "share no (source, domain, id). Ask both models the same question set."
        )
    compared = add_states(add_spearman(compare_probes(joined.table)))
    told = {
        name: {key: table[key][0] for key in ("model", "run", "phase", "scoring")}
        | {"presentations": side.height / table.height}
        for name, side, table in zip(("before", "after"), sides, tables, strict=True)
    }
    return {
        **summarise(compared),
        "only_before": joined.only_before,
        "only_after": joined.only_after,
        **told,
        **{key: summarise_parts(compared, column) for key, column in PARTS.items()},
        "letter_prior": describe_split(*sides),
    }


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
    # Spearman's correlation has the bounds of the other one.
    frames = [
        summarise_means(compared, (), METRICS),
        summarise_means(compared.select(rank_pearson="spearman"), (), ["rank_pearson"]).with_columns(metric=pl.lit("spearman")),
    ]
    means = {row["metric"]: row for row in pl.concat(frames).iter_rows(named=True)}
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
    for name in ("KL, nats", "rank corr.", "same answer", "Spearman"):
        header += [name, "95% interval"]
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
    notes += describe_prior(report["letter_prior"])
    return write_text(Table("consistency", title, header, rows, "\n".join(notes))).rstrip()


def list_parts(report: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What the terminal shows: all questions, then each way to part them that has more than one part."""
    shown = [("all", report)]
    for key in PARTS:
        if len(report[key]) > 1:
            shown += [(f"{key.removeprefix('by_')} {name}", part) for name, part in report[key].items()]
    return shown


def describe_prior(split: dict[str, Any]) -> list[str]:
    """What the terminal says of the letter prior's part: sentences."""
    if not split["n"]:
        return split["notes"]
    kl, part, rest = (
        f"{format_number(split[name], 4)} {format_interval({'low': low, 'high': high}, digits=4)}"
        for name, (low, high) in ((name, split["intervals"].get(name, (None, None))) for name in PRIOR_PARTS)
    )
    words = (
        f"KL in each order on its own ({split['n']:,} questions): {kl} nats: the letter prior's part {part}, the rest {rest}."
    )
    left_out = f" Infinite for {split['infinite']:,} questions, left out." if split["infinite"] else ""
    return [words + left_out, *split["notes"]]
