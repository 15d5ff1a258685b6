"""lm-eval's own command line, with this pack's tasks and without the index of lm-eval's 14,000."""

import sys
from functools import partial
from pathlib import Path

import lm_eval.tasks
from lm_eval._cli import HarnessCLI
from lm_eval.utils import setup_logging

import lm_eval_tasks.prefix  # noqa: F401 (registers `hf-prefix`)
from lm_eval_tasks.manifest import UserError

PACK = Path(__file__).parent


def run_harness(arguments: list[str]) -> None:
    """Run `lm_eval ARGUMENTS` with this pack's tasks alone.

    Raises:
        UserError: what the pack itself finds wrong, or a model folder that does not exist.
    """
    check_model(arguments)
    setup_logging()
    manager = lm_eval.tasks.TaskManager
    # lm-eval's command line has no option for this; it looks the class up when it runs.
    lm_eval.tasks.TaskManager = partial(manager, include_defaults=False)
    program = sys.argv
    sys.argv = ["lm_eval", *arguments, *([] if "--include_path" in arguments else ["--include_path", str(PACK)])]
    try:
        parser = HarnessCLI()
        parser.execute(parser.parse_args())
    except OSError as error:
        if (model := find_model(arguments)) and not Path(model).is_dir():
            raise UserError(f"{model!r} is no model folder here, and the Hub did not give it: {error}") from error
        raise
    finally:
        lm_eval.tasks.TaskManager, sys.argv = manager, program


def check_model(arguments: list[str]) -> None:
    """Raise a `UserError` where `--model_args pretrained=` is a path to no folder, before anything is loaded."""
    value = find_model(arguments)
    # A Hub id is a name, or an owner and a name.
    is_path = value.startswith((".", "/", "~")) or value.count("/") > 1
    if is_path and not Path(value).is_dir():
        raise UserError(f"the model folder {value} does not exist. Name a folder that holds a model, or a Hub id.")


def find_model(arguments: list[str]) -> str:
    """The value of `pretrained` in lm-eval's `--model_args`; empty where there is none."""
    parts = (part.partition("=") for argument in arguments for part in argument.split(","))
    return next((value for name, _, value in parts if name == "pretrained"), "")
