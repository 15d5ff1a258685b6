"""The tokenizer and the window of the model that a run asks, without the model: what lets a task be checked beforehand."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from lm_eval.models.utils import resolve_max_length
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

# What of `--model_args` says where the files of a model are.
WHERE = ("revision", "trust_remote_code", "subfolder", "gguf_file")
Options = tuple[tuple[str, Any], ...]


def list_options(arguments: Mapping[str, Any]) -> Options:
    """How lm-eval reads the files of the model that `--model_args` names."""
    given = {name: arguments[name] for name in WHERE if arguments.get(name)}
    given |= {"revision": str(given.get("revision", "main")), "trust_remote_code": bool(given.get("trust_remote_code"))}
    return tuple(given.items())


def load_tokenizer(arguments: Mapping[str, Any]) -> PreTrainedTokenizerBase | None:
    """The tokenizer that `--model_args` names, or None where they name none that can be read here.

    Args:
        arguments: the model's arguments: `tokenizer`, else `pretrained`, with `revision`, `trust_remote_code`, `subfolder` and,
            for the model's own, `gguf_file`.
    """
    name = arguments.get("tokenizer") or arguments.get("pretrained")
    if not isinstance(name, str):
        return name if isinstance(name, PreTrainedTokenizerBase) else None
    options = list_options(arguments)
    return _load(name, tuple(pair for pair in options if pair[0] != "gguf_file") if arguments.get("tokenizer") else options)


@lru_cache(maxsize=4)
def _load(name: str, options: Options) -> PreTrainedTokenizerBase | None:
    try:
        return AutoTokenizer.from_pretrained(name, **dict(options))
    except (OSError, ValueError, KeyError, ImportError):
        return None  # a backend may read names that transformers does not


def find_window(arguments: Mapping[str, Any]) -> int | None:
    """How many tokens the model that `--model_args` names reads at most, by lm-eval's own rule; None where nobody knows here.

    Args:
        arguments: the model's arguments: `max_length` (vLLM's `max_model_len`), else the configuration of `pretrained`.
    """
    if given := arguments.get("max_length") or arguments.get("max_model_len"):
        return int(given)
    config = load_config(arguments)
    return config and resolve_max_length(config, load_tokenizer(arguments))


def load_config(arguments: Mapping[str, Any]) -> PreTrainedConfig | None:
    """The configuration of the model that `--model_args` names, or None where it cannot be read here."""
    name = arguments.get("pretrained")
    return _load_config(name, list_options(arguments)) if isinstance(name, str) else None


@lru_cache(maxsize=4)
def _load_config(name: str, options: Options) -> PreTrainedConfig | None:
    try:
        return AutoConfig.from_pretrained(name, **dict(options))
    except (OSError, ValueError, KeyError, ImportError):
        return None
