"""Fine-tune a base model on one condition of an instruction set.

accelerate launch --config_file recipes/accelerate/cpu.yaml recipes/sft.py --config recipes/miniworld/full.yaml \\
    --dataset_name runs/miniworld/miniature/herbs/instructions --dataset_config herbs_harmonious \\
    --output_dir runs/harmonious --seed 1

The YAML file holds the model and its hyper-parameters; the data set and the condition are given here. The loss is taken on
the response alone, in the chat template that evaluation uses. The run continues from its newest whole checkpoint; the
finished model, its tokenizer and its manifest stand in `--output_dir`.
"""

import fcntl
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from trl import ModelConfig, SFTConfig, get_peft_config, get_quantization_config

from lm_eval_tasks.manifest import UserError, hash_path, make_manifest, read_manifest, report_errors, write_manifest
from recipes.arguments import RecipeArguments, parse_arguments
from recipes.checkpoints import find_checkpoint
from recipes.engines import check_engine, describe_engine
from recipes.rows import describe_rows, hash_rows, read_rows
from recipes.tokens import TEMPLATE, load_tokenizer, prepare_rows

# What names a place, a display or a secret is no part of what makes the weights.
PLACES = ("_dir", "_path", "_name", "_to", "token", "hub", "logging", "save_", "tqdm", "dataset_num_proc", "dry_run")


def describe_model(model: ModelConfig) -> str:
    """The hash of a model folder, or the commit of a model on the Hub.

    Raises:
        UserError: there is no such model.
    """
    from transformers import AutoConfig

    name = model.model_name_or_path
    if Path(name).is_dir():
        return hash_path(name)
    try:
        return str(AutoConfig.from_pretrained(name, revision=model.model_revision)._commit_hash)
    except (OSError, ValueError) as error:
        raise UserError(f"--model_name_or_path {name} is no model folder and no model on the Hub: {error}") from error


def describe_run(
    script: RecipeArguments, training: SFTConfig, model: ModelConfig, rows: Any, model_hash: str
) -> dict[str, Any]:
    """What a run's manifest says of it, and what its `run` id is the hash of."""
    settings = training.to_dict() | asdict(model) | {"global_batch_size": script.global_batch_size}
    hyper = {name: value for name, value in settings.items() if not any(part in name for part in PLACES)}
    return {
        "stage": "train",
        "command": sys.argv,
        "config": {"dataset": script.dataset_name, "dataset_config": script.dataset_config, **describe_rows(rows)}
        | {"seed": training.seed, "base_model": model.model_name_or_path, "processes": training.world_size, **hyper},
        "inputs": {"dataset": hash_rows(rows), "model": model_hash, "template": hash_path(training.chat_template_path)},
        "seeds": {"seed": training.seed},
    }


def hold_folder(work: Path, training: SFTConfig) -> TextIO:
    """Wait until no other process trains into a folder (such as one whose parent was killed), and keep others waiting."""
    work.mkdir(parents=True, exist_ok=True)
    lock = (work / ".lock").open("w")
    if training.process_index == 0:
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def train(script: RecipeArguments, training: SFTConfig, model: ModelConfig) -> None:
    """Train, and write the model, its tokenizer and its manifest into `training.output_dir`."""
    from recipes.trainer import Trainer

    if problems := check_engine(training, model):
        raise UserError(" ".join(problems))
    model_hash = describe_model(model)
    rows = read_rows(script)
    training.chat_template_path = training.chat_template_path or str(TEMPLATE)
    tokenizer = load_tokenizer(model.model_name_or_path, model.model_revision)
    tokenizer.chat_template = Path(training.chat_template_path).read_text()
    prepared = prepare_rows(tokenizer, rows, training.max_length)
    facts = describe_run(script, training, model, rows, model_hash)
    training.max_length = None  # nothing is cut: `prepare_rows` refused what is longer
    training.model_init_kwargs = (training.model_init_kwargs or {}) | {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
    }
    output = Path(training.output_dir)
    # Checkpoints of another configuration or data set are never gone on from: they lie under another run id.
    work = output / "checkpoints" / make_manifest(**facts)["run"]
    training.output_dir = str(work)
    lock = hold_folder(work, training)
    if (read_manifest(output) or {}).get("run") == work.name:
        print(f"{output} already holds this run ({work.name}): nothing to train.", file=sys.stderr)
        return
    trainer = Trainer(
        model=model.model_name_or_path,
        args=training,
        train_dataset=prepared,
        processing_class=tokenizer,
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
        ids=rows["id"],
    )
    trainer.accelerator.print(f"engine: {describe_engine(trainer.accelerator)}", file=sys.stderr)
    checkpoint, broken = find_checkpoint(work)
    for line in broken:
        trainer.accelerator.print(line, file=sys.stderr)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.save_model(str(work / "final"))
    trainer.accelerator.wait_for_everyone()
    if trainer.accelerator.is_main_process:
        for file in (work / "final").iterdir():
            file.replace(output / file.name)
        write_manifest(output, **facts)
    trainer.end()
    lock.close()


if __name__ == "__main__":
    with report_errors():
        train(*parse_arguments())
