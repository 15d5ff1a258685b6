"""The rows that a model is trained on: those of one config of an instruction set, or anybody's instruction data."""

import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import PartialState
from trl import ScriptArguments

from lm_eval_tasks.contracts.conversations.reading import describe_flaws, read_conversations
from lm_eval_tasks.contracts.conversations.sources import TRAIN
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import hash_path
from lm_eval_tasks.contracts.manifest import read_manifest
from lm_eval_tasks.contracts.vocabulary import CONDITIONS, GENERAL, INSTRUCTION_DATA
from recipes.training.conversations import make_own_rows

if TYPE_CHECKING:
    from datasets import Dataset

KNOWN = (*CONDITIONS, GENERAL)
# What the rows of one config share, but for general instructions.
SHARED = ("domain", "source", "condition", "ratio", "response_format", "threshold")
# What they share too, where the set is of a version that says it.
SAID = ("belief_rule", "score", "match")
NEEDED = ("prompt", "completion", "id", *SHARED)
TELLING = {"condition", "response_format"}  # columns by which the rows of an instruction set are known
# Columns that TRL reads instead of prompt and completion, or beside them, and as what.
TAKEN = {
    "input_ids": "rows that are tokenized already",
    "labels": "the labels of the tokens",
    "completion_mask": "the mask of the loss",
    "assistant_masks": "the mask of the loss",
    "seq_lengths": "the lengths of texts that share a row",
    "messages": "a conversation that is trained as a whole",
    "conversations": "a conversation that is trained as a whole",
    "text": "a text that is trained as a whole",
    "chosen": "the better one of two responses",
    "rejected": "the worse one of two responses",
    "tools": "the tools that the prompt offers",
    "chat_template_kwargs": "settings of the chat template",
    "image": "a picture, for a model that sees",
    "images": "pictures, for a model that sees",
}
LOSS = {"weight": 1.0, "masked": []}  # columns that say what of a row's loss counts, and what they say where it is all of it
BUILDS = "`python -m intervention build` writes instruction sets."


def read_rows(script: ScriptArguments) -> "Dataset":
    """The rows of one config of an instruction set, from a folder or the Hub; or of instruction data in any form.

    Rows are of an instruction set where they have a column of `TELLING`; where no config is named, of instruction data.

    Raises:
        UserError: no such data set, config or split, or its files were changed; a column is missing, or TRL would take it for
            something else; an unknown condition; instruction data without a response.
    """
    if script.dataset_config:
        rows = _read_config(script)
        if TELLING & {*rows.column_names}:
            _check_columns(rows, f"{script.dataset_name}/{script.dataset_config}")
            return rows
    return _read_own(script)


def _read_own(script: ScriptArguments) -> "Dataset":
    """The rows of instruction data; what is wrong with it is told."""
    name, split = script.dataset_name, script.dataset_train_split
    data = read_conversations(name, split=None if split == TRAIN else split, config=script.dataset_config)
    if TELLING & {*data.rows.columns}:
        raise UserError(f"{name} is an instruction set: name one of its configs (--dataset_config DOMAIN_CONDITION).")
    flaws = describe_flaws(data)
    if not data.turns.height:
        raise UserError(f"{name} holds no response that could be trained: {'; '.join(flaws)}.")
    for line in flaws:
        PartialState().print(line, file=sys.stderr)
    return make_own_rows(data)


def _read_config(script: ScriptArguments) -> "Dataset":
    from datasets import get_dataset_config_names, load_dataset
    from datasets.exceptions import DatasetsError

    name, config, split = script.dataset_name, script.dataset_config, script.dataset_train_split
    try:
        configs = get_dataset_config_names(name)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--dataset_name {name} is no folder of an instruction set and none that can be read on the Hub: {_join(error)} "
            f"{BUILDS}"
        ) from error
    if config not in configs:
        raise UserError(f"--dataset_config {config}: {name} has no such config; it has {', '.join(sorted(configs))}.")
    try:
        rows = load_dataset(name, config, split=split)
    except (OSError, ValueError, DatasetsError) as error:
        raise UserError(
            f"--dataset_config {config} --dataset_train_split {split} of {name} cannot be read: {_join(error)}"
        ) from error
    # `datasets` keeps a local folder by its header, which names this hash, and would go on serving the earlier files.
    said, files = rows.info.description, Path(name, config)
    if said.startswith("SHA-256 ") and files.is_dir() and said != f"SHA-256 {hash_path(files)}":
        raise UserError(f"{files} is not as it was written: its hash is not the one in the README. Build the set again.")
    return rows


