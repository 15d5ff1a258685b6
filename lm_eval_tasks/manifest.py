"""What every stage writes: atomic files and folders, and `manifest.json`, which says where an output came from.

Imports neither torch nor lm_eval, so that every stage can use it.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("selfalign", "lm-eval", "transformers", "trl", "peft", "accelerate", "datasets", "torch", "polars", "scipy")
MANIFEST = "manifest.json"


class UserError(Exception):
    """Something the user can mend. The message says what is wrong, where (file, row, value) and what to do."""


@contextmanager
def report_errors() -> Iterator[None]:
    """Turn a `UserError` into one line on stderr and exit status 2; anything else keeps its traceback."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


@contextmanager
def write_folder(folder: str | Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `folder` when the block ends without an error, and vanishes otherwise.

    A folder that stands there is replaced only if it is empty or holds a manifest: what selfalign did not write is left alone.

    Args:
        folder: where the result is to stand; its parents are made.

    Raises:
        UserError: the place cannot be written, or holds something else.
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
    """Yield a path in the same folder whose file takes the place of `file` when the block ends without an error.

    Raises:
        UserError: the place cannot be written.
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


def list_versions() -> dict[str, str]:
    """Versions of the packages that an output can depend on, of those that are installed."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def make_manifest(
    stage: str, command: list[str], config: Mapping[str, Any], inputs: Mapping[str, str], seeds: Mapping[str, int]
) -> dict[str, Any]:
    """A manifest with its `run` id: the hash of all that it says but the command line.

    Args:
        stage: what makes the folder (`build`, `train`, ...).
        command: the command line, without the interpreter.
        config: the resolved configuration; values that JSON knows.
        inputs: a name for each input, and its hash.
        seeds: every seed that is used.
    """
    facts = {"stage": stage, "config": dict(config), "inputs": dict(inputs), "versions": list_versions(), "seeds": dict(seeds)}
    run = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return {"run": run, "command": command} | facts


def write_manifest(folder: str | Path, *args: Any, **kwargs: Any) -> str:
    """Make a manifest (see `make_manifest`), write it into a run folder as `manifest.json`, and return the `run` id."""
    manifest = make_manifest(*args, **kwargs)
    with write_file(Path(folder) / MANIFEST) as file:
        file.write_text(json.dumps(manifest, indent=2) + "\n")
    return manifest["run"]


def read_manifest(folder: str | Path) -> dict[str, Any] | None:
    """The manifest of a run folder, or None where it has none.

    Raises:
        UserError: there is one, and it cannot be read.
    """
    file = Path(folder) / MANIFEST
    if not file.is_file():
        return None
    try:
        manifest = json.loads(file.read_text())
        if not {"run", "stage", "config"} <= manifest.keys():
            raise KeyError("run, stage or config")
    except (ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{file} is not a manifest of selfalign ({error!r}). Make the run again.") from error
    return manifest
