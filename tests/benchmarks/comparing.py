"""`python tests/benchmarks/comparing.py`: KL and rank correlation of many logs at once, against a plain loop over questions.

Both sides compare the same made-up probes: a base model's, and those of `logs` runs of the same questions. The loop takes one
question at a time, as the paper's analysis does, with scipy's ranks and correlation. It is timed on every `stride`th question
of every log, and its seconds count `stride` times: it takes as long for every question.
"""

import os
import time
from typing import Annotated, NamedTuple

import numpy as np
import polars as pl
import typer
from scipy import stats
from tabulate import tabulate

from analysis.measures.consistency import compare_probes

CHOICES = 4
ROUNDING = 1e-12


class Found(NamedTuple):
    """What a side took, and what it found."""

    seconds: float
    kl: np.ndarray  # nats, of each question of each log
    ranks: np.ndarray


def make_joined(questions: int, logs: int) -> pl.DataFrame:
    """Made-up answers before and after, a row a question and log, as `join_probes` gives them."""
    rng = np.random.default_rng(0)
    before = rng.normal(scale=2, size=(questions, CHOICES))
    after = before + rng.normal(scale=1.5, size=(logs, questions, CHOICES))
    columns = {}
    for suffix, logits in (("_before", np.broadcast_to(before, after.shape)), ("", after)):
        logits = logits.reshape(-1, CHOICES)
        values = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        for name, matrix in (("loglikelihoods", values), ("probs", np.exp(values))):
            columns[name + suffix] = pl.Series(matrix, dtype=pl.Array(pl.Float64, CHOICES)).cast(pl.List(pl.Float64))
        columns[f"prediction{suffix}"] = values.argmax(axis=1)
    return pl.DataFrame(columns)


def compare_at_once(table: pl.DataFrame) -> Found:
    """What the project does."""
    start = time.perf_counter()
    compared = compare_probes(table)
    return Found(time.perf_counter() - start, compared["kl_nats"].to_numpy(), compared["rank_pearson"].to_numpy())


def compare_in_a_loop(table: pl.DataFrame) -> Found:
    """One question at a time."""
    pairs = list(zip(table["probs_before"].to_list(), table["probs"].to_list(), strict=True))
    kl, ranks = [], []
    start = time.perf_counter()
    for before, after in pairs:
        kl.append(sum(p * np.log(p / q) for p, q in zip(before, after, strict=True)))
        x, y = (stats.rankdata(values, method="dense") for values in (before, after))
        ranks.append(stats.pearsonr(x, y)[0])
    return Found(time.perf_counter() - start, np.array(kl), np.array(ranks))


def measure_sides(questions: int, logs: int, stride: int) -> tuple[Found, Found]:
    """Both sides, the loop's seconds for all questions.

    Raises:
        ValueError: the sides do not agree.
    """
    table = make_joined(questions, logs)
    at_once, loop = compare_at_once(table), compare_in_a_loop(table.gather_every(stride))
    for name in ("kl", "ranks"):
        difference = np.abs(getattr(at_once, name)[::stride] - getattr(loop, name)).max()
        if not difference <= ROUNDING:
            raise ValueError(f"{name} of the two sides differ by {difference:.3g}.")
    return at_once, loop._replace(seconds=loop.seconds * table.height / len(loop.kl))


def describe_sides(at_once: Found, loop: Found) -> list[dict[str, object]]:
    """A row a side."""
    count = len(at_once.kl)
    return [
        {"side": name, "seconds": found.seconds, "answers a second": f"{count / found.seconds:,.0f}", "times": ratio}
        for name, found, ratio in (("loop", loop, 1.0), ("at once", at_once, loop.seconds / at_once.seconds))
    ]


def main(
    questions: Annotated[int, typer.Option(help="Questions of a log: MMLU's.")] = 14_042,
    logs: Annotated[int, typer.Option(help="Logs: a base model and 8 ratios in 4 domains.")] = 33,
    stride: Annotated[int, typer.Option(help="The loop is timed on one question of so many.")] = 10,
) -> None:
    """Compare made-up logs both ways, and print what each takes."""
    print(f"# Comparing: {questions:,} questions, {logs} logs, {os.cpu_count()} processors\n", flush=True)
    print(tabulate(describe_sides(*measure_sides(questions, logs, stride)), headers="keys", floatfmt=".3g", tablefmt="github"))


if __name__ == "__main__":
    typer.run(main)
