"""The base that is trained: what keeps it from being trained, and what training replaces of it."""

import contextlib
import importlib.util
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.quantizers import AutoHfQuantizer
from trl import ModelConfig, SFTConfig

from lm_eval_tasks.contracts.bases import find_gguf, tell_rowless
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import hash_path
from recipes.training.tokens import load_tokenizer

# What configurations call the most tokens that a model reads, in the order in which lm-eval looks for it.
WINDOWS = ("n_positions", "max_position_embeddings", "n_ctx")


def check_base(training: SFTConfig, model: ModelConfig) -> list[str]:
    """What keeps a base from being trained, each with what to do; no weights are read.

    Args:
        training: the hyper-parameters.
        model: the base and its adapter.
    """
    name = model.model_name_or_path
    if file := find_gguf(name):
        return [
            f"--model_name_or_path {name} holds its weights as a GGUF file ({file.name}), which can be asked and not trained: "
            "write the expanded weights out first (recipes/README.md says how), and train that folder."
        ]
    problems = _check_bits(model)
    if (Path(name) / "adapter_config.json").is_file():
        problems.append(
            f"--model_name_or_path {name} is an adapter: merge it into its base (`python -m recipes.merge {name} --output "
            "MODEL`) and train MODEL."
        )
        return problems
    settings = read_settings(model)
    return [*problems, *_check_quantised(model, settings), *_check_sizes(training, model, settings)]


def identify_base(model: ModelConfig) -> str:
    """The hash of a model folder, or the commit of a model on the Hub.

    Raises:
        UserError: there is no such model.
    """
    name = model.model_name_or_path
    if Path(name).is_dir():
        return hash_path(name)
    try:
        return str(AutoConfig.from_pretrained(name, revision=model.model_revision)._commit_hash)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--model_name_or_path {name} is no model folder and no model on the Hub: {' '.join(str(error).split())}"
        ) from error


def _check_bits(model: ModelConfig) -> list[str]:
    """What keeps a base from being quantised as it is loaded."""
    problems = []
    asked = model.load_in_4bit or model.load_in_8bit
    if asked and not importlib.util.find_spec("bitsandbytes"):
        problems.append("--load_in_4bit and --load_in_8bit need bitsandbytes: pip install 'selfalign[quantize]'.")
    if asked and not model.use_peft:
        flag = "--load_in_4bit" if model.load_in_4bit else "--load_in_8bit"
        problems.append(f"A quantised base ({flag}) is trained through an adapter alone: add --use_peft, or leave out {flag}.")
    return problems


def _check_quantised(model: ModelConfig, settings: dict[str, Any]) -> list[str]:
    """What keeps a base that is quantised already from being trained."""
    if not (quantised := settings.get("quantization_config")):
        return []
    start = f"--model_name_or_path {model.model_name_or_path} is quantised ({quantised.get('quant_method', 'in some way')})"
    if not model.use_peft:
        return [f"{start}: train an adapter with --use_peft, or name the base as it was before."]
    try:
        AutoHfQuantizer.from_config(dict(quantised), pre_quantized=True).validate_environment(
            device_map=None, weights_only=True
        )
    except (ImportError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        return [f"{start}, and cannot be loaded here: {reason}. Or name the base as it was before."]
    return []


def _check_sizes(training: SFTConfig, model: ModelConfig, settings: dict[str, Any]) -> list[str]:
    """What of tokens and rows is more than a base reads."""
    name, problems = model.model_name_or_path, []
    settings = settings | (settings.get("text_config") or {})  # of the text part, where there are several
    window = next((settings[word] for word in WINDOWS if settings.get(word)), None)
    if window and training.max_length and training.max_length > window:
        problems.append(
            f"--max_length {training.max_length} is more than the {window} tokens that {name} reads: set --max_length {window} "
            "or less."
        )
    if rows := settings.get("vocab_size"):
        with contextlib.suppress(UserError):  # that there is no tokenizer is said where it is needed
            if wrong := tell_rowless(load_tokenizer(name, model.model_revision), rows):
                problems.append(
                    f"the tokenizer of {name} {wrong}. Name a base with the tokenizer that it was pretrained with, or one "
                    "whose embeddings were resized to it."
                )
    return problems


def read_settings(model: ModelConfig) -> dict[str, Any]:
    """The base model's configuration; that there is none is said where the model is loaded."""
    try:
        return PreTrainedConfig.get_config_dict(model.model_name_or_path, revision=model.model_revision)[0]
    except (OSError, ValueError):
        return {}


def tell_replaced(tokenizer: PreTrainedTokenizerBase, template: str) -> str | None:
    """The line that says that training replaces a chat template of the base's own; None where it has none, or the same.

    Args:
        tokenizer: as it was loaded.
        template: that of training.
    """
    if not tokenizer.chat_template or tokenizer.chat_template == template:
        return None
    return (
        f"{tokenizer.name_or_path} has a chat template of its own, as chat models have: training and the chat tasks use that "
        "of training in its place."
    )
