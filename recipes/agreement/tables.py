"""Where the commands of this folder write what they found: tables as files, and all of them to be read."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from lm_eval_tasks.contracts.files import write_folder, write_parquet
from lm_eval_tasks.contracts.manifest import write_manifest

TABLES = "tables.md"


def write_tables(
    output: Path,
    stage: str,
    frames: Mapping[str, pl.DataFrame],
    text: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> None:
    """Write a folder of tables, and print them.

    Args:
        output: the folder.
        stage: of the manifest.
        frames: by the names of their parquet files.
        text: the tables in words, which `tables.md` holds.
        config: of the manifest.
        inputs: hashes, of the manifest.
    """
    with write_folder(output) as folder:
        for name, frame in frames.items():
            write_parquet(frame, folder / f"{name}.parquet")
        (folder / TABLES).write_text(f"{text}\n", encoding="utf-8")
        write_manifest(folder, stage, sys.argv[1:], dict(config), dict(inputs), {})
    print(text)


def list_words(words: Mapping[str, str]) -> str:
    """What names mean, a line each, in markdown.

    >>> print(list_words({"known": "what the model believes"}))
    - `known`: what the model believes
    """
    return "\n".join(f"- `{name}`: {meaning}" for name, meaning in words.items())
