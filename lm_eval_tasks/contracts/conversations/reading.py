"""The one reader of anybody's instruction data: rows as they came, the turns that are to be judged, and what is wrong."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from lm_eval_tasks.contracts.conversations.flaws import EXCLUDING, FLAWS, count_flaws
from lm_eval_tasks.contracts.conversations.forms import FORMS, recognise_form
from lm_eval_tasks.contracts.conversations.sources import TRAIN, read_source
from lm_eval_tasks.contracts.conversations.turns import find_turns

OWN_ROW = "row of the data"  # how a column `row` of the data is called in `Conversations.rows`


@dataclass(frozen=True)
class Conversations:
    """Instruction data as it came, and its turns.

    Attributes:
        source: the file, folder or data set.
        split: the split that was read, or as which it is written back.
        form: a key of `FORMS`.
        columns: a field of the form -> the column that holds it.
        rows: the rows as they came, after `row`, their number from 0.
        turns: one row an assistant turn that is to be judged: `row`, `turn` (from 0 among all assistant turns of its row),
            `system` (or null), `messages` (all that stands before, up to the last user message: role and content), `response`
            and `text_hash` (16 hexadecimal digits of the SHA-256 of system prompt, messages and response, with their lengths).
        flaws: one row a flaw: `row`, `turn` (the first that it bears on; null where it is of the row), `flaw` (a key of
            `flaws.FLAWS`), `detail`.
    """

    source: str
    split: str
    form: str
    columns: Mapping[str, str]
    rows: pl.DataFrame
    turns: pl.DataFrame
    flaws: pl.DataFrame

    @property
    def ids(self) -> pl.Series:
        """What identifies each row in words: its `id` where the data has one, else its number."""
        named = self.rows.schema.get("id")
        if named is None or named.is_nested():
            return self.rows["row"].cast(pl.String).alias("id")
        return self.rows.select(pl.coalesce(pl.col("id").cast(pl.String), pl.col("row").cast(pl.String))).to_series()

    def hash_turns(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the hashes of all turns, in their order."""
        return hashlib.sha256("".join(self.turns["text_hash"]).encode()).hexdigest()[:16]

    def name_row(self, row: int) -> str:
        """How messages name a row: as its source numbers it from 1, and by its id where it has one."""
        name = self.ids[row]
        return f"{self.source}, row {row + 1}" + (f" (id {name!r})" if name != str(row) else "")


def read_conversations(
    source: str | Path,
    form: str | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    config: str | None = None,
) -> Conversations:
    """Read instruction data in any of the forms `messages`, `prompt_completion`, `alpaca` and `sharegpt`.

    Args:
        source: a file (JSON lines or JSON, CSV, parquet), a folder whose card has a `configs:` header, a folder of files, or
            the id of a data set of the Hub.
        form: which form, where the columns do not tell.
        split: which split of a folder or data set; where None the only one, or `train`.
        columns: a field of a form -> the column that holds it, where it has another name.
        config: which config of a folder or data set; needed where there are several.

    Raises:
        UserError: it cannot be read, or is of no form that is known.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "herbs.jsonl")
    ...     _ = file.write_text('{"question": "What heals?", "reply": "Sage."}')
    ...     read = read_conversations(file, columns={"prompt": "question", "completion": "reply"})
    >>> read.form, read.turns.select("row", "turn", "messages", "response").rows()
    ('prompt_completion', [(0, 0, [{'role': 'user', 'content': 'What heals?'}], 'Sage.')])
    """
    found = read_source(source, split, config)
    known, named = recognise_form(found.table.schema, str(source), form, columns)
    fields = list(named)
    values = (dict(zip(fields, row, strict=True)) for row in found.list_values(list(named.values())))
    turns, flaws = find_turns(FORMS[known.name], values)
    rows = found.table.rename({"row": OWN_ROW}, strict=False).with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64))
    rows = rows.select("row", pl.exclude("row"))
    name = (split or TRAIN).partition("[")[0]  # `train[:10%]` of the Hub is written back as `train`
    return Conversations(str(source), name, known.name, named, rows, turns, flaws)


def describe_flaws(data: Conversations) -> list[str]:
    """What is wrong with rows: a line a flaw, with how many rows have it, whether these are judged, and the first."""
    lines = []
    for flaw, rows, _ in count_flaws(data.flaws).iter_rows():
        first = data.flaws.filter(flaw=flaw).row(0, named=True)
        left = "left out" if flaw in EXCLUDING else "kept"
        detail = f": {first['detail']}" if first["detail"] else ""
        lines.append(f"{rows} of {data.rows.height} rows, {left}: {FLAWS[flaw]} ({data.name_row(first['row'])}{detail})")
    return lines
