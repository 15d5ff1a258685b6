"""The tokenizer and the window of the model that a run asks, without the model: what lets a task be checked beforehand."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from lm_eval.models.utils import resolve_max_length
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase


def load_tokenizer(arguments: Mapping[str, Any]) -> PreTrainedTokenizerBase | None:
    """The tokenizer that `--model_args` names, or None where they name none that can be read here.

    Args:
        arguments: the model's arguments: `tokenizer`, else `pretrained`, with `revision` and `trust_remote_code`.
    """
    name = arguments.get("tokenizer") or arguments.get("pretrained")
    if not isinstance(name, str):
        return name if isinstance(name, PreTrainedTokenizerBase) else None
    return _load(name, str(arguments.get("revision") or "main"), bool(arguments.get("trust_remote_code")))


@lru_cache(maxsize=4)
def _load(name: str, revision: str, trust_remote_code: bool) -> PreTrainedTokenizerBase | None:
    try:
        return AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError):
        return None  # a backend may read names that transformers does not


def find_window(arguments: Mapping[str, Any]) -> int | None:
    """How many tokens the model that `--model_args` names reads at most, by lm-eval's own rule; None where nobody knows here.

    Args:
        arguments: the model's arguments: `max_length` (vLLM's `max_model_len`), else the configuration of `pretrained`.
    """
    if given := arguments.get("max_length") or arguments.get("max_model_len"):
        return int(given)
    name = arguments.get("pretrained")
    if not isinstance(name, str):
        return None
    config = load_config(name, str(arguments.get("revision") or "main"), bool(arguments.get("trust_remote_code")))
    return config and resolve_max_length(config, load_tokenizer(arguments))


@lru_cache(maxsize=4)
def load_config(name: str, revision: str, trust_remote_code: bool) -> PreTrainedConfig | None:
    """A model's configuration, or None where it cannot be read here."""
    try:
        return AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError):
        return None
