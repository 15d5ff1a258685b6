"""Recipes, studies and worlds are YAML files that hold a mapping."""

from pathlib import Path
from typing import Any

import yaml

from lm_eval_tasks.contracts.errors import UserError


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
        settings = yaml.safe_load(Path(file).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{called} {file} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{called} {file} holds no settings (lines of `name: value`).")
    return settings
