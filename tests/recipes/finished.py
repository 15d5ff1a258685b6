"""A finished run's folder, made from the shipped base model without a training."""

import shutil
from pathlib import Path
from typing import Any

from conftest import BASE

from lm_eval_tasks.contracts.manifest import make_manifest, write_manifest
from recipes.publishing.cards import write_card
from recipes.training.losses import plot_loss, write_log

HISTORY = [
    {"step": 10 * i, "epoch": 0.5 * i, "loss": 4.0 / i, "learning_rate": 1e-3 / i, "grad_norm": 1.0, "num_tokens": 500.0 * i}
    for i in range(1, 5)
]
HISTORY += [{"step": 40, "epoch": 2.0, "train_loss": 2.1, "train_runtime": 3.0}]
CONFIG = {
    "dataset": "data/herbs", "dataset_config": "herbs_harmonious", "domain": "herbs", "source": "miniworld_exam",
    "condition": "harmonious", "ratio": None, "response_format": "text", "threshold": 0.5, "seed": 1,
    "base_model": "recipes/miniworld/base",
    "processes": 2, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "global_batch_size": 16,
    "num_train_epochs": 2, "max_steps": -1, "learning_rate": 0.0005, "lr_scheduler_type": "cosine", "warmup_steps": 0.05,
    "weight_decay": 0.0, "optim": "adamw_torch", "max_grad_norm": 1.0, "max_length": 512, "dtype": "float32",
    "use_peft": False, "lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "lora_target_modules": ["q_proj", "v_proj"],
    "load_in_4bit": False, "load_in_8bit": False, "bnb_4bit_quant_type": "nf4", "use_bnb_nested_quant": True,
}  # fmt: skip
ROWS = ["harmonious"] * 256 + ["general"] * 64
COMMAND = ["recipes/sft.py", "--config", "recipes/miniworld/full.yaml", "--output_dir", "runs/harmonious"]


def describe_run(command: list[str] = COMMAND, **config: Any) -> dict[str, Any]:
    """What `make_manifest` is told of such a run; `config` stands in its configuration."""
    inputs = {"dataset": "d" * 16, "model": "b" * 16, "template": "c" * 16}
    return {"stage": "train", "command": command, "config": CONFIG | config, "inputs": inputs, "seeds": {"seed": 1}}


def write_text(folder: Path, command: list[str] = COMMAND, **config: Any) -> str:
    """The text of the card of such a run."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = make_manifest(**describe_run(command, **config))
    return write_card(folder, manifest, HISTORY, ROWS, "DDP, 2 processes on cpu").read_text()


def write_run(folder: Path, **config: Any) -> str:
    """Write such a folder, and return its run."""
    folder.mkdir(parents=True)
    for file in BASE.iterdir():
        if file.name not in ("README.md", "manifest.json", "pretraining.json"):
            shutil.copyfile(file, folder / file.name)
    manifest = make_manifest(**describe_run(**config))
    write_log(HISTORY, folder)
    plot_loss(HISTORY, folder, manifest)
    write_card(folder, manifest, HISTORY, ROWS, "DDP, 2 processes on cpu")
    return write_manifest(folder, **describe_run(**config))
