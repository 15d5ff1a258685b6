"""`manifest.json`: where an output came from, and the `run` id by which logs name it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import MANIFEST, hash_path, write_file
from lm_eval_tasks.contracts.public import make_public

PACKAGES = ("selfalign", "lm-eval", "transformers", "trl", "peft", "accelerate", "datasets", "torch", "polars", "scipy")


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
        command: the command line, without the interpreter; the secrets in it are not recorded.
        config: the resolved configuration; values that JSON knows.
        inputs: a name for each input, and its hash.
        seeds: every seed that is used.
    """
    told = {"stage": stage, "config": dict(config), "inputs": dict(inputs), "versions": list_versions(), "seeds": dict(seeds)}
    return {"run": hash_run(told), "command": make_public(command, keep_paths=True)} | told


def hash_run(manifest: Mapping[str, Any]) -> str:
    """The `run` id: 16 hexadecimal digits of the SHA-256 of all that a manifest says but the command line."""
    told = {name: manifest.get(name) for name in ("stage", "config", "inputs", "versions", "seeds")}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


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


def hash_inputs(**paths: str | Path | Sequence[str | Path] | None) -> dict[str, str]:
    """A manifest's `inputs`: the hash of each input that was given, under its name (numbered where there are several)."""
    hashes = {}
    for name, value in paths.items():
        several = [value] if isinstance(value, (str, Path)) else list(value or ())
        hashes |= {f"{name}-{i}" if len(several) > 1 else name: hash_path(path) for i, path in enumerate(several, 1)}
    return hashes
