"""What tests do to a made-up study's files to see what is said of it."""

import json
from pathlib import Path

import polars as pl

from lm_eval_tasks.manifest import MANIFEST, write_manifest
from lm_eval_tasks.samples import write_probes


def read_manifest_of(runs: Path, name: str) -> dict:
    return json.loads((runs / "models" / name / MANIFEST).read_text())


def edit(file: Path, change: pl.Expr | None = None, **columns: pl.Expr) -> None:
    table = pl.read_parquet(file)
    write_probes(table.filter(change) if change is not None else table.with_columns(**columns), file)


def spoil_manifest(runs: Path, name: str, **config: object) -> None:
    manifest = read_manifest_of(runs, name)
    write_manifest(runs / "models" / name, "train", [], manifest["config"] | config, {}, {})
