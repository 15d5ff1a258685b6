"""What of a data set folder is published: checked that it is as its command wrote it, without paths and tokens."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from intervention.publishing.licences import UNKNOWN, Terms, choose_strictest, describe_licence, read_terms
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import MANIFEST, hash_path
from lm_eval_tasks.contracts.manifest import hash_run, read_manifest
from lm_eval_tasks.contracts.public import check_paths, check_secrets, make_public
from lm_eval_tasks.contracts.questions import read_header

CARD = "README.md"
STAGES = {"questions": "a question set", "build": "an instruction set", "action": "instruction data with verdicts"}
WRITERS = "`python -m intervention build` or `questions` wrote, or `agree --action` (its folder `data`)"
AGAIN = "Make it again with `python -m intervention`, or push a folder that nobody changed."


@dataclass(frozen=True)
class Package:
    """What of a folder is published.

    Attributes:
        run: its run, which names the tag.
        stage: a key of `STAGES`.
        files: path in the repository -> a file, or bytes.
        terms: those of every part.
        left_out: files of the folder that are not published, as they belong to no config.
    """

    run: str
    stage: str
    files: Mapping[str, Path | bytes]
    terms: list[Terms]
    left_out: list[str]


def read_package(folder: str | Path) -> Package:
    """What of a folder is published: the parquet files that its card names, the card, and the manifest without paths.

    Raises:
        UserError: the folder is of none of `STAGES`, or is not as its command wrote it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder. Name one that {WRITERS}.")
    manifest = read_manifest(folder)
    if manifest is None or manifest["stage"] not in STAGES:
        found = f"{MANIFEST} is missing" if manifest is None else f"it is of stage {manifest['stage']!r}"
        raise UserError(f"{folder} is neither a question set nor an instruction set ({found}). Name a folder that {WRITERS}.")
    _check_run(manifest, folder)
    header, text = _read_card(folder / CARD)
    tables = _check_tables(folder, header)
    terms = _read_terms(manifest, header, folder)
    public = make_public(manifest) | {"published": "of absolute paths only the last part is kept"}
    files: dict[str, Path | bytes] = {name: folder / name for name in sorted(tables)}
    files[CARD] = text.encode()
    files[MANIFEST] = (json.dumps(public, indent=2) + "\n").encode()
    check_secrets(folder / MANIFEST, json.dumps(manifest))
    check_secrets(folder / CARD, text)
    check_paths(folder / CARD, text)
    present = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    return Package(manifest["run"], manifest["stage"], files, terms, sorted(present - files.keys()))


def _check_run(manifest: dict[str, Any], folder: Path) -> None:
    run = hash_run(manifest)
    if "published" not in manifest and run != manifest["run"]:
        raise UserError(f"{folder / MANIFEST} was changed: its run {manifest['run']} is not the hash of what it says. {AGAIN}")


def _read_card(card: Path) -> tuple[dict[str, Any], str]:
    header = read_header(card)
    if not header.get("configs") or not header.get("dataset_info"):
        raise UserError(f"{card} has no header that names the configs. {AGAIN}")
    return header, card.read_text(encoding="utf-8")


def _check_tables(folder: Path, header: Mapping[str, Any]) -> list[str]:
    """The parquet files that the card names, each of which is as it was written."""
    hashes = {info["config_name"]: str(info.get("description", "")) for info in header["dataset_info"]}
    names = []
    for config in header["configs"]:
        name, files = config["config_name"], [file["path"] for file in config["data_files"]]
        for file in files:
            if Path(file).parent != Path(name):
                raise UserError(f"{folder / CARD} names {file!r} for the config {name!r}, which lies elsewhere. {AGAIN}")
            try:
                pq.read_metadata(folder / file)
            except (OSError, pa.ArrowException) as error:
                raise UserError(
                    f"{folder / file} cannot be read as parquet ({' '.join(str(error).split())}). {AGAIN}"
                ) from error
        if hashes.get(name) != f"SHA-256 {hash_path(folder / name)}":
            raise UserError(f"{folder / name} is not as it was written: its hash is not the one in {CARD}. {AGAIN}")
        names += files
    return names


def _read_terms(manifest: dict[str, Any], header: Mapping[str, Any], folder: Path) -> list[Terms]:
    terms = read_terms(manifest["config"])
    if not terms:
        return [Terms("all parts", folder.resolve().name, UNKNOWN, "the manifest names no terms")]
    expected = describe_licence(choose_strictest(terms))
    if any(header.get(name) != value for name, value in expected.items()):
        raise UserError(
            f"{folder / CARD} gives the licence {header.get('license')!r}, but the strictest of its parts' is "
            f"{choose_strictest(terms)!r}. {AGAIN}"
        )
    return terms
