"""Files and folders that stand whole or not at all, and the hashes by which they are known again."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lm_eval_tasks.contracts.errors import UserError

MANIFEST = "manifest.json"  # by which a folder of this project is known
FIT = "fit.json"  # beside a trained model: how far it fitted its rows
ROWS_PER_GROUP = 100_000  # so that a long table can be read in parts
_TYPES = {pl.String: pa.string(), pl.Int64: pa.int64(), pl.Float64: pa.float64(), pl.Boolean: pa.bool_()}


@contextmanager
def write_folder(folder: str | Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `folder` when the block ends without an error, and vanishes otherwise.

    A folder that stands there is replaced only if it is empty or holds a manifest: what selfalign did not write is left alone.

    Args:
        folder: where the result is to stand; its parents are made.

    Raises:
        UserError: the folder cannot be written, or holds something else.
    """
    folder = Path(folder)
    if folder.is_dir() and not (folder / MANIFEST).is_file() and any(not p.name.startswith(".") for p in folder.iterdir()):
        raise UserError(f"{folder} holds files that no command of selfalign wrote ({MANIFEST} is missing). Name a new folder.")
    scratch = _make_scratch(folder)
    try:
        yield scratch
        scratch.chmod(0o755)  # mkdtemp makes it private
        if folder.exists():
            discard = _make_scratch(folder)
            folder.rename(discard / "old")
            scratch.rename(folder)
            shutil.rmtree(discard)
        else:
            scratch.rename(folder)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}. Check the space and the permissions.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _make_scratch(folder: Path) -> Path:
    if folder.is_file():
        raise UserError(f"{folder} is a file, but a folder is to be written there. Name another output.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise UserError(f"cannot write in {folder.parent}: {error.strerror}. Name an output that can be written.") from error


@contextmanager
def write_file(file: str | Path) -> Iterator[Path]:
    """Yield a path in the same folder whose file becomes `file` when the block ends without an error.

    Raises:
        UserError: the file cannot be written.
    """
    file = Path(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{file.stem}.", suffix=file.suffix, dir=file.parent)
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}. Name an output that can be written.") from error
    os.close(handle)
    scratch = Path(name)
    try:
        yield scratch
        scratch.chmod(0o644)
        scratch.replace(file)
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror or error}. Check the space and the permissions.") from error
    finally:
        scratch.unlink(missing_ok=True)


def hash_path(path: str | Path) -> str:
    """SHA-256 of a file's bytes, or of a folder's names and bytes (manifests left out), as 16 hexadecimal digits."""
    path = Path(path)
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and p.name != MANIFEST):
        digest.update(str(file.relative_to(path)).encode() + b"\0")
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def write_parquet(table: pl.DataFrame, file: Path) -> None:
    """Write a table as parquet: equal tables give equal bytes, and a full disk gives an `OSError` (not so in polars).

    Args:
        table: any; of text, whole numbers, numbers, truth values, lists and structs the types in the file are pinned.
        file: where; not atomic by itself (see `write_file`).
    """
    schema = pa.schema([(name, _find_type(kind)) for name, kind in table.schema.items()])
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for part in table.iter_slices(ROWS_PER_GROUP):
            writer.write_table(part.to_arrow().cast(schema))


def _find_type(kind: pl.DataType) -> pa.DataType:
    if isinstance(kind, pl.List):
        return pa.list_(_find_type(kind.inner))
    if isinstance(kind, pl.Struct):
        return pa.struct([(field.name, _find_type(field.dtype)) for field in kind.fields])
    return _TYPES.get(type(kind)) or pl.Series(dtype=kind).to_arrow().type
