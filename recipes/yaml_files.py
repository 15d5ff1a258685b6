"""Recipes, studies and worlds are YAML files that hold a mapping."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.names import find_repeated, name_unknown

ANY = "*"  # names that a user chooses


class _Loader(yaml.SafeLoader):
    """YAML's plain types; a mapping names everything once, since of a name that stands twice all but the last would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if repeated := find_repeated(names):
            raise yaml.constructor.ConstructorError(None, None, f"{repeated[0]!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(file: str | Path, called: str = "--config") -> dict[str, Any]:
    """The settings of a YAML file.

    Args:
        file: the file.
        called: how a message calls it.

    Raises:
        UserError: it cannot be read, or is no mapping.

    >>> read_yaml("recipes/miniworld/full.yaml")["model_name_or_path"]
    'recipes/miniworld/base'
    """
    try:
        with Path(file).open(encoding="utf-8") as stream:
            settings = yaml.load(stream, _Loader)
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{called} {file} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{called} {file} holds no settings (lines of `name: value`).")
    return settings


def refuse_unknown(settings: Mapping[str, Any], known: Mapping[str, Any], called: str) -> None:
    """Raise a `UserError` that names every setting which nothing looks up, with the nearest that something does.

    Args:
        settings: what a file holds.
        known: the names that are looked up, each with those below it, or None where it holds a value; a list of mappings has
            those of each of them; `ANY` stands for names that a user chooses.
        called: how the message calls it.

    >>> refuse_unknown({"uses": [{"train": 3}], "seed": 1}, {"uses": {"train": None}, "seed": None}, "the world")
    """
    if found := _find_unknown(settings, known, ""):
        raise UserError(f"{called} has settings that nothing looks up: {', '.join(found)}. Mend or leave them out.")


def _find_unknown(settings: Any, known: Mapping[str, Any] | None, path: str) -> list[str]:
    if known is None:
        return []
    if isinstance(settings, list):
        return [name for i, part in enumerate(settings) for name in _find_unknown(part, known, f"{path}{i}.")]
    if not isinstance(settings, dict):
        return []  # that it has another form is said where it is used
    found = [] if ANY in known else [f"{path}{name}".replace(f"{path}'", f"'{path}") for name in name_unknown(settings, known)]
    for name, value in settings.items():
        found += _find_unknown(value, known.get(name, known.get(ANY)), f"{path}{name}.")
    return found
