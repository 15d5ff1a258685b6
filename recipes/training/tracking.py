"""Where a run's log goes beside its folder: trackio, TensorBoard, Weights & Biases, or what else `--report_to` knows."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from trl import SFTConfig

PROJECT = "selfalign"


def check_trackers(training: SFTConfig) -> list[str]:
    """The trackers of `--report_to` that are not known or not installed, each with what to do."""
    problems, installed = [], get_available_reporting_integrations()
    for name in training.report_to:
        if name not in INTEGRATION_TO_CALLBACK:
            known = ", ".join(sorted(INTEGRATION_TO_CALLBACK))
            several = "several are named in the YAML file (report_to: [tensorboard, trackio])"
            problems.append(f"--report_to {name}: there is no such tracker; take none or one of {known}; {several}.")
        elif name not in installed:
            problems.append(f"--report_to {name}: {name} is not installed; run `pip install {name}`, or leave it out.")
    return problems


def set_trackers(training: SFTConfig, output: Path, manifest: Mapping[str, Any]) -> None:
    """Name the run and its project to the trackers, and keep their files in the run folder; what a user has set stays.

    The trainer would call the project "huggingface", put TensorBoard's files among the checkpoints, which are deleted in the
    end, and those of Weights & Biases into the folder it was started from.

    Args:
        training: what is not set is set here.
        output: the run folder.
        manifest: the run's. Its id is part of the name, since trackio goes on with a run of the same name.
    """
    config, run = manifest["config"], manifest["run"]
    training.run_name = training.run_name or f"{config['dataset_config']}-seed-{config['seed']}-{run[:8]}"
    if training.project == SFTConfig.__dataclass_fields__["project"].default:
        training.project = PROJECT
    os.environ.setdefault("WANDB_PROJECT", PROJECT)
    if "tensorboard" in training.report_to:
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(output / "tensorboard" / run))
    if "wandb" in training.report_to:
        output.mkdir(parents=True, exist_ok=True)  # else it writes elsewhere
        os.environ.setdefault("WANDB_DIR", str(output))
