"""Answers beside what their runs were trained on: which evaluation set each question is of."""

from collections.abc import Mapping

import polars as pl

from analysis.measures.keys import RUN_KEY
from analysis.reading.bases import spread_base
from analysis.reading.gaps import find_left_out


def find_set() -> pl.Expr:
    """The evaluation set of a question, relative to what the run was trained on; null for what is not evaluated.

    Of the columns `source`, `domain`, `split` (of the question set), `run`, `trained_source` and `trained_domain`.
    """
    same_domain = pl.col("domain") == pl.col("trained_domain")
    home = same_domain & (pl.col("source") == pl.col("trained_source"))
    test = pl.col("split") == "test"
    return (
        pl.when(test & home).then(pl.lit("homo"))
        .when(test & same_domain).then(pl.lit("id"))
        .when(test).then(pl.lit("ood"))
        .when((pl.col("split") == "train") & home & (pl.col("run") != "")).then(pl.lit("seen"))
        # The base model's probe of the train questions is what `seen` is compared with; it is no evaluation set of its own.
        .when((pl.col("split") == "train") & home).then(pl.lit("train"))
        .alias("split")
    )  # fmt: skip


def join_runs(
    answers: pl.DataFrame, runs: pl.DataFrame, bases: Mapping[str, str | None], noun: str = "samples"
) -> tuple[pl.DataFrame, list[str]]:
    """The answers of runs, and of the base models once for every domain that a run was trained in; and gaps.

    Args:
        answers: of a study, probes or texts, with `asked_model`.
        runs: `runs.RUN_SCHEMA`.
        bases: as `bases.match_bases` gives it for these answers.
        noun: what gaps call the answers.

    Returns:
        The answers that are evaluated, with `RUN_KEY` but for `domain`, which is called `trained_domain`, `threshold` and
        `trained_source`; `split` is the evaluation set (see `find_set`).
    """
    base, gaps = spread_base(answers, runs, bases, noun)
    tuned = answers.filter(pl.col("run") != "", pl.col("phase").str.starts_with("tuned")).join(
        runs.select(*RUN_KEY, "run", "threshold", trained_source="source").rename({"domain": "trained_domain"}), on="run"
    )
    everything = pl.concat([base, tuned.select(base.columns)]).with_columns(find_set().alias("evaluated"))
    gaps = find_left_out(everything, noun) + gaps
    return everything.filter(pl.col("evaluated").is_not_null()).drop("split").rename({"evaluated": "split"}), gaps
