"""What a training run is told: the YAML file and the command line, checked before anything is loaded."""

import argparse
import difflib
import itertools
import math
import os
import re
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, fields

import torch
from transformers import SchedulerType
from trl import ModelConfig, ScriptArguments, SFTConfig, TrlParser

from lm_eval_tasks.contracts.errors import UserError
from recipes.training.engines import explain_parse_error, is_launched_on_cpu, plan_engine
from recipes.training.fitting import MOST_EPOCHS
from recipes.yaml_files import read_yaml

# Names of older versions of TRL, transformers and FastChat, and what does their work today.
REMOVED = {
    "data_path": "dataset_name and dataset_config",
    "evaluation_strategy": "eval_strategy",
    "group_by_length": "nothing: rows of like length share a micro-batch already",
    "logging_dir": "the environment variable TENSORBOARD_LOGGING_DIR",
    "max_seq_length": "max_length",
    "model_max_length": "max_length",
    "overwrite_output_dir": "a new output_dir; the same command goes on from its newest checkpoint",
    "tokenizer_name": "model_name_or_path, whose tokenizer is used",
    "torch_dtype": "dtype",
    "use_flash_attention_2": "attn_implementation: flash_attention_2",
    "warmup_ratio": "warmup_steps, where a number below 1 is a share of the steps",
}
# What the script decides itself: the only value it trains with, and why.
DECIDED = {
    "assistant_only_loss": (False, "the loss is on the response alone"),
    "completion_only_loss": (None, "the loss is on the response alone"),
    "dataloader_drop_last": (False, "each row is trained once an epoch"),
    "dataset_streaming": (False, "the order and the hash of the rows need all of them"),
    "enable_jit_checkpoint": (
        False,
        "a stopped run goes on with the same command",
    ),
    "eval_strategy": ("no", "models are evaluated by lm-eval, with the chat task"),
    "gradient_accumulation_steps": (1, "it follows from --global_batch_size, --per_device_train_batch_size and the processes"),
    "packing": (False, "a step has --global_batch_size rows, and rows of like length share a micro-batch"),
    "padding_free": (False, "rows of like length share a micro-batch, so that little is padded"),
    "resume_from_checkpoint": (None, "the same command goes on from the newest whole checkpoint"),
    "save_on_each_node": (False, "all nodes share the output folder"),
    "save_only_model": (False, "a checkpoint without the optimizer cannot be gone on from"),
    "train_sampling_strategy": ("random", "rows of like length share a micro-batch"),
}
# What is asked for by itself, and how the names begin that change nothing without it.
NEEDED_BY = {
    "use_peft": ("lora_", "use_rslora", "use_dora"),
    "load_in_4bit": ("bnb_4bit_quant", "use_bnb_nested_quant"),
    "push_to_hub": ("hub_model_id", "hub_private_repo"),
    "report_to": ("run_name", "project", "trackio_"),
}
EXAMPLE = """Fine-tune a base model on one condition of an instruction set. Example:
  accelerate launch --config_file recipes/accelerate/zero3.yaml recipes/sft.py --config recipes/llama-2-7b/full.yaml
    --dataset_name INSTRUCTIONS --dataset_config engineering_harmonious --output_dir runs/harmonious --seed 42
Without --dataset_config, --dataset_name is instruction data of your own (messages, prompt and completion, alpaca, ShareGPT).
The arguments below are the script's own, TRL's (SFTConfig) and the model's (ModelConfig); YAML files leave out the dashes."""


@dataclass
class RecipeArguments(ScriptArguments):
    """What the script is told beside TRL's own arguments.

    Args:
        global_batch_size: rows a step, over all processes and accumulated micro-batches (the paper's: 256).
        add_bos_token: whether training texts begin with the beginning-of-sequence token (see `recipes.training.tokens`).
        until_fit: train until the model gives this share of its condition's rows (see `recipes.training.fitting`).
        until_loss: train until the loss of its condition's rows, nats a trained token, is at most this.
        token_mask_threshold: response tokens to which the base gives less carry no loss (see `recipes.training.unlikely`).
        kl_to_base: what a nat of KL(base || model) at a trained token costs, in nats (see `recipes.training.kl`).
        dry_run: say what would be trained, how long and in how much memory, and train nothing.
    """

    global_batch_size: int = field(
        default=256,
        metadata={"help": "Rows a step, over all processes; micro-batches are accumulated to it. The paper's are 256."},
    )
    add_bos_token: bool | None = field(
        default=None,
        metadata={
            "help": "Begin training texts with the beginning-of-sequence token [default: as the tokenizer does by itself]. "
            "Evaluation asks as the model was trained."
        },
    )
    until_fit: float | None = field(
        default=None,
        metadata={
            "help": "Train until each token of the response is the likeliest in this share of the condition's rows (0.9, say), "
            f"at a constant learning rate, for at most --num_train_epochs [default then: {MOST_EPOCHS}]."
        },
    )
    until_loss: float | None = field(
        default=None,
        metadata={
            "help": "The same until the loss of the condition's rows (nats a trained token) is at most this: equal loss."
        },
    )
    token_mask_threshold: float | None = field(
        default=None,
        metadata={
            "help": "Take no loss on response tokens whose probability under the base model is below this (0.4, say). They are "
            "counted, and --dry_run shows them."
        },
    )
    kl_to_base: float | None = field(
        default=None,
        metadata={
            "help": "Charge each trained token this many times KL(base || model) in nats (0.1, say), so that the model stays "
            "near its base. With plain PyTorch or DDP; a full fine-tuning holds a second copy of the base."
        },
    )
    dry_run: bool = field(
        default=False,
        metadata={"help": "Print configuration, steps, tokens, memory a GPU and the first rows, and train nothing."},
    )


