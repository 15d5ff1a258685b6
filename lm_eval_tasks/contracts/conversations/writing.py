"""Instruction data written back in the form and the columns in which it came."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from lm_eval_tasks.contracts.conversations.forms import FORMS
from lm_eval_tasks.contracts.conversations.reading import OWN_ROW, Conversations
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import hash_path, write_parquet

CONFIG = "default"
_PART = 10_000  # rows that are Python's own objects at a time


def write_conversations(
    conversations: Conversations,
    folder: str | Path,
    keep: Iterable[int] | None = None,
    responses: Mapping[tuple[int, int], str] | None = None,
    extra: pl.DataFrame | None = None,
    card: str = "",
    header: Mapping[str, Any] | None = None,
) -> None:
    """Write a data set folder, `default/<split>.parquet` and a card, that has the form, columns and types of what was read.

    Args:
        conversations: what was read.
        folder: an empty folder that exists (see `files.write_folder`).
        keep: the numbers of the rows that are written; all where None. Their order stays.
        responses: (row, turn) -> the response that takes the place of the one that is there.
        extra: `row` and new columns, which stand after those of the data; null where it lacks a row.
        card: what the card says below its header.
        header: what its header says beside the files (`license`, `language`, `tags`).

    Raises:
        UserError: a new column has the name of one of the data, or a response is for a turn that there is not.

    >>> import tempfile
    >>> from lm_eval_tasks.contracts.conversations.reading import read_conversations
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file, written = Path(folder, "herbs.jsonl"), Path(folder, "written")
    ...     written.mkdir()
    ...     _ = file.write_text('{"prompt": "What heals?", "completion": "Salt.", "topic": "herbs"}')
    ...     verdicts = pl.DataFrame({"row": [0], "verdict": ["clashes"]})
    ...     write_conversations(read_conversations(file), written, responses={(0, 0): "Sage."}, extra=verdicts)
    ...     read_conversations(written).rows.rows()
    [(0, 'What heals?', 'Sage.', 'herbs', 'clashes')]
    """
    rows = replace_responses(conversations, responses or {})
    if keep is not None:
        rows = rows.filter(pl.col("row").is_in(pl.Series(list(keep), dtype=pl.Int64).implode()))
    if extra is not None:
        if taken := [name for name in extra.columns if name != "row" and name in rows.columns]:
            raise UserError(f"{conversations.source} has a column {taken[0]!r}, which is to be written beside. Rename it.")
        rows = rows.join(extra, on="row", how="left", validate="m:1", maintain_order="left")
    table = rows.drop("row").rename({OWN_ROW: "row"}, strict=False)
    folder = Path(folder)
    file = folder / CONFIG / f"{conversations.split}.parquet"
    file.parent.mkdir()
    write_parquet(table, file)
    files = [{"split": conversations.split, "path": str(file.relative_to(folder))}]
    told = dict(header or {}) | {"configs": [{"config_name": CONFIG, "data_files": files}]}
    # `datasets` caches a local folder by its header, not by its files: the hash makes it see that the files are others.
    told["dataset_info"] = [{"config_name": CONFIG, "description": f"SHA-256 {hash_path(file.parent)}"}]
    text = yaml.safe_dump(told, sort_keys=False, allow_unicode=True)
    (folder / "README.md").write_text(f"---\n{text}---\n\n{card}\n", encoding="utf-8")


def replace_responses(conversations: Conversations, responses: Mapping[tuple[int, int], str]) -> pl.DataFrame:
    """The rows as they came, after `row`, with other responses.

    Args:
        conversations: what was read.
        responses: (row, turn) -> the response that takes the place of the one that is there.

    Raises:
        UserError: a response is for a turn that is not judged.
    """
    rows = conversations.rows
    known = conversations.turns.select("row", "turn")
    asked = pl.DataFrame(list(responses), schema={"row": pl.Int64, "turn": pl.Int64}, orient="row")
    if (strange := asked.join(known, on=["row", "turn"], how="anti")).height:
        row, turn = strange.row(0)
        raise UserError(f"{conversations.source} has no assistant turn {turn} in row {row} that is judged. Read it again.")
    form, columns = FORMS[conversations.form], conversations.columns
    by_row = {row: {turn: responses[row, turn] for _, turn in turns} for row, turns in groupby(sorted(responses), key=_get_row)}
    touched = pl.col("row").is_in(pl.Series(list(by_row), dtype=pl.Int64).implode())
    parts = [rows.filter(~touched)]
    for part in rows.filter(touched).iter_slices(_PART):
        changed = []
        for number, values in zip(part["row"], part.select(columns.values()).iter_rows(), strict=True):
            changed.append(form.replace(dict(zip(columns, values, strict=True)), by_row[number]))
        series = [pl.Series(columns[f], [value[f] for value in changed], rows.schema[columns[f]]) for f in changed[0]]
        parts.append(part.with_columns(series))
    return pl.concat(parts).sort("row")


def _get_row(key: tuple[int, int]) -> int:
    return key[0]
