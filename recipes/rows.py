"""The rows of one config of an instruction set, which a model is trained on."""

import hashlib
import json
from typing import TYPE_CHECKING, Any

from trl import ScriptArguments

from lm_eval_tasks.manifest import UserError

if TYPE_CHECKING:
    from datasets import Dataset


def read_rows(script: ScriptArguments) -> "Dataset":
    """The rows of one config of an instruction set, from a folder or the Hub.

    Raises:
        UserError: no such data set or config, or its columns are not those of an instruction set.
    """
    from datasets import load_dataset

    try:
        rows = load_dataset(script.dataset_name, script.dataset_config, split=script.dataset_train_split)
    except (OSError, ValueError) as error:
        raise UserError(f"--dataset_name {script.dataset_name} --dataset_config {script.dataset_config}: {error}") from error
    lacking = {"prompt", "completion", "domain", "source", "condition", "ratio", "response_format"} - set(rows.column_names)
    if lacking or not len(rows):
        flaw = f"has no column {min(lacking)!r}" if lacking else "is empty"
        raise UserError(
            f"{script.dataset_name}/{script.dataset_config} {flaw}. `python -m intervention build` writes these sets."
        )
    return rows


def describe_rows(rows: "Dataset") -> dict[str, Any]:
    """What a data set trains: domain, source, condition, ratio and response format, which all its rows share."""
    own = rows.filter(lambda condition: condition != "general", input_columns="condition")
    facts = {}
    for name in ("domain", "source", "condition", "ratio", "response_format"):
        values = own.unique(name)
        if len(values) != 1:
            raise UserError(
                f"the rows hold {len(values)} values of {name!r} ({values[:3]}), where one config has one. Build again."
            )
        facts[name] = values[0]
    return facts


def hash_rows(rows: "Dataset") -> str:
    """The hash of a data set's rows, wherever they were loaded from."""
    return hashlib.sha256(json.dumps(rows.to_list()).encode()).hexdigest()[:16]