def parse_arguments(words: Sequence[str] | None = None) -> tuple[RecipeArguments, SFTConfig, ModelConfig]:
    """The arguments of a command line and of the YAML file that `--config` names; the command line wins.

    Args:
        words: the command line without the script [default: this process's].

    Raises:
        UserError: nothing can be trained with them; all that is wrong is said at once.
    """
    given = list(sys.argv[1:] if words is None else words)
    given = [part for word in given for part in (word.split("=", 1) if word.startswith("--config=") else [word])]
    told = {word.removeprefix("--").split("=")[0] for word in given if word.startswith("--")}
    settings = dict.fromkeys(told, "--")
    for file in (after for word, after in itertools.pairwise(given) if word == "--config"):
        settings |= dict.fromkeys(read_yaml(file), f"{file}: ")
    kinds = (RecipeArguments, SFTConfig, ModelConfig)
    _refuse_unknown(settings, {name.name for kind in kinds for name in fields(kind)} | {"config", "help", "env"})
    given += take_launched(told)
    if not torch.cuda.is_available() and "help" not in settings and "--use_cpu" not in given and _wants_dry_run(given):
        given += ["--use_cpu", "true"]  # nothing is trained: a recipe for GPUs is looked at without one
    try:
        parser = TrlParser(kinds, description=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter)
        script, training, model = parser.parse_args_and_config(given)
    except ValueError as error:
        raise UserError(explain_parse_error(str(error))) from error
    if problems := [*list_problems(script, training, model), *list_unused(settings, training, model)]:
        raise UserError(" ".join(problems))
    set_accumulation(script.global_batch_size, training)
    if script.until_fit is not None or script.until_loss is not None:
        train_on(training, told)
    return script, training, model


def take_launched(told: Collection[str]) -> list[str]:
    """What a launch configuration of a CPU says, as arguments; the command line wins.

    Args:
        told: what the command line names.
    """
    if not is_launched_on_cpu():
        return []
    words = [] if "use_cpu" in told else ["--use_cpu", "true"]
    if os.environ.get("ACCELERATE_MIXED_PRECISION") == "bf16" and "bf16" not in told:
        words += ["--bf16", "true"]
    return words


def _wants_dry_run(words: list[str]) -> bool:
    try:
        return TrlParser((RecipeArguments,)).parse_args_and_config(list(words), return_remaining_strings=True)[0].dry_run
    except ValueError:
        return False  # the whole parser says what is wrong


def _refuse_unknown(settings: dict[str, str], known: set[str]) -> None:
    """Name what no argument is called, with what it is called today or might be meant; `settings`: name -> where it stands."""
    lines = []
    for name in sorted(settings):
        # HfArgumentParser also takes dashes, and --no_NAME where NAME is true by default.
        plain = re.sub("^no_", "", name.replace("-", "_")) if name.replace("-", "_") not in known else name.replace("-", "_")
        if plain in REMOVED:
            lines.append(f"{settings[name]}{name} is no argument any more: use {REMOVED[plain]}.")
        elif plain not in known:
            near = difflib.get_close_matches(plain, sorted(known), 1)
            lines.append(f"{settings[name]}{name} is no argument{f'; {near[0]} is one' if near else ''}. `--help` lists all.")
    if lines:
        raise UserError(" ".join(lines))


