"""What a training run is told: the YAML file and the command line, checked before anything is loaded."""

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from trl import ModelConfig, ScriptArguments, SFTConfig, TrlParser

from lm_eval_tasks.manifest import UserError

# Names of older TRL and transformers, and what does their work today.
REMOVED = {
    "warmup_ratio": "warmup_steps (a number below 1 is a share of the steps)",
    "max_seq_length": "max_length",
    "evaluation_strategy": "eval_strategy",
    "logging_dir": "the environment variable TENSORBOARD_LOGGING_DIR",
    "overwrite_output_dir": "nothing: name a new --output_dir; the same command goes on from its newest checkpoint",
    "group_by_length": "nothing: batches are made of rows of like length already",
    "tokenizer_name": "model_name_or_path, whose tokenizer is used",
    "torch_dtype": "dtype",
    "use_flash_attention_2": "attn_implementation: flash_attention_2",
    "data_path": "dataset_name and dataset_config",
    "model_max_length": "max_length",
}
# What this script decides itself, and why a user need not.
DECIDED = {
    "gradient_accumulation_steps": (1, "it follows from --global_batch_size, the processes and --per_device_train_batch_size"),
    "packing": (False, "a step has --global_batch_size rows, and rows of like length are batched, so little is padded"),
    "padding_free": (False, "rows of like length are batched, so little is padded"),
    "completion_only_loss": (None, "the loss is on the response alone"),
    "assistant_only_loss": (False, "the loss is on the response alone"),
    "eval_strategy": ("no", "models are asked by `lm_eval --tasks selfalign_chat`"),
    "resume_from_checkpoint": (None, "the same command goes on from the newest whole checkpoint"),
    "dataset_streaming": (False, "the rows' order and hash need all of them"),
}


@dataclass
class RecipeArguments(ScriptArguments):
    """What the script knows beside TRL's own arguments.

    Args:
        global_batch_size: rows a step, over all processes and accumulated micro-batches (the paper's: 256).
        dry_run: say what would be trained, how long and in how much memory, and train nothing.
    """

    global_batch_size: int = field(
        default=256,
        metadata={"help": "Rows a step, over all processes; micro-batches are accumulated to it. The paper's are 256."},
    )
    dry_run: bool = field(
        default=False,
        metadata={"help": "Print the configuration, steps, tokens, memory a GPU and the first rows, and train nothing."},
    )


def parse_arguments(words: Sequence[str] | None = None) -> tuple[RecipeArguments, SFTConfig, ModelConfig]:
    """The arguments of a command line and of the YAML file that `--config` names.

    Args:
        words: the command line, without the script [default: this process's].

    Raises:
        UserError: they are none that can be trained with; all that is wrong is said at once.
    """
    words = list(sys.argv[1:] if words is None else words)
    _refuse_removed(words)
    try:
        script, training, model = TrlParser((RecipeArguments, SFTConfig, ModelConfig)).parse_args_and_config(words)
    except ValueError as error:
        raise UserError(f"{' '.join(str(error).split())}") from error
    problems = [
        f"--{name} {value}: leave it out; {reason}."
        for name, (default, reason) in DECIDED.items()
        if (value := getattr(training, name, getattr(script, name, None))) != default
    ]
    if not script.dataset_name or not script.dataset_config:
        problems.append("name an instruction set: --dataset_name FOLDER_OR_HUB_ID --dataset_config DOMAIN_CONDITION.")
    if not model.model_name_or_path:
        problems.append("name a base model: --model_name_or_path FOLDER_OR_HUB_ID, or --config recipes/MODEL/full.yaml.")
    if not training.max_length:
        problems.append("--max_length is needed: the most tokens of a row; longer rows are refused.")
    if problems:
        raise UserError(" ".join(problems))
    set_accumulation(script.global_batch_size, training)
    return script, training, model


def _refuse_removed(words: Sequence[str]) -> None:
    given = {word.removeprefix("--").split("=")[0]: "" for word in words if word.startswith("--")}
    for file in (after for word, after in itertools.pairwise(words) if word == "--config"):
        given |= dict.fromkeys(_read_yaml(file), f"{file}: ")
    if found := sorted(set(given) & set(REMOVED)):
        raise UserError(" ".join(f"{given[name]}{name} is no argument any more; use {REMOVED[name]}." for name in found))


def _read_yaml(file: str) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(Path(file).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"--config {file} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise UserError(f"--config {file} holds no settings (name: value).")
    return settings


def set_accumulation(rows: int, training: SFTConfig) -> None:
    """Set how many micro-batches each process accumulates, so that a step has `rows` rows over all processes.

    Raises:
        UserError: they do not divide.
    """
    processes, batch = training.world_size, training.per_device_train_batch_size
    if rows % (processes * batch):
        fits = [size for size in range(1, rows // processes + 1) if rows % (processes * size) == 0]
        help_ = (
            f"--per_device_train_batch_size {max(s for s in fits if s <= max(batch, fits[0]))}" if fits else "fewer processes"
        )
        raise UserError(
            f"--global_batch_size {rows} is no multiple of {processes} processes x {batch} rows "
            f"(--per_device_train_batch_size {batch}). Take {help_}, or another --global_batch_size."
        )
    training.gradient_accumulation_steps = rows // (processes * batch)
