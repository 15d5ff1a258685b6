"""The command `compare`: any two sample logs of lm-eval in, what differs between them out."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis.measures.differences import correct_tests
from analysis.measures.paired import measure_difference
from analysis.reading.samples import Samples, read_samples
from analysis.reporting.rows import check_format, write_rows
from analysis.showing.formats import format_interval, format_number, format_p
from analysis.showing.tables import Table, write_text
from lm_eval_tasks.contracts.errors import UserError

ALL = "all"
KEYS = ("task", "filter", "sample")
NOTE = (
    "Second minus first, of the same samples. Where scores are 0 or 1: Bonett and Price's interval, exact McNemar; else\n"
    "bootstrap over samples, paired t. Gained: samples that only the second has right, or scores higher; lost: only the first."
)


def compare_samples(first: Path, second: Path, any_prompt: bool = False, samples: Path | None = None) -> dict[str, Any]:
    """Compare two models, or two ways of asking one, by the samples that both were scored on.

    Args:
        first: a sample log, or a folder of those of several tasks.
        second: the same.
        any_prompt: whether samples may have been asked with different prompts.
        samples: a file (.parquet or .csv) for every sample: scores of both, those that flipped first.

    Returns:
        `only_first` and `only_second` (samples of tasks that both have, which the other lacks), and `filters`: for each filter
        (of most tasks `none`), each metric, and `choices` where the probabilities of choices are known: a row
        for all samples and one for each task. Of a metric `measure_difference` and `p_holm` (over the tasks of the metric); of
        choices `n`, `kl_nats` (KL(first || second), mean) and `same_choice`.

    Raises:
        UserError: what `read_samples` finds wrong; no task, sample or metric in both; samples of one number and different
            content; different prompts, unless they may differ; a file that cannot be written.
    """
    check_format("--samples", samples)
    sides = read_samples(first), read_samples(second)
    metrics = [name for name in sides[0].metrics if name in sides[1].metrics]
    joined = join_samples(*sides, first, second)
    if not metrics:
        raise UserError(
            f"no score is in both: {first} has {', '.join(sides[0].metrics) or 'none'}, {second} "
            f"{', '.join(sides[1].metrics) or 'none'}. Ask both with the same task."
        )
    if not any_prompt:
        check_prompts(joined)
    if samples:
        write_samples(joined, metrics, samples)
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for (name,), part in joined.partition_by("filter", as_dict=True, maintain_order=True).items():
        tables = {metric: list_differences(part, metric) for metric in metrics}
        tables |= {"choices": list_choices(part)}
        found[name] = {metric: rows for metric, rows in tables.items() if rows}
    alone = {name: count_alone(*pair) for name, pair in (("only_first", sides), ("only_second", sides[::-1]))}
    return alone | {"filters": found}


def count_alone(these: Samples, those: Samples) -> int:
    """How many samples of tasks that both have are on the first side alone."""
    shared = those.table.select("task").unique()
    return these.table.join(shared, on="task", how="semi").join(those.table, on=KEYS, how="anti").height


def join_samples(first: Samples, second: Samples, one: Path, other: Path) -> pl.DataFrame:
    """The samples that both have, with the columns of the second named `..._second`."""
    if not {*first.table["task"]} & {*second.table["task"]}:
        names = [", ".join(side.table["task"].unique(maintain_order=True)[:4]) for side in (first, second)]
        raise UserError(f"no task is in both: {one} is of {names[0]}, {other} of {names[1]}. Name logs of one task.")
    for side, path in ((first, one), (second, other)):
        if (twice := side.table.filter(pl.struct(KEYS).is_duplicated())).height:
            raise UserError(f"{path}: sample {twice['sample'][0]} of {twice['task'][0]} is there several times. Ask again.")
    joined = first.table.join(second.table, on=KEYS, how="inner", suffix="_second", maintain_order="left")
    if not joined.height:
        raise UserError(f"no sample is in both {one} and {other}. Ask both models the same samples.")
    if (wrong := joined.filter(pl.col("doc_hash") != pl.col("doc_hash_second"))).height:
        task, sample = wrong.select("task", "sample").row(0)
        raise UserError(
            f"{wrong.height:,} of {joined.height:,} samples are others in {one} than in {other} (the first: {sample} of "
            f"{task}): the data changed between both. Ask again, both with the same."
        )
    return joined


def check_prompts(joined: pl.DataFrame) -> None:
    """Raise a `UserError` where samples were asked with different prompts: other demonstrations, or another chat template."""
    other = joined.filter(pl.col("prompt_hash") != pl.col("prompt_hash_second"))
    if other.height:
        task, sample = other.select("task", "sample").row(0)
        raise UserError(
            f"{other.height:,} of {joined.height:,} samples were asked with different prompts (the first: {sample} of {task}), "
            "so that what differs may be the prompts' doing: another number of demonstrations, or a chat template. Ask both "
            "alike, or add --any-prompt."
        )


def list_differences(part: pl.DataFrame, metric: str) -> list[dict[str, Any]]:
    """`measure_difference` of a metric: of all samples that have it on both sides, then of each task of several."""
    table = part.drop_nulls([metric, f"{metric}_second"])
    rows = []
    for name, samples in list_parts(table):
        found = measure_difference(*(samples[column].to_numpy() for column in (metric, f"{metric}_second")))
        rows.append({"task": name} | {key: None if np.isnan(value) else value for key, value in found._asdict().items()})
    tasks = rows[1:] or rows
    for row, holm in zip(tasks, correct_tests([row["p"] for row in tasks])["p_holm"], strict=True):
        row["p_holm"] = holm
    return rows


def list_choices(part: pl.DataFrame) -> list[dict[str, Any]]:
    """How far the probabilities of choices moved; nothing where none are known."""
    table = part.drop_nulls(["logprobs", "logprobs_second"])
    table = table.filter(pl.col("logprobs").list.len() == pl.col("logprobs_second").list.len())
    rows = []
    for name, samples in list_parts(table):
        kl, same = zip(*map(_measure_choices, samples["logprobs"], samples["logprobs_second"]), strict=True)
        rows.append({"task": name, "n": samples.height, "kl_nats": float(np.mean(kl)), "same_choice": float(np.mean(same))})
    return rows


def _measure_choices(first: pl.Series, second: pl.Series) -> tuple[float, bool]:
    p, q = first.to_numpy(), second.to_numpy()
    return float((np.exp(p) * (p - q)).sum()), bool(p.argmax() == q.argmax())


def list_parts(table: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """All samples, then those of each task where there are several; nothing of no sample."""
    if not table.height:
        return []
    tasks = [(rows["task"][0], rows) for rows in table.partition_by("task", maintain_order=True)]
    return [(ALL, table), *tasks] if len(tasks) > 1 else tasks


def write_samples(joined: pl.DataFrame, metrics: list[str], file: Path) -> None:
    """Write every sample with both scores, those that differ most in the first metric first."""
    names = [name for metric in metrics for name in (metric, f"{metric}_second")]
    apart = (pl.col(f"{metrics[0]}_second") - pl.col(metrics[0])).abs()
    table = joined.sort(apart, descending=True, nulls_last=True, maintain_order=True).select(*KEYS, "doc_id", *names)
    write_rows(table, file)


def write_differences(report: dict[str, Any], first: Path, second: Path) -> str:
    """The comparison for a terminal: a table a metric."""
    texts = [f"first: {first}\nsecond: {second}\n"]
    for name, tables in report["filters"].items():
        for metric, rows in tables.items():
            title = metric if name == "none" else f"{metric} ({name})"
            texts.append(write_text(_show_choices(rows) if metric == "choices" else _show_metric(title, rows)))
    left_out = f"Left out: {report['only_first']:,} samples only in the first, {report['only_second']:,} only in the second."
    return "\n".join([*texts, NOTE, left_out])


def _show_metric(title: str, rows: list[dict[str, Any]]) -> Table:
    header = ["task", "n", "first", "second", "difference", "95% interval", "p", "p, Holm", "gained", "lost"]
    shown = [
        [
            row["task"], f"{row['n']:,}", *(format_number(row[name], 4) for name in ("first", "second", "difference")),
            format_interval(row, digits=4), *(format_p(row.get(name)) for name in ("p", "p_holm")),
            f"{row['gained']:,}", f"{row['lost']:,}",
        ]
        for row in rows
    ]  # fmt: skip
    return Table("differences", title, header, shown)


def _show_choices(rows: list[dict[str, Any]]) -> Table:
    header = ["task", "n", "KL, nats", "same choice"]
    names = ("kl_nats", "same_choice")
    shown = [[row["task"], f"{row['n']:,}", *(format_number(row[name], 4) for name in names)] for row in rows]
    note = "KL(first || second) between choices, by their log-likelihoods; the likeliest choice is the same."
    return Table("choices", "choices", header, shown, note)
