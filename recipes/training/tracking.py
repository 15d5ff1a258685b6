"""Where a run's log goes beside its folder: trackio, TensorBoard, Weights & Biases, or what else `--report_to` knows."""

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from trl import SFTConfig

from lm_eval_tasks.contracts.public import make_public
from recipes.training.conversations import name_data

PROJECT = "selfalign"
# What Weights & Biases would find out by itself and send: the command line, the folder, the machine's name and its user's.
FOUND_OUT = ("WANDB_X_DISABLE_META", "WANDB_X_DISABLE_MACHINE_INFO", "WANDB_DISABLE_GIT", "WANDB_DISABLE_CODE")


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
        training: what is not set is set here; names are made public.
        output: the run folder.
        manifest: the run's. Its id is part of the name, since trackio goes on with a run of the same name.
    """
    config, run = manifest["config"], manifest["run"]
    name = training.run_name or f"{name_data(config)}-seed-{config['seed']}-{run[:8]}"
    training.run_name = make_public(name)
    if training.project == SFTConfig.__dataclass_fields__["project"].default:
        training.project = PROJECT
    training.project = make_public(training.project)
    os.environ.setdefault("WANDB_PROJECT", PROJECT)
    if "tensorboard" in training.report_to:
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(output / "tensorboard" / run))
    if "wandb" in training.report_to:
        output.mkdir(parents=True, exist_ok=True)  # else it writes elsewhere
        for variable, value in {"WANDB_DIR": str(output), **dict.fromkeys(FOUND_OUT, "true")}.items():
            os.environ.setdefault(variable, value)


def hide_from_trackers(callbacks: Iterable[TrainerCallback]) -> None:
    """Let the trackers among a trainer's callbacks send settings that are made public.

    They send those of the run, of the model and of its adapter when training begins, which name folders of this machine.
    """
    for callback in callbacks:
        if isinstance(callback, tuple(INTEGRATION_TO_CALLBACK.values())):
            callback.on_train_begin = partial(_begin, callback.on_train_begin)


class PublicConfig(SFTConfig):
    """The settings of a run as others may see them."""

    def to_dict(self) -> dict[str, Any]:
        """All settings, made public."""
        return make_public(super().to_dict())


def _begin(begin: Callable[..., Any], args: SFTConfig, state: Any, control: Any, model: Any = None, **kwargs: Any) -> Any:
    shown = copy.copy(args)
    shown.__class__ = PublicConfig  # a copy by fields would be checked, and would look for devices anew
    with _show_public(model):
        return begin(shown, state, control, model=model, **kwargs)


@contextmanager
def _show_public(model: Any) -> Iterator[None]:
    """Meanwhile a model's configuration and that of its adapters are copies in which paths are made public."""
    config, adapters = getattr(model, "config", None), getattr(model, "peft_config", None)
    if config is not None:
        model.config = copy.deepcopy(config)
        _publish_fields(model.config, "_name_or_path")
    if adapters:
        model.peft_config = copy.deepcopy(adapters)
        for adapter in model.peft_config.values():
            _publish_fields(adapter, "base_model_name_or_path")
    try:
        yield
    finally:
        if config is not None:
            model.config = config
        if adapters:
            model.peft_config = adapters


def _publish_fields(settings: Any, *names: str) -> None:
    for name in names:
        if hasattr(settings, name):
            setattr(settings, name, make_public(getattr(settings, name)))
