"""A task's prompts as a run will ask them, chat template applied, without the model: what the checks look at."""

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import TemplateError
from lm_eval.api.task import ConfigurableTask
from transformers import PreTrainedTokenizerBase

from lm_eval_tasks.checking.tokenizer import load_tokenizer
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import read_template

HOW_TO_GET_TEMPLATE = (
    "Ask with `python -m lm_eval_tasks run --model hf-prefix --chat_template`, or name a tokenizer folder that has the "
    "template of training: --model_args ...,tokenizer=FOLDER (lm_eval_tasks/README.md says how to make one)."
)

Writer = Callable[[dict[str, Any]], str]


def make_writer(task: ConfigurableTask, settings: Mapping[str, Any], ending: str = "") -> Writer:
    """What writes the prompt of a question as lm-eval will, with the chat template that the model will have.

    Args:
        task: a task as lm-eval builds it.
        settings: how it will be asked: `apply_chat_template`, `fewshot_as_multiturn`, `system_instruction`, as lm-eval's
            `simple_evaluate` takes them.
        ending: what a chat prompt has to end in.

    Returns:
        A function of a question, which raises a `UserError` where the chat template is missing or not the one that is needed.
        Where no tokenizer can be read, its chat prompts are stand-ins with that ending.
    """
    name, metadata = task.config.task, task.config.metadata
    chat = settings.get("apply_chat_template")
    tokenizer = load_tokenizer(metadata)

    def render(messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        if tokenizer is None:
            return messages[-1]["content"] + ending
        template = find_template(tokenizer, metadata, chat)
        if template is None:
            raise UserError(f"{name}: the tokenizer of {name_model(task)} has no chat template. {HOW_TO_GET_TEMPLATE}")
        try:
            text = tokenizer.apply_chat_template(
                messages, chat_template=template, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except TemplateError as error:
            raise UserError(
                f"{name}: the chat template of {name_model(task)} does not take this prompt ({error}). {HOW_TO_GET_TEMPLATE}"
            ) from error
        if not text.endswith(ending):
            raise UserError(
                f"{name}: the chat template of {name_model(task)} ends in {text[-20:]!r}, not in {ending!r} as in training. "
                f"{HOW_TO_GET_TEMPLATE}"
            )
        return text

    def write(row: dict[str, Any]) -> str:
        return task.fewshot_context(
            row,
            task.config.num_fewshot or 0,
            system_instruction=settings.get("system_instruction"),
            apply_chat_template=bool(chat),
            fewshot_as_multiturn=bool(settings.get("fewshot_as_multiturn")),
            chat_template=render if chat else None,
        )

    return write


def find_template(tokenizer: PreTrainedTokenizerBase, arguments: Mapping[str, Any], name: str | bool | None) -> str | None:
    """The chat template that the model will have: the file that `hf-prefix` is given, else the tokenizer's; None for none.

    Args:
        tokenizer: the model's.
        arguments: the model's, from `--model_args`.
        name: of a template, where the tokenizer has several.

    Raises:
        UserError: the file cannot be read.
    """
    if file := arguments.get("chat_template"):
        return read_template(file)
    try:
        return tokenizer.get_chat_template(name if isinstance(name, str) else None)
    except ValueError:
        return None


def name_model(task: ConfigurableTask) -> str:
    """How messages name the model."""
    return str(task.config.metadata.get("pretrained"))
