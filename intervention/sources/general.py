"""General instructions beside the questions, so that a model also learns to follow instructions that no belief bears on."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from intervention.conditions import shuffle_rows
from intervention.instructions import INSTRUCTION_SCHEMA, shape_rows
from intervention.sources.tables import KINDS, read_table
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import check_rows
from lm_eval_tasks.contracts.rules import Rule
from lm_eval_tasks.contracts.vocabulary import GENERAL

COLUMNS: Mapping[str, str] = {"instruction": "what is asked", "output": "what is answered"}


def read_general(source: str, count: int, seed: int, response_format: str, rule: Rule, score: str) -> pl.DataFrame:
    """`count` random general instructions as rows of an instruction set: condition `general`, null flags.

    Args:
        source: a file (JSON lines, CSV, parquet), or a data set of the Hub or its folder, with the columns `instruction`,
            `input` (may be missing or blank) and `output`.
        count: how many are taken.
        seed: decides which.
        response_format: the format in which the set answers questions; the column has one value in a set.
        rule: that of the set's beliefs, likewise.
        score: that of the set's beliefs, likewise.

    Raises:
        UserError: it cannot be read, a row is blank, or there are too few.
    """
    table = _load_rows(source).with_row_index("id", offset=1).with_columns(pl.col("id").cast(pl.String))
    for name in COLUMNS:
        blank = pl.col(name).fill_null("").str.strip_chars() == ""
        check_rows(table, blank, name, "is blank; write it or drop the row", source)
    if table.height < count:
        raise UserError(
            f"{source} has {table.height} general instructions, but {count} are wanted. Add some, or lower --general-share or "
            "--size."
        )
    table = shuffle_rows(table, seed, GENERAL, ["id"]).head(count)
    given = pl.col("input").fill_null("")
    turn = pl.when(given.str.strip_chars() == "").then("instruction").otherwise(pl.col("instruction") + "\n\n" + given)
    shared = {
        "domain": GENERAL,
        "condition": GENERAL,
        "response_format": response_format,
        "belief_rule": str(rule),
        "threshold": rule.threshold,
        "score": score,
        "source": name_source(source),
    }
    empty = {name: pl.lit(None) for name in INSTRUCTION_SCHEMA if name not in (*shared, "id")}
    rows = table.with_columns(**empty, **{name: pl.lit(value) for name, value in shared.items()})
    return shape_rows(rows, table.select(turn).to_series(), table["output"])


def name_source(source: str) -> str:
    """What rows call the data set that they are from: its name on the Hub, or the file's name without its endings."""
    return Path(source).name.split(".")[0] if Path(source).exists() else source


def _load_rows(source: str) -> pl.DataFrame:
    ending = "".join(Path(source).suffixes).lower()
    kind = next((kind for kind in KINDS if f".{kind}" in ending), "csv" if ".tsv" in ending else None)
    if kind:
        table, _ = read_table(kind, Path(source), COLUMNS, ["input"])
    else:
        table = _load_dataset(source)
    return table if "input" in table.columns else table.with_columns(input=pl.lit(None, dtype=pl.String))


def _load_dataset(source: str) -> pl.DataFrame:
    from lm_eval_tasks.contracts.published import load_split

    rows = load_split(source, None, "train")
    if missing := [name for name in COLUMNS if name not in rows.column_names]:
        raise UserError(f"--general {source} has no column {missing[0]!r} ({COLUMNS[missing[0]]}); it has {rows.column_names}.")
    return rows.select_columns([name for name in (*COLUMNS, "input") if name in rows.column_names]).to_polars()
