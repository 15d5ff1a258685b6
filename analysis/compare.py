"""The command `consistency`: two sets of logs in, one comparison out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from analysis.consistency import METRICS, average_presentations, compare_probes, join_probes
from analysis.intervals import summarise_means
from analysis.tables import Table, format_interval, format_number, write_text
from lm_eval_tasks.manifest import UserError
from lm_eval_tasks.samples import read_probes


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
        `n, kl_nats, rank_pearson, top1_agreement`; `intervals` (low, high); `kl_infinite` (left out of the mean) and
        `rank_undefined` (counted as 0); `only_before` and `only_after` (questions); `before` and `after`; `by_domain`.

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
    compared = compare_probes(joined.table)
    told = {
        name: {key: table[key][0] for key in ("model", "run", "phase", "scoring")}
        | {"presentations": side.height / table.height}
        for name, side, table in zip(("before", "after"), sides, tables, strict=True)
    }
    by_domain = compared.partition_by("domain", as_dict=True)
    return {
        **summarise(compared),
        "only_before": joined.only_before,
        "only_after": joined.only_after,
        **told,
        "by_domain": {domain: summarise(part) for (domain,), part in sorted(by_domain.items())},
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


def summarise(compared: pl.DataFrame) -> dict[str, Any]:
    """Means, intervals and counts of compared questions, ready for JSON."""
    means = {row["metric"]: row for row in summarise_means(compared, (), METRICS).iter_rows(named=True)}
    return {
        "n": compared.height,
        **{metric: means[metric]["value"] if metric in means else None for metric in METRICS},
        "intervals": {metric: [means[metric]["low"], means[metric]["high"]] for metric in METRICS if metric in means},
        "kl_infinite": int(compared["kl_nats"].is_infinite().sum()),
        "rank_undefined": int(compared["rank_undefined"].sum()),
    }


def write_comparison(report: dict[str, Any]) -> str:
    """The comparison for a terminal."""
    rows = []
    for name, part in (("all", report), *report["by_domain"].items()):
        cells = []
        for metric in METRICS:
            low, high = part["intervals"].get(metric, (None, None))
            cells += [format_number(part[metric], 4), format_interval({"low": low, "high": high}, digits=4)]
        rows.append([name, f"{part['n']:,}", *cells])
    header = ["domain", "n", "KL, nats", "95% interval", "rank corr.", "95% interval", "same answer", "95% interval"]
    title = " against ".join("{model} ({phase}, {scoring})".format(**report[side]) for side in ("before", "after"))
    notes = [
        f"Left out: {report['only_before']:,} questions only in --before, {report['only_after']:,} only in --after.",
        f"Rank correlation undefined for {report['rank_undefined']:,} questions, counted as 0.",
        f"KL infinite for {report['kl_infinite']:,} questions, left out of its mean.",
    ]
    notes += [
        f"--{side}: {report[side]['presentations']:.3g} presentations a question, averaged choice by choice."
        for side in ("before", "after")
        if report[side]["presentations"] > 1
    ]
    return write_text(Table("consistency", title, header, rows, "\n".join(notes))).rstrip()
