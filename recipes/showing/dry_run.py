"""What a run would train, how long and in how much memory: everything that is known before a model is trained."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from trl import ModelConfig, SFTConfig

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE
from lm_eval_tasks.contracts.vocabulary import INSTRUCTION_DATA
from recipes.memory import ENGINES, estimate_memory, find_config, measure_model, show_estimate, show_gib
from recipes.showing.display import print_sections, show_line
from recipes.training.arguments import RecipeArguments
from recipes.training.bases import tell_replaced
from recipes.training.engines import is_launched_on_cpu, tell_cpu
from recipes.training.fitting import tell_until
from recipes.training.row_weights import tell_weights, weigh_rows
from recipes.training.rows import describe_rows, read_rows
from recipes.training.tokens import IGNORED, load_tokenizer, prepare_rows
from recipes.training.unlikely import mask_unlikely

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

PAPER_LENGTH = 2048  # tokens to which the paper's script pads every row
PROCESSES = (1, 2, 4, 8, 16, 32, 64)
GPUS = 8  # of the machine for which all engines are compared
QUESTIONS = 2  # that are shown


def plan(script: RecipeArguments, training: SFTConfig, model: ModelConfig, problems: Sequence[str] = ()) -> None:
    """Read and tokenize the rows, and print what a run would train; all processes call it, the first prints.

    The base is read where it decides what carries a loss (`--token_mask_threshold`), and not otherwise.

    Args:
        script: what is trained on.
        training: the hyper-parameters.
        model: the base model and its method.
        problems: what keeps the launched engine from it; printed, since another machine may train.

    Raises:
        UserError: what cannot be trained anywhere: the data set, a row, the base model.
    """
    rows = read_rows(script)
    tokenizer = prepared = replaced = None
    counts: dict[str, int] = {}
    # The tokenizer of a gated model may be out of reach; the rest is told all the same.
    with contextlib.suppress(UserError):
        tokenizer = load_tokenizer(model.model_name_or_path, model.model_revision)
    if tokenizer:
        template = Path(training.chat_template_path or CHAT_TEMPLATE).read_text()
        replaced = tell_replaced(tokenizer, template)
        tokenizer.chat_template = template
        if script.token_mask_threshold is not None:
            rows = mask_unlikely(tokenizer, rows, training, model, script.token_mask_threshold, script.add_bos_token)
        prepared = prepare_rows(tokenizer, rows, training.max_length, script.add_bos_token)
        rows, prepared, counts = weigh_rows(rows, prepared, training)
    if training.process_index == 0:
        for problem in problems:
            print(f"This launch would be refused: {problem}")
        if replaced:
            print(replaced)
        if line := tell_weights(counts, len(rows)):
            print(line)
        describe(script, training, model, rows, prepared, tokenizer)


def describe(
    script: RecipeArguments,
    training: SFTConfig,
    model: ModelConfig,
    rows: "Dataset",
    prepared: "Dataset | None",
    tokenizer: "PreTrainedTokenizerBase | None",
) -> None:
    """Print what a run would train; nothing is trained or written.

    Args:
        script: what is trained on.
        training: the hyper-parameters, with the accumulation of the launched processes.
        model: the base model and its method.
        rows: of the instruction set.
        prepared: the same rows as `input_ids` and `labels`; None where the tokenizer cannot be had.
        tokenizer: the base model's, with the chat template of training; None where it cannot be had.
    """
    console = Console(highlight=False)
    lengths = None if prepared is None else [len(ids) for ids in prepared["input_ids"]]
    _print_settings(console, "Configuration", list_settings(script, training, model))
    _print_settings(console, "Work", count_work(script, training, rows, prepared))
    _print_memory(console, training, model, max(lengths or [training.max_length]))
    if tokenizer is None:
        console.print(f"{model.model_name_or_path}: its tokenizer is needed to count tokens and to show rows.", markup=False)
    else:
        _print_rows(console, script, rows, tokenizer, max([training.max_length or 0, *lengths]))
    console.print("Dry run: nothing was trained or written.")


def list_settings(script: RecipeArguments, training: SFTConfig, model: ModelConfig) -> dict[str, Any]:
    """The settings that decide what is trained, as they were resolved from the recipe and the command line."""
    method = "QLoRA" if model.load_in_4bit else "LoRA" if model.use_peft else "full fine-tuning"
    if model.use_peft:
        target = model.lora_target_modules or "PEFT's own choice of"
        target = target if isinstance(target, str) else ", ".join(target)
        method += f": r {model.lora_r}, alpha {model.lora_alpha}, dropout {model.lora_dropout:g}, {target} layers"
    processes, batch = training.world_size, training.per_device_train_batch_size
    accumulated = training.gradient_accumulation_steps
    size = script.global_batch_size
    others = [f"{n} x {batch} x {size // (n * batch)}" for n in PROCESSES if n != processes and size % (n * batch) == 0]
    return {
        "data set": ", ".join(filter(None, (script.dataset_name, script.dataset_config, script.dataset_train_split))),
        "base model": f"{model.model_name_or_path}, revision {model.model_revision}",
        "method": method,
        "precision": f"weights {model.dtype}, arithmetic {'bf16' if training.bf16 else 'fp16' if training.fp16 else 'fp32'}",
        "engine": f"{name_engine(training)}, {processes} {_plural('process', processes)}",
        "rows a step": f"{script.global_batch_size} = {processes} x {batch} x {accumulated} "
        "(processes x micro-batch x accumulated)",
        "on other processes": ", ".join(others) or f"none divides: take another --per_device_train_batch_size than {batch}",
        "learning rate": f"{training.learning_rate:g}, {training.lr_scheduler_type.value}, {training.optim.value}, "
        f"weight decay {training.weight_decay:g}, gradients clipped at {training.max_grad_norm:g}",
        "loss": tell_loss(script),
        "epochs": (f"{training.num_train_epochs:g}" if training.max_steps <= 0 else f"--max_steps {training.max_steps}")
        + tell_until(vars(script)),
        "longest row": f"{training.max_length} tokens are allowed",
        "gradient checkpointing": "yes" if training.activation_checkpointing else "no",
        "seed": training.seed,
        "saved": f"by {training.save_strategy.value}, {training.save_total_limit or 'all'} kept",
        "output": training.output_dir,
    }


def tell_loss(script: RecipeArguments) -> str:
    """What the loss is taken on, and what is added to it."""
    told = "on the response"
    if script.token_mask_threshold is not None:
        told += f", without tokens to which the base gives less than {script.token_mask_threshold:g}"
    return told + (f", plus {script.kl_to_base:g} x KL(base || model)" if script.kl_to_base is not None else "")


def name_engine(training: SFTConfig) -> str:
    """The engine of this launch, by the name of its file in recipes/accelerate."""
    if plugin := training.deepspeed_plugin:
        return f"zero{plugin.zero_stage}" + ("_offload" if plugin.offload_param_device not in (None, "none") else "")
    if training.world_size == 1:
        if is_launched_on_cpu():
            return "cpu_bf16" if training.bf16 else "cpu"
        # Looked at without a launch, a recipe with bf16 is one for a GPU.
        return "cpu" if training.device.type == "cpu" and not training.bf16 else "single_gpu"
    return "fsdp2" if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true" else "ddp"


def count_work(script: RecipeArguments, training: SFTConfig, rows: "Dataset", prepared: "Dataset | None") -> dict[str, str]:
    """Rows, steps and tokens of a run."""
    kinds, described = rows["condition"][:], describe_rows(rows)
    an_epoch = -(-len(rows) // script.global_batch_size)
    steps = training.max_steps if training.max_steps > 0 else round(an_epoch * training.num_train_epochs)
    work = {
        "trains": ", ".join(f"{name} {value}" for name, value in described.items() if value is not None),
        "rows": f"{len(rows):,}: " + ", ".join(f"{kinds.count(kind):,} {kind}" for kind in dict.fromkeys(kinds)),
        "steps": f"{steps:,}, {an_epoch:,} an epoch; the first {training.get_warmup_steps(steps):,} warm up",
    }
    if prepared is None:
        return work
    lengths = [len(ids) for ids in prepared["input_ids"]]
    total, padded = sum(lengths), PAPER_LENGTH * len(lengths)
    trained = sum(label != IGNORED for labels in prepared["labels"] for label in labels)
    shape = f"mean {total / len(lengths):.0f}, longest {max(lengths):,}"
    return work | {
        "tokens an epoch": f"{total:,}, {trained:,} of them with loss; {shape} a row",
        "padded as in the paper": f"{padded:,}, to {PAPER_LENGTH:,} each: {padded / total:.1f} times as many",
    }


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}es"


def _print_settings(console: Console, title: str, settings: dict[str, Any]) -> None:
    table = Table("", "", title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in settings.items():
        table.add_row(name, Text(show_line(str(value)), overflow="fold"))
    console.print(table, "")


def _print_memory(console: Console, training: SFTConfig, model: ModelConfig, longest: int) -> None:
    config = find_config(model.model_name_or_path, model.model_revision)
    local = int(os.environ.get("LOCAL_WORLD_SIZE", training.world_size))
    chosen, machines = name_engine(training), training.world_size // local
    title = f"Memory in GiB: model states + activations, at {training.per_device_train_batch_size} rows of {longest:,} tokens"
    table = Table("engine", f"as launched, on {training.world_size}", f"on {GPUS} GPUs", title=title, title_justify="left")
    sizes = measure_model(config, model)

    def show(engine: str, gpus: int, machines: int) -> str | Text:
        settings = (training.per_device_train_batch_size, longest, training.bf16, training.activation_checkpointing)
        try:
            found = estimate_memory(config, sizes, engine, gpus, machines, *settings)
        except UserError as error:
            return Text(str(error))
        return f"{show_gib(found.total)} = {show_estimate(found)}" if found else "does not share out a base of 4 bits"

    for engine in ENGINES:
        here = engine == chosen or (chosen.startswith("cpu") and engine == "single_gpu")
        alone = engine == "single_gpu"
        table.add_row(
            chosen if here else engine,
            show(engine, local, machines) if here else "",
            "" if chosen.startswith("cpu") and alone and training.use_cpu else show(engine, 1 if alone else GPUS, 1),
            style="bold" if here else "",
        )
    console.print(table, "python -m recipes.memory --help says how it is estimated.")
    if training.bf16 and not torch.cuda.is_available() and not is_launched_on_cpu():
        console.print(f"No GPU here: a recipe with bf16 trains on one. {tell_cpu()}.")
    console.print("")


def _print_rows(
    console: Console, script: RecipeArguments, rows: "Dataset", tokenizer: "PreTrainedTokenizerBase", max_length: int
) -> None:
    from recipes.showing.pairing import NEEDED, choose_rows, compare_rows
    from recipes.showing.responses import show_responses
    from recipes.showing.sequences import Asker

    if rows["condition"][0] == INSTRUCTION_DATA:
        print_sections(show_responses(rows, QUESTIONS, Asker(tokenizer, script.add_bos_token), tokenizer, max_length), console)
        return
    if lacking := sorted(NEEDED - set(rows.column_names)):
        console.print(f"The rows have no column {lacking[0]!r}, so that they are not shown beside their evaluation.")
        return
    chosen = choose_rows({script.dataset_config: rows}, QUESTIONS)
    asker = Asker(tokenizer, script.add_bos_token)
    print_sections(compare_rows(chosen, None, tokenizer, asker, max_length), console)
