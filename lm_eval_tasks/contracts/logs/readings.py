"""Readings of instruction data: what a model gives each token of each response, under each prompt; written and read here.

A folder of readings holds `readings-*.parquet` (`READING_SCHEMA`, a part of the responses each), `tokens.parquet` (what the ids
of tokens stand for) and, when all is read, a manifest. Imports neither torch nor lm_eval.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import MANIFEST, write_file
from lm_eval_tasks.contracts.manifest import read_manifest

# The prompts under which a response is read.
PROMPTS = {
    "chat": "after the conversation in the chat template of training",
    "in_context": "after worked answers and the conversation, as text that a base model continues",
    "alone": "without a prompt",
}
READING_SCHEMA = pl.Schema(
    {
        "row": pl.Int64,
        "turn": pl.Int64,
        "text_hash": pl.String,
        "prompt": pl.String,  # of `PROMPTS`
        "whole": pl.Boolean,  # false where prompt and response exceed the model's window, and were read in parts
        # A value a token of the response, in its order.
        "tokens": pl.List(pl.UInt32),  # ids
        "starts": pl.List(pl.UInt32),  # where the token begins and ends among the characters of the response
        "ends": pl.List(pl.UInt32),
        "logprobs": pl.List(pl.Float32),  # nats
        "entropies": pl.List(pl.Float32),  # nats, of the model's distribution where the token stands
        "tops": pl.List(pl.UInt32),  # id of the most probable token there
        "top_logprobs": pl.List(pl.Float32),  # its log-probability, nats
        "ranks": pl.List(pl.UInt32),  # how many tokens are more probable than the one that is there
    }
)
TOKEN_SCHEMA = pl.Schema({"token": pl.UInt32, "text": pl.String})
STARTED = "started.json"  # of what the parts that are there are


def name_part(number: int) -> str:
    """The file of a part.

    >>> name_part(12)
    'readings-00012.parquet'
    """
    return f"readings-{number:05}.parquet"


def start_folder(folder: Path, what: Mapping[str, Any]) -> None:
    """Note what a folder's readings are of, or find that those in it are of the same.

    Raises:
        UserError: the folder holds something else, or readings of another model, data or prompt.
    """
    noted = folder / STARTED
    if noted.is_file():
        held = json.loads(noted.read_text())
        differs = [name for name in what if held.get(name) != what[name]]
        if differs:
            raise UserError(
                f"{folder} holds other readings: their {differs[0].replace('_', ' ')} was {held.get(differs[0])!r}, and now is "
                f"{what[differs[0]]!r}. Name a new folder, or remove this one."
            )
        return
    if folder.is_dir() and any(not file.name.startswith(".") for file in folder.iterdir()):
        raise UserError(f"{folder} holds files that are no readings ({STARTED} is missing). Name a new folder.")
    with write_file(noted) as file:
        file.write_text(json.dumps(what, indent=2) + "\n")


def scan_readings(folder: str | Path) -> tuple[pl.LazyFrame, dict[str, Any]]:
    """The readings of a folder, not yet read into memory, and their manifest.

    Raises:
        UserError: no such folder, no readings, or not all.
    """
    folder = Path(folder)
    manifest = read_manifest(folder) if folder.is_dir() else None
    if manifest is None and (folder / STARTED).is_file():
        raise UserError(f"{folder}: not all is read yet ({MANIFEST} is missing). Give the same command again: it goes on.")
    if manifest is None or manifest["stage"] != "read":
        raise UserError(f"{folder} holds no readings. `python -m lm_eval_tasks read DATA --output {folder.name}` makes them.")
    parts = [folder / name_part(number) for number in range(manifest["config"]["parts"])]
    if missing := [part.name for part in parts if not part.is_file()]:
        raise UserError(f"{folder} lacks {missing[0]}. Fetch it again, or read again into a new folder.")
    return pl.scan_parquet(parts, schema=READING_SCHEMA), manifest


def read_token_texts(folder: str | Path) -> dict[int, str]:
    """The texts of the tokens that occur in a folder's readings, by their ids."""
    return dict(pl.read_parquet(Path(folder) / "tokens.parquet", schema=TOKEN_SCHEMA).iter_rows())
