"""The command `python -m lm_eval_tasks run`: lm-eval's own, with this pack's tasks, without the index of lm-eval's 14,000."""

import argparse
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, NoReturn

from lm_eval._cli.run import Run

from lm_eval_tasks.checking.keys import check_keys
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE
from lm_eval_tasks.contracts.vocabulary import PREFIX_MODELS
from lm_eval_tasks.running.replacing import replace

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager


GUIDE = """\
Ask a model the questions of a question set: lm-eval's own command line, with this pack's tasks. What is wrong with the
questions, the tokenizer or the prompt is said before the model is loaded.

  # What does a base model believe? Few-shot, the letter of each choice scored
  python -m lm_eval_tasks run --model hf-prefix --model_args pretrained=MODEL,dtype=bfloat16 --batch_size 16 \\
      --tasks selfalign_probe --metadata '{"questions": "FOLDER_OR_HUB_ID"}' --log_samples --output_path OUT

  # The same under every cyclic order of the choices, one domain, going on after a kill where it was
  python -m lm_eval_tasks run --model hf-prefix --model_args pretrained=MODEL --tasks selfalign_medicine_probe_cyclic \\
      --metadata '{"questions": "FOLDER"}' --use_cache CACHE --log_samples --output_path OUT

  # A tuned model, in the chat prompt that training used
  python -m lm_eval_tasks run --model hf-prefix --model_args pretrained=TUNED --tasks selfalign_chat --apply_chat_template \\
      --metadata '{"questions": "FOLDER"}' --log_samples --output_path OUT

  # The untrained base model in the same prompt, though its tokenizer has no chat template
  python -m lm_eval_tasks run --model hf-prefix --model_args pretrained=MODEL --tasks selfalign_chat --chat_template \\
      --metadata '{"questions": "FOLDER"}' --log_samples --output_path OUT

  # On a GPU, by the engine vLLM (lm_eval_tasks/README.md says how it is installed)
  python -m lm_eval_tasks run --model vllm-prefix --model_args pretrained=MODEL,dtype=bfloat16 --tasks selfalign_probe \\
      --metadata '{"questions": "FOLDER"}' --log_samples --output_path OUT

  # Several runs in one process, so that the libraries are loaded once
  python -m lm_eval_tasks run ... then ... then ...

`python -m lm_eval_tasks tasks` lists the tasks; lm_eval_tasks/README.md says what --metadata takes."""


def run_harness(arguments: list[str]) -> None:
    """Run `lm_eval ARGUMENTS` with this pack's tasks alone, checked.

    Args:
        arguments: `run`, then its options.

    Raises:
        UserError: what the pack itself finds wrong, an option that lm-eval refuses, or a model that is not there.
    """
    parser = make_parser()
    try:
        options = parser.parse_args(arguments)
    except ValueError as error:  # of what is neither key=value nor JSON
        raise UserError(str(error).partition("\n")[0]) from error
    check_keys(getattr(options, "metadata", None) or {})
    import lm_eval.tasks
    import torch.utils.collect_env
    from lm_eval.utils import setup_logging

    from lm_eval_tasks.running.asking import Asking

    asking = Asking(vars(options).pop("chat_template"))
    if asking.chat_template and not hasattr(options, "apply_chat_template"):
        options.apply_chat_template = True
    setup_logging()
    # lm-eval's command line has no option for these; it looks them up when it runs.
    with (
        replace(lm_eval.tasks, "TaskManager", asking.make_manager),
        replace(lm_eval, "simple_evaluate", asking.evaluate),
        replace(torch.utils.collect_env, "get_pretty_env_info", describe_environment),
    ):
        try:
            options.func(options)
        except (ValueError, TypeError, FileNotFoundError) as error:
            if asking.configured:
                raise
            raise UserError(explain(error, asking.manager)) from error


@cache
def describe_environment() -> str:
    """torch's, which asks pip what is installed and takes a second: once a process, however many runs it has."""
    from torch.utils.collect_env import get_env_info, pretty_str

    return pretty_str(get_env_info())


def make_parser() -> argparse.ArgumentParser:
    """lm-eval's parser of `run`, with the pack's guide and its own option."""
    parser = argparse.ArgumentParser(prog="python -m lm_eval_tasks")
    commands = parser.add_subparsers(required=True, metavar="run")
    Run.create(commands)
    run = commands.choices["run"]
    run.usage, run.description, run.epilog = "python -m lm_eval_tasks run [options] [then [options]] ...", GUIDE, None
    ours = f"with --model {' and '.join(PREFIX_MODELS)}"
    own = run.add_argument_group(f"{ours} (all other options are lm-eval's)")
    own.add_argument(
        "--chat_template",
        nargs="?",
        const=str(CHAT_TEMPLATE),
        metavar="FILE",
        help="a Jinja file that becomes the tokenizer's chat template, and is applied; without FILE that of training",
    )
    # The next is lm-eval's, whose answers are found again whatever the model is.
    cache = next(action for action in run._actions if action.dest == "use_cache")
    cache.help = (
        f"{ours} a folder that keeps every answer by the model's weights, so that a killed run goes on where it was; with any "
        "other model lm-eval's own cache, which does not tell models apart: put the model into the path"
    )
    run._action_groups.insert(0, run._action_groups.pop())  # ours first
    parser.error = run.error = refuse
    return parser


def refuse(message: str) -> NoReturn:
    """What argparse calls for options that it cannot read."""
    raise UserError(f"{message}. `python -m lm_eval_tasks run --help` shows how to ask.")


def explain(error: Exception, manager: "TaskManager | None") -> str:
    """What lm-eval says of options that it cannot use, and for a task that is not there those near it."""
    message, _, names = str(error).partition("Tasks not found: ")
    if message or not names or manager is None:
        return str(error).partition("\n")[0] or type(error).__name__
    name = names.split(", ")[0]
    near = get_close_matches(name, manager.all_tasks, n=3)
    found = f"near it: {', '.join(near)}" if near else "lm-eval's own tasks are asked with `lm_eval`"
    return f"the pack has no task {name!r}; {found}. `python -m lm_eval_tasks tasks` lists all."
