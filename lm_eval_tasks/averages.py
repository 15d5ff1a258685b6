"""One answer to a question that was asked in several orders of its choices, or with several draws of demonstrations.

A model may favour a letter, whatever stands at it (Zheng et al. 2024, arXiv 2309.03882). Over all cyclic orders every choice
stands once at every letter, so what belongs to letters cancels in the mean. Imports neither torch nor lm_eval.
"""

from collections.abc import Sequence

import polars as pl

from lm_eval_tasks.manifest import UserError
from lm_eval_tasks.probe_table import ASKED, LOGLIKELIHOODS, PROBE_KEY, PROBE_SCHEMA
from lm_eval_tasks.questions import KEY

TIE = 1e-12


def average_orders(table: pl.DataFrame) -> pl.DataFrame:
    """One row a question, model, phase, scoring and draw: probabilities averaged by choice over the orders that were asked.

    Args:
        table: a probe table (`PROBE_SCHEMA`), as `read_probes` gives it.

    Returns:
        `PROBE_SCHEMA`, with `order` and all log-likelihoods null and `choice_mass` the mean, then `orders` (how many were
        averaged) and `agreement` (the share of them whose own prediction is the average's), in the table's order of questions.

    Raises:
        UserError: a question was asked in some orders of its choices but not in all (see `check_orders`).
    """
    check_orders(table)
    key = [name for name in PROBE_KEY if name != "order"]
    averaged = average_probes(table, key).with_columns(
        pl.lit(None).cast(PROBE_SCHEMA[name]).alias(name) for name in ("order", *LOGLIKELIHOODS)
    )
    return averaged.with_columns(correct=pl.col("prediction") == pl.col("answer")).select(
        *PROBE_SCHEMA, pl.col("asked").alias("orders"), "agreement"
    )


def check_orders(table: pl.DataFrame, where: str = "the probes") -> None:
    """Raise a `UserError` naming the first question that lacks an order of its choices, where not just one order was asked.

    Just one order was asked where a task asked each question of a source and domain once a draw. A question asked in two
    wordings is refused too: its rows are not orders of one question. `where` is what an error names.
    """
    asked = [*ASKED, "draw", "task", "source", "domain"]
    several = pl.col("_orders").max().over(asked) > 1
    counts = (
        table.lazy()
        .group_by(*asked, "id", maintain_order=True)
        .agg(
            pl.col("order").n_unique().alias("_orders"),
            pl.col("choices").first().list.len().alias("_wanted"),
            pl.col("question_hash").n_unique().alias("_wordings"),
        )
    )
    lacking = (pl.col("_orders") != pl.col("_wanted")) & several
    wrong = counts.filter((pl.col("_wordings") > 1) | lacking).head(1).collect()
    if not wrong.height:
        return
    row = wrong.row(0, named=True)
    name = f"{row['source']}/{row['domain']} id {row['id']!r}"
    if row["_wordings"] > 1:
        raise UserError(
            f"{where}: {name} was asked of {row['model']} in {row['_wordings']} wordings (its question_hash differs). "
            "Name logs of one question set."
        )
    orders = table.filter(*(pl.col(name) == row[name] for name in (*asked, "id")))["order"].unique().to_list()
    missing = next((order for order in range(row["_wanted"]) if order not in orders), None)
    raise UserError(
        f"{where}: {name} was asked of {row['model']} by {row['task']} in {row['_orders']} of the {row['_wanted']} orders of "
        f"its choices (order {missing} is missing), so what belongs to letters does not cancel. Ask it in every order (a "
        "--limit cuts between orders), or name the logs of one order."
    )


def average_probes(table: pl.DataFrame, key: Sequence[str] = KEY) -> pl.DataFrame:
    """One row a key: the mean of `probs` over all its rows, choice by choice, and what follows from it.

    A probe table speaks of the question's own order of choices, so positions are contents. Of choices that tie, the prediction
    is the one that the model named when it was asked first (lowest draw and order), else the first.

    Returns:
        The table's columns, of the row asked first, but `probs`, `prediction`, `confidence` and `choice_mass` (the mean), which
        speak of all; then `asked` (how many rows) and `agreement` (the share of them whose own prediction is this one).
    """
    widest = range(table["probs"].list.len().max() or 1)
    means = (
        table.lazy()
        .select(*dict.fromkeys([*key, "draw", "order", "probs", "prediction", "choice_mass"]))
        .with_row_index("_row")
        .sort("draw", "order", maintain_order=True)
        .group_by(key, maintain_order=True)
        .agg(
            *(pl.col("probs").list.get(i, null_on_oob=True).mean().alias(f"_prob_{i}") for i in widest),
            *((pl.col("prediction") == i).mean().alias(f"_votes_{i}") for i in widest),
            pl.col("prediction").first().alias("_named"),
            pl.col("choice_mass").mean(),
            pl.len().cast(pl.Int64).alias("asked"),
            pl.col("_row").first().alias("_first"),
            pl.col("_row").min(),
        )
        .sort("_row")
        .with_columns(
            pl.concat_list(f"_prob_{i}" for i in widest).list.drop_nulls().alias("probs"),
            pl.concat_list(f"_votes_{i}" for i in widest).alias("_votes"),
        )
        .with_columns(pl.when(_is_named_among_best()).then("_named").otherwise(_find_best()).alias("prediction"))
        .select(
            "_first",
            "probs",
            "choice_mass",
            "prediction",
            pl.col("probs").list.get(pl.col("prediction")).alias("confidence"),
            "asked",
            pl.col("_votes").list.get(pl.col("prediction")).alias("agreement"),
        )
        .collect()
    )
    return table[means["_first"]].with_columns(means.drop("_first").get_columns())


def _is_named_among_best() -> pl.Expr:
    return pl.col("probs").list.get(pl.col("_named")) >= pl.col("probs").list.max() - TIE


def _find_best() -> pl.Expr:
    return pl.col("probs").list.arg_max().cast(pl.Int64)
