"""Fine-tune a base model on one condition of an instruction set.

accelerate launch --config_file recipes/accelerate/cpu.yaml recipes/sft.py --config recipes/miniworld/full.yaml \\
    --dataset_name runs/miniworld/miniature/herbs/instructions --dataset_config herbs_harmonious \\
    --output_dir runs/harmonious --seed 1

The YAML file holds the model and its hyper-parameters; the data set and the condition are given here. The loss is taken on
the response alone, in the chat template that evaluation uses. The run continues from its newest whole checkpoint; the
finished model, its tokenizer and its manifest stand in `--output_dir`.
"""

import fcntl
import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from trl import ModelConfig, ScriptArguments, SFTConfig, TrlParser

from lm_eval_tasks.manifest import UserError, hash_path, make_manifest, read_manifest, report_errors, write_manifest
from recipes.checkpoints import find_checkpoint

TEMPLATE = Path(__file__).parents[1] / "lm_eval_tasks/templates/vicuna.jinja"
# What names a place, a display or a secret is no part of what makes the weights.
PLACES = ("_dir", "_path", "_name", "_to", "token", "hub", "logging", "save_", "tqdm", "dataset_num_proc")


def read_rows(script: ScriptArguments) -> Any:
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


def describe_rows(rows: Any) -> dict[str, Any]:
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


def hash_rows(rows: Any) -> str:
    """The hash of a data set's rows, wherever they were loaded from."""
    return hashlib.sha256(json.dumps(rows.to_list()).encode()).hexdigest()[:16]


def describe_model(name: str) -> str:
    """The hash of a model folder, or the commit of a model on the Hub.

    Raises:
        UserError: there is no such model.
    """
    from transformers import AutoConfig

    if Path(name).is_dir():
        return hash_path(name)
    try:
        return str(AutoConfig.from_pretrained(name)._commit_hash)
    except (OSError, ValueError) as error:
        raise UserError(f"--model_name_or_path {name} is no model folder and no model on the Hub: {error}") from error


def hold_folder(work: Path, training: SFTConfig) -> TextIO:
    """Wait until no other process trains into a folder (such as one whose parent was killed), and keep others waiting."""
    work.mkdir(parents=True, exist_ok=True)
    lock = (work / ".lock").open("w")
    if training.process_index == 0:
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def train(script: ScriptArguments, training: SFTConfig, model: ModelConfig) -> None:
    """Train, and write the model, its tokenizer and its manifest into `training.output_dir`."""
    from trl import SFTTrainer, get_peft_config, get_quantization_config

    if not script.dataset_name or not script.dataset_config:
        raise UserError("name an instruction set: --dataset_name FOLDER_OR_HUB_ID --dataset_config DOMAIN_CONDITION.")
    model_hash = describe_model(model.model_name_or_path)
    rows = read_rows(script)
    training.chat_template_path = training.chat_template_path or str(TEMPLATE)
    settings = training.to_dict() | asdict(model)
    hyper = {name: value for name, value in settings.items() if not any(part in name for part in PLACES)}
    facts = {
        "stage": "train",
        "command": sys.argv,
        "config": {"dataset": script.dataset_name, "dataset_config": script.dataset_config, **describe_rows(rows)}
        | {"seed": training.seed, "base_model": model.model_name_or_path, "processes": training.world_size, **hyper},
        "inputs": {"dataset": hash_rows(rows), "model": model_hash, "template": hash_path(training.chat_template_path)},
        "seeds": {"seed": training.seed},
    }
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
    trainer = SFTTrainer(
        model=model.model_name_or_path,
        args=training,
        train_dataset=rows.select_columns(["prompt", "completion"]),
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
    )
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
        train(*TrlParser((ScriptArguments, SFTConfig, ModelConfig)).parse_args_and_config())
