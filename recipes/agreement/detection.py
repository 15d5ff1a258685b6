"""How well a row table's measures find the rows that clash, where it is known which do.

python -m recipes.agreement.detection --agreement AGREEMENT --truth ROWS --output detection
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.scores import compute_wilson
from lm_eval_tasks.contracts.manifest import hash_inputs
from lm_eval_tasks.contracts.markdown import format_table
from recipes.agreement.areas import compare_areas, find_interval, measure_areas
from recipes.agreement.rows import KINDS, TRUTH
from recipes.agreement.tables import list_words, write_tables
from recipes.commands import run_command

OURS = "score"
# Measure -> the column of the row table, whether a high value speaks for a clash, and whose it is.
MEASURES = {
    OURS: ("score", True, "this project: the mean of both kinds of probability of another answer"),
    "answers": ("agree_share", False, "share of sampled answers that agree (as Gekhman et al. 2024 measure knowledge)"),
    "contrast": ("contrast_nats", False, "the response against the model's own answers, exact"),
    "P(True)": ("p_true", False, "Kadavath et al. 2022, asked of the same model"),
    "surprisal": ("surprisal_nats_chat", True, "nats a token in the chat prompt"),
    "surprisal, in context": ("surprisal_nats_in_context", True, "nats a token after worked answers"),
    "IFD": ("ifd", True, "Li et al. 2024"),
    "hard tokens": ("hard_chat", True, "share of tokens above perplexity 2.5 (arXiv 2501.14315)"),
    "conflict tokens": ("conflicts_chat", True, "low probability and low entropy at once (arXiv 2601.02151)"),
    "overruled tokens": ("overruled_chat", True, "under 0.05 where another has over 0.5 (Ren et al. 2024, by token)"),
    "random": ("_random", True, "an order by chance"),
}
AGAINST = ("known", "form", "absent")
BASELINES = tuple(name for name in MEASURES if name not in (OURS, "contrast", "random"))  # published ones: the best is the bar


def read_judged(agreement: Path, truth: Path) -> pl.DataFrame:
    """The row table with the `kind` of each row.

    Raises:
        UserError: it is of other rows.
    """
    rows, known = pl.read_parquet(agreement / "rows.parquet"), pl.read_parquet(truth / TRUTH)
    joined = known.select("row", "kind", "completion").join(rows, on="row", how="left", maintain_order="left")
    if rows.height != known.height or (joined["response"] != joined["completion"].str.strip_chars()).any():
        raise UserError(f"{agreement} is not of the rows of {truth}. Judge these rows.")
    return joined.with_columns(_random=pl.Series(np.random.default_rng(0).random(joined.height)))


def measure_detection(rows: pl.DataFrame) -> pl.DataFrame:
    """The area of each measure for clashes against each other kind of row.

    Rows that were not asked, because they are shown as demonstrations, are left out for every measure.

    Args:
        rows: as `read_judged` gives them.

    Returns:
        A row a pair: `against, measure, auc, low, high, more, more_low, more_high` (how much more the area of `score` is),
        `clashes, others` (rows).
    """
    known = {name: column for name, column in MEASURES.items() if column[0] in rows.columns}
    columns = [column for column, _, _ in known.values()]
    whole = rows.drop_nulls(columns)
    found = []
    for against in [kind for kind in AGAINST if kind in whole["kind"]]:
        sides = []
        for kind in ("clash", against):
            values = whole.filter(kind=kind).select(columns).cast(pl.Float64).to_numpy().T
            sides.append(values * np.array([1 if high else -1 for _, high, _ in known.values()])[:, None])
        areas, names = measure_areas(*sides), list(known)
        for number, name in enumerate(names):
            low, high = find_interval(areas, number)
            more = compare_areas(areas, names.index(OURS), number)
            found.append((against, name, areas.values[number], low, high, *more, areas.positives, areas.negatives))
    schema = ["against", "measure", "auc", "low", "high", "more", "more_low", "more_high", "clashes", "others"]
    return pl.DataFrame(found, schema=schema, orient="row")


def find_best(areas: pl.DataFrame, against: str) -> str:
    """The best single published measure."""
    own = areas.filter((pl.col("against") == against) & pl.col("measure").is_in(BASELINES))
    return own.sort("auc")["measure"][-1]


def count_verdicts(rows: pl.DataFrame) -> pl.DataFrame:
    """What verdicts the rows of each kind got: `kind, verdict, rows, of, share, low, high`."""
    counts = rows.group_by("kind", "verdict").agg(rows=pl.len())
    counts = counts.with_columns(of=pl.col("rows").sum().over("kind")).with_columns(share=pl.col("rows") / pl.col("of"))
    low, high = compute_wilson(counts["share"].to_numpy(), counts["of"].to_numpy())
    order = {kind: number for number, kind in enumerate(KINDS)}
    counts = counts.with_columns(pl.Series("low", low), pl.Series("high", high))
    return counts.sort(pl.col("kind").replace_strict(order), pl.col("rows"), "verdict", descending=[False, True, False])


def measure_calibration(rows: pl.DataFrame, bins: int = 5) -> pl.DataFrame:
    """Whether `score` is the share of clashes among known and clashing rows: by fifths, `score, clashes, low, high, rows`."""
    asked = rows.filter(pl.col("kind").is_in(["known", "clash"]) & pl.col(OURS).is_not_null())
    fifth = pl.min_horizontal((pl.col(OURS) * bins).floor().cast(pl.Int64), bins - 1).alias("bin")
    table = (
        asked.group_by(fifth).agg(pl.col(OURS).mean(), clashes=(pl.col("kind") == "clash").mean(), rows=pl.len()).sort("bin")
    )
    low, high = compute_wilson(table["clashes"].to_numpy(), table["rows"].to_numpy())
    return table.select(OURS, "clashes", pl.Series("low", low), pl.Series("high", high), "rows")


def main(
    agreement: Annotated[Path, typer.Option(help="What `python -m intervention agree` wrote.")],
    truth: Annotated[Path, typer.Option(help="What `python -m recipes.agreement.rows` wrote.")],
    output: Annotated[Path, typer.Option(help="The folder for the tables.")],
) -> None:
    """Write and print how well measures and verdicts find the rows that clash.

    \b
    Example:
      python -m recipes.agreement.detection --agreement agreement --truth rows --output detection
    """
    rows = read_judged(agreement, truth)
    tables = {
        "areas": (
            "Area under the curve, clashes against others (95%: DeLong, logit; more: of `score`)",
            measure_detection(rows),
        ),
        "verdicts": ("Verdicts by what the rows are (95%: Wilson)", count_verdicts(rows)),
        "calibration": ("The share of clashes by `score`, among known and clashing rows", measure_calibration(rows)),
    }
    text = "\n".join(f"{title}\n\n{format_table(table)}\n" for title, table in tables.values())
    for against in tables["areas"][1]["against"].unique(maintain_order=True):
        text += f"\nBest single published measure against {against}: {find_best(tables['areas'][1], against)}"
    measures = {name: meaning for name, (column, _, meaning) in MEASURES.items() if column in rows.columns}
    text += f"\n\nMeasures\n\n{list_words(measures)}\n\nRows\n\n{list_words(KINDS)}"
    inputs = hash_inputs(agreement=agreement / "rows.parquet", truth=truth)
    frames = {name: table for name, (_, table) in tables.items()}
    write_tables(output, "detection", frames, text, {"rows": rows.height}, inputs)


if __name__ == "__main__":
    run_command(main)
