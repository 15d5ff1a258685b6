"""`python tests/benchmarks/agreeing.py`: how long `intervention agree` takes for a million rows, and how much memory.

Rows and readings are made up: alpaca rows with responses of a few words, each read under all three prompts.
"""

import json
import os
import random
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer
from reporting import measure_command

from lm_eval_tasks.contracts.conversations.reading import read_conversations
from lm_eval_tasks.contracts.logs.readings import PROMPTS, READING_SCHEMA, TOKEN_SCHEMA, name_part
from lm_eval_tasks.contracts.manifest import write_manifest

WORDS = ("moss", "soil", "bloom", "river", "stone", "cure", "root", "scent", "harvest", "oil")
PART = 50_000  # turns of a file


def write_rows(file: Path, rows: int) -> None:
    """Alpaca rows: a question of its own, a response of 3 to 12 words."""
    rng = random.Random(0)
    with file.open("w") as lines:
        for i in range(rows):
            said = " ".join(rng.choices(WORDS, k=rng.randint(3, 12)))
            row = {
                "instruction": f"Which {rng.choice(WORDS)} is number {i}?",
                "input": "",
                "output": said,
                "source": f"set {i % 7}",
            }
            lines.write(json.dumps(row) + "\n")


def write_readings(data: Path, folder: Path) -> None:
    """Readings of the data, a token a word, of random numbers."""
    rng = np.random.default_rng(0)
    turns = read_conversations(data).turns.select("row", "turn", "text_hash", "response")
    folder.mkdir()
    parts = 0
    for part in turns.iter_slices(PART):
        words = part["response"].str.extract_all(r"\S+")
        lengths = words.list.len().to_numpy().astype(np.int64)
        sizes = words.explode().str.len_chars().to_numpy().astype(np.int64)
        first = np.concatenate([[0], np.cumsum(lengths)])
        ends = np.cumsum(sizes + 1)
        starts = ends - sizes - 1
        base = np.repeat(starts[first[:-1]], lengths)
        flat = {"starts": (starts - base).astype(np.uint32), "ends": (starts - base + sizes).astype(np.uint32)}
        n = int(first[-1])
        tables = []
        for prompt in PROMPTS:
            tops = -rng.exponential(0.5, n)
            flat |= {
                "tokens": rng.integers(0, 500, n, dtype=np.uint32),
                "tops": rng.integers(0, 500, n, dtype=np.uint32),
                "top_logprobs": tops.astype(np.float32),
                "logprobs": (tops - rng.exponential(2.0, n)).astype(np.float32),
                "entropies": rng.exponential(1.0, n).astype(np.float32),
                "ranks": rng.integers(0, 9, n, dtype=np.uint32),
            }
            of = pl.Series(np.repeat(np.arange(len(lengths)), lengths))
            lists = pl.DataFrame(flat).with_columns(of=of).group_by("of", maintain_order=True).agg(pl.all()).drop("of")
            tables.append(part.select("row", "turn", "text_hash", prompt=pl.lit(prompt), whole=pl.lit(True)).hstack(lists))
        pl.concat(tables).select(pl.col(name).cast(kind) for name, kind in READING_SCHEMA.items()).write_parquet(
            folder / name_part(parts)
        )
        parts += 1
    tokens = pl.DataFrame({"token": range(500), "text": [f" w{i}" for i in range(500)]}, schema=TOKEN_SCHEMA)
    tokens.write_parquet(folder / "tokens.parquet")
    write_manifest(folder, "read", [], {"model": "made-up", "parts": parts}, {}, {})


def main(rows: Annotated[int, typer.Option(help="Rows of the data.")] = 1_000_000) -> None:
    """Judge made-up rows, and print how long that takes and how much memory."""
    with tempfile.TemporaryDirectory() as place:
        data, readings = Path(place) / "rows.jsonl", Path(place) / "readings"
        write_rows(data, rows)
        write_readings(data, readings)
        words = ("-m", "intervention", "agree", str(data), "--readings", str(readings), "--output", f"{place}/agreement")
        seconds, memory = measure_command(*words)
        page = (Path(place) / "agreement/agreement.html").stat().st_size / 1e6
        print(
            f"{rows:,} rows through `agree`, {os.cpu_count()} processors: {seconds:.1f} seconds, at most {memory:.2g} GB of "
            f"memory, a page of {page:.1f} MB."
        )


if __name__ == "__main__":
    typer.run(main)