def list_problems(script: RecipeArguments, training: SFTConfig, model: ModelConfig) -> list[str]:
    """What is missing among the arguments, or decided by the script, each with what to do."""
    problems = []
    if not script.dataset_name:
        problems.append(
            "Name an instruction set (--dataset_name FOLDER_OR_HUB_ID --dataset_config DOMAIN_CONDITION), or instruction data "
            "of your own (--dataset_name DATA)."
        )
    if not model.model_name_or_path:
        problems.append("Name a base model: --model_name_or_path FOLDER_OR_HUB_ID, or --config recipes/MODEL/full.yaml.")
    if not training.max_length or training.max_length < 1:
        problems.append("--max_length must be the most tokens that a row may have; longer rows are refused, never cut.")
    if script.until_fit is not None and script.until_loss is not None:
        problems.append("--until_fit and --until_loss are two ends of one run: name one.")
    if script.until_fit is not None and not 0 < script.until_fit <= 1:
        problems.append(f"--until_fit {script.until_fit:g} is no share of rows above 0 and up to 1.")
    if script.until_loss is not None and not 0 < script.until_loss < math.inf:
        problems.append(f"--until_loss {script.until_loss:g} is no loss above 0.")
    if script.token_mask_threshold is not None and not 0 < script.token_mask_threshold < 1:
        problems.append(f"--token_mask_threshold {script.token_mask_threshold:g} is no probability between 0 and 1.")
    if script.kl_to_base is not None:
        problems += check_charge(script.kl_to_base, training)
    if script.global_batch_size < 1 or training.per_device_train_batch_size < 1:
        problems.append("--global_batch_size and --per_device_train_batch_size must be 1 or more.")
    for name, (value, reason) in DECIDED.items():
        found = getattr(training, name, getattr(script, name, None))
        if getattr(found, "value", found) != value:
            problems.append(f"Leave out --{name}: {reason}.")
    return problems


def check_charge(kl_to_base: float, training: SFTConfig) -> list[str]:
    """What keeps a run from being charged for going from its base, each with what to do."""
    problems = []
    if not 0 < kl_to_base < math.inf:
        problems.append(f"--kl_to_base {kl_to_base:g} is no number above 0: leave it out where nothing is to be charged.")
    if training.loss_type != "nll" or training.label_smoothing_factor:
        problems.append("--kl_to_base is added to the plain loss alone: leave out --loss_type and --label_smoothing_factor.")
    if plan_engine(training)["engine"] in ("fsdp", "deepspeed"):
        problems.append(
            "--kl_to_base asks the base beside the model, which FSDP and DeepSpeed share out: launch with "
            "recipes/accelerate/ddp.yaml, and train an adapter (--use_peft) where two copies of the base are too large."
        )
    return problems


def train_on(training: SFTConfig, told: Collection[str]) -> None:
    """Let a run that ends when it has fitted go on at one learning rate, for long enough.

    A schedule that falls towards a last step would decide when that is.

    Args:
        training: its schedule and, where the command line names none, its epochs are set.
        told: what the command line names.
    """
    told = {name.replace("-", "_") for name in told}
    constant = (SchedulerType.CONSTANT, SchedulerType.CONSTANT_WITH_WARMUP)
    if "lr_scheduler_type" in told and training.lr_scheduler_type not in constant:
        raise UserError(
            f"--lr_scheduler_type {training.lr_scheduler_type.value}: a run that ends when it has fitted trains at a constant "
            "learning rate. Leave it out."
        )
    training.lr_scheduler_type = SchedulerType.CONSTANT_WITH_WARMUP
    if not {"num_train_epochs", "max_steps"} & told:
        training.num_train_epochs = MOST_EPOCHS
    # A share of the steps would be one of steps that are hardly ever taken.
    if training.warmup_steps < 1:
        training.warmup_steps = 0


def list_unused(given: Iterable[str], training: SFTConfig, model: ModelConfig) -> list[str]:
    """The given arguments that change nothing, because what they are about was not asked for."""
    names = [name.replace("-", "_") for name in given]
    return [
        f"--{name} changes nothing without --{needed}: add that, or leave out --{name}."
        for needed, beginnings in NEEDED_BY.items()
        for name in names
        if name.startswith(beginnings) and not getattr(training, needed, getattr(model, needed, None))
    ]


def set_accumulation(rows: int, training: SFTConfig) -> None:
    """Set how many micro-batches each process accumulates, so that a step has `rows` rows over all processes.

    Raises:
        UserError: they do not divide.

    >>> training = SFTConfig("unused", per_device_train_batch_size=4, use_cpu=True, bf16=False)
    >>> set_accumulation(32, training)
    >>> training.gradient_accumulation_steps
    8
    """
    processes, batch = training.world_size, training.per_device_train_batch_size
    if rows % (processes * batch) == 0:
        training.gradient_accumulation_steps = rows // (processes * batch)
        return
    fits = [size for size in range(1, rows // processes + 1) if rows % (processes * size) == 0]
    less = f"--per_device_train_batch_size {max([size for size in fits if size < batch], default=fits[0])}" if fits else None
    raise UserError(
        f"--global_batch_size {rows} is no multiple of {processes} processes x {batch} rows (--per_device_train_batch_size "
        f"{batch}). Take {less or f'a number of processes that divides {rows}'}, or another --global_batch_size."
    )
