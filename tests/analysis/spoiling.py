"""What tests do to a made-up study's files to see what is said of it."""

import gzip
import json
from pathlib import Path

import polars as pl

from lm_eval_tasks.contracts.files import MANIFEST
from lm_eval_tasks.contracts.logs.probe_table import write_probes
from lm_eval_tasks.contracts.manifest import write_manifest
from lm_eval_tasks.contracts.questions import hash_questions


def read_manifest_of(runs: Path, name: str) -> dict:
    return json.loads((runs / "models" / name / MANIFEST).read_text())


def edit(file: Path, change: pl.Expr | None = None, **columns: pl.Expr) -> None:
    table = pl.read_parquet(file)
    write_probes(table.filter(change) if change is not None else table.with_columns(**columns), file)


def spoil_manifest(runs: Path, name: str, **config: object) -> None:
    manifest = read_manifest_of(runs, name)
    write_manifest(runs / "models" / name, "train", [], manifest["config"] | config, {}, {})


def edit_manifest(folder: Path, **keys: object) -> None:
    """Other values of a manifest's keys, as if by hand."""
    file = folder / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


def rephrase(file: Path, question: pl.Expr) -> None:
    """Other questions, with the hashes of what they are now."""
    table = pl.read_parquet(file).with_columns(question=question)
    write_probes(table.with_columns(hash_questions(table)), file)


def make_log(file: Path, packed: bool = False) -> Path:
    """Put a log of samples, as lm-eval writes it, where a probe table stood."""
    table = pl.read_parquet(file)
    lines = "".join(json.dumps({"doc_id": i, "doc": doc}) + "\n" for i, doc in enumerate(table.to_dicts()))
    log = file.with_name(f"samples_{table['task'][0]}_1.jsonl{'.gz' if packed else ''}")
    log.write_bytes(gzip.compress(lines.encode()) if packed else lines.encode())
    file.unlink()
    return log


def cut(file: Path, share: float) -> None:
    """Leave only the first bytes of a file."""
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