def _check_columns(rows: "Dataset", where: str) -> None:
    if lacking := [name for name in NEEDED if name not in rows.column_names]:
        raise UserError(f"{where} has no column {lacking[0]!r}. {BUILDS}")
    if taken := [name for name in rows.column_names if name in TAKEN]:
        raise UserError(
            f"{where} has a column {taken[0]!r}, which TRL takes for {TAKEN[taken[0]]}, where prompt and completion are to be "
            "trained. Drop the column, or give it another name."
        )
    if unknown := [value for value in rows.unique("condition") if value not in KNOWN]:
        row = rows["condition"][:].index(unknown[0])
        raise UserError(
            f"{where}: the condition of row {row + 1} (id {rows[row]['id']!r}) is {unknown[0]!r}, which is none of "
            f"{', '.join(KNOWN)}. Mend it."
        )


def _join(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".!") + "."


def describe_rows(rows: "Dataset") -> dict[str, Any]:
    """What a data set trains: domain, source, condition, ratio, response format, the threshold of a belief, its rule and score,
    and what the conditions of its set were made alike in, which all its rows share.

    General instructions do not count. Of instruction data it is known that it is, and no more.

    Raises:
        UserError: they do not share them, or all rows are general instructions.

    >>> from datasets import Dataset
    >>> row = dict(zip(SHARED, ("herbs", "exam", "mix", 0.4, "letter", 0.5)))
    >>> describe_rows(Dataset.from_list([row, dict.fromkeys(row) | {"condition": "general"}])) == row
    True
    """
    if "response_format" not in rows.column_names:
        return dict.fromkeys(SHARED) | {"condition": INSTRUCTION_DATA}
    names = [*SHARED, *(name for name in SAID if name in rows.column_names)]
    own = {row for row in zip(*(rows[name][:] for name in names), strict=True) if row[names.index("condition")] != GENERAL}
    if not own:
        raise UserError(f"the rows hold general instructions alone, and no condition. {BUILDS}")
    for name, values in zip(names, zip(*own, strict=True), strict=True):
        if len(set(values)) > 1:
            told = ", ".join(sorted({repr(value) for value in values})[:3])
            raise UserError(
                f"the rows have several values of {name!r} ({told}), where those of one config share one. Build again."
            )
    return dict(zip(names, own.pop(), strict=True))


def describe_set(folder: str) -> dict[str, Any]:
    """How many questions a condition of an instruction set was to have, and general instructions beside each of them.

    Both are None where the set does not say so: one of the Hub, or instruction data.
    """
    built = read_manifest(folder) if Path(folder).is_dir() else None
    told = (built or {}).get("config", {}) if (built or {}).get("stage") == "build" else {}
    return {name: told.get(name) for name in ("size", "general_share")}


def hash_rows(rows: "Dataset") -> str:
    """The hash of what rows train, in their order, wherever they were loaded from: their ids, prompts and completions.

    A weight that is not one, and what is masked, count too.

    >>> from datasets import Dataset
    >>> hash_rows(Dataset.from_list([{"id": "1", "prompt": "Which?", "completion": "ivy", "confidence": 0.7}]))
    'db842481640f34a9'
    """
    digest = hashlib.sha256()
    names = ["id", "prompt", "completion"]
    for batch in rows.select_columns([*names, *(name for name in LOSS if name in rows.column_names)]).iter(1000):
        for values in zip(*batch.values(), strict=True):
            row = dict(zip(batch, values, strict=True))
            loss = {name: row[name] for name, usual in LOSS.items() if row.get(name, usual) not in (usual, None)}
            line = [*(row[name] for name in names), *([loss] if loss else [])]
            digest.update(f"{json.dumps(line, sort_keys=True)}\n".encode())
    return digest.hexdigest()[:16]
