"""What is put between lm-eval's command line and its evaluation: the pack's tasks, checked before a model is loaded."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from lm_eval.api.registry import model_registry
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.dummy import DummyLM
from lm_eval.tasks import TaskManager
from transformers.utils.chat_template_utils import render_jinja_template

import lm_eval_tasks.models.prefix  # noqa: F401 (registers `hf-prefix`)
from lm_eval_tasks.checking.checked import CheckedTask
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE, read_template
from lm_eval_tasks.contracts.vocabulary import PREFIX_MODELS
from lm_eval_tasks.running.model import check_model
from lm_eval_tasks.running.replacing import replace

# By name, since its module needs the package vllm.
model_registry.register("vllm-prefix", target="lm_eval_tasks.models.vllm_prefix:VLLMPrefixLM")

PACK = Path(__file__).parents[1]


class Asking:
    """One run of lm-eval: what is put into it, and how far it has come."""

    def __init__(self, chat_template: str | None) -> None:
        self.chat_template = chat_template
        self.manager: TaskManager | None = None
        self.configured = False

    def make_manager(self, include_path: Any = None, metadata: Mapping[str, Any] | None = None, **_: Any) -> TaskManager:
        """lm-eval's index of tasks: this pack's, and those of `--include_path`."""
        added = {"chat_template": self.chat_template} if self.chat_template else {}
        include = [PACK, include_path] if include_path else [PACK]
        self.manager = TaskManager(include_path=include, include_defaults=False, metadata={**(metadata or {}), **added})
        return self.manager

    def evaluate(self, *, model: str, model_args: dict[str, Any], use_cache: str | None = None, **settings: Any) -> Any:
        """lm-eval's `simple_evaluate`, after the checks."""
        self.configured = True
        if not settings["tasks"]:
            raise UserError("no task is named. Name one or several with --tasks; `python -m lm_eval_tasks tasks` lists them.")
        if self.chat_template and model not in PREFIX_MODELS:
            raise UserError(
                f"--chat_template is for --model {' and '.join(PREFIX_MODELS)}, not for {model!r}. Name a tokenizer folder "
                "that has the template: --model_args ...,tokenizer=FOLDER (lm_eval_tasks/README.md says how to make one)."
            )
        if self.chat_template:
            model_args["chat_template"] = self.chat_template
        if use_cache and model in PREFIX_MODELS:
            model_args["response_cache"], use_cache = use_cache, None
        check_model(model, model_args, settings.get("device"))
        loaded = load_tasks(self.manager, settings["tasks"])
        for task in loaded["tasks"].values():
            set_options(task, settings["num_fewshot"], settings["gen_kwargs"])
            if isinstance(task, CheckedTask):
                task.check(settings)
        self.manager.load = lambda _: loaded  # lm-eval would load them again
        try:
            with replace(DummyLM, "apply_chat_template", write_chat), end_engine(model):
                return simple_evaluate(model=model, model_args=model_args, use_cache=use_cache, **settings)
        except OSError as error:
            # Of transformers, which has no number for it, and not of the disk.
            if error.errno is not None:
                raise
            reason = str(error).partition("\n")[0]
            raise UserError(f"the model {model_args.get('pretrained', model)} cannot be loaded: {reason}") from error


def end_engine(model: str) -> AbstractContextManager[None]:
    """What ends a run's engine after it, so that the next run of the process has the GPU's memory."""
    if model != "vllm-prefix":
        return nullcontext()
    from lm_eval_tasks.models.vllm_prefix import end_engines  # the package vllm

    return end_engines()


def write_chat(_: DummyLM, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
    """A prompt of `--model dummy`, in the template of training: lm-eval's would fetch the tokenizer of a model of 32 B."""
    template = read_template(str(CHAT_TEMPLATE))
    (text,), _ = render_jinja_template([chat_history], chat_template=template, add_generation_prompt=add_generation_prompt)
    return text


def load_tasks(manager: TaskManager, names: list[Any]) -> Any:
    """lm-eval's tasks of these names, with their questions."""
    try:
        return manager.load(names)
    except ValueError as error:
        if str(error).startswith("Duplicate task"):
            raise UserError(f"{error}. Name it once.") from error
        raise


def set_options(task: Any, shots: int | None, gen_kwargs: dict[str, Any] | None) -> None:
    """What `simple_evaluate` sets in a task after it has loaded the model, for the checks that come before."""
    if shots is not None and task.get_config("num_fewshot") != 0:
        task.set_config("num_fewshot", shots)
    if gen_kwargs and task.get_config("output_type") == "generate_until":
        task.set_config("generation_kwargs", gen_kwargs, update=True)


def list_tasks() -> list[str]:
    """The pack's tasks, and after each the tags by which it is asked with others."""
    manager = TaskManager(include_path=str(PACK), include_defaults=False)
    tags = {name: [tag for tag in manager.all_tags if name in manager.task_index[tag].tags] for name in manager.all_subtasks}
    return [f"{name}  ({', '.join(tags[name])})" if tags[name] else name for name in manager.all_subtasks]
