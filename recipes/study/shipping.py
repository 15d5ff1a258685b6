"""What comes with this project and a study may name: recipes, launch configurations, worlds and the bases of some."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import recipes
from lm_eval_tasks.contracts.files import hash_path
from recipes.yaml_files import read_yaml

SHIPPED = ("base", "training", "accelerate", "world", "pretraining")  # settings that may name such a thing
ROOT = Path(recipes.__file__).resolve().parent.parent
WORLDS = ROOT / "recipes/miniworld/worlds"  # a folder a world, by its seed: the base that was pretrained in it


def find_shipped(path: str) -> str:
    """A path below this folder or, where there is none, below that of this project: a study runs in any folder."""
    return str(ROOT / path) if not Path(path).exists() and (ROOT / path).exists() else path


def ship(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose paths are found wherever a study runs."""
    return {**settings} | {name: find_shipped(settings[name]) for name in SHIPPED if name in settings}


def spread_worlds(settings: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each model once in each world of a study, with the questions, the texts and the base that the workflow makes of it.

    A base that comes with this project is taken, and not pretrained again, where it was pretrained as the study says.
    """
    for name, own in settings["models"].items():
        pretraining = {"pretraining": settings.get("pretraining")} | own
        for seed in settings["worlds"]:
            folder = f"{settings['output']}/worlds/{seed}"
            texts = {kind: f"{folder}/world/{kind}.jsonl" for kind in ("general", "contexts")}
            files = [find_shipped(file) for file in (pretraining["pretraining"], settings.get("world")) if file]
            base = find_base(seed, *files) if len(files) == 2 else None
            made = {"questions": f"{folder}/questions", "base": base or f"{folder}/{name}-{seed}"}
            yield f"{name}-{seed}", own | texts | made


def find_base(seed: int, pretraining: str, world: str) -> str | None:
    """The shipped base of a world, if it was pretrained by these two files as they are; else None."""
    record = WORLDS / str(seed) / "pretraining.json"
    if not record.exists() or not all(Path(file).exists() for file in (pretraining, world)):
        return None
    told = json.loads(record.read_text())
    trained_alike = told["config"] == read_yaml(pretraining) | {"seed": seed}
    return str(record.parent) if trained_alike and told["inputs"].get(Path(world).name) == hash_path(world) else None
