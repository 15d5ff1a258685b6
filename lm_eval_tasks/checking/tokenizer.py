"""The tokenizer and the window of the model that a run asks, without the model: what lets a task be checked beforehand."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from lm_eval.models.utils import resolve_max_length
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from lm_eval_tasks.contracts.errors import UserError

# What of `--model_args` says where the files of a model are.
WHERE = ("revision", "trust_remote_code", "subfolder", "gguf_file")
SAMPLE = "Which one?\n\nA. 3.14 caf\u00e9s\nB. \u7b54\u6848\nAnswer: A"  # text on which tokenizers are compared
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


def check_same_tokenizer(arguments: Mapping[str, Any]) -> None:
    """Raise a `UserError` where `tokenizer` names one that gives other token ids than that of the checkpoint, `pretrained`.

    Args:
        arguments: the model's. Where either cannot be read here, nothing is compared.
    """
    if not arguments.get("tokenizer"):
        return
    own = load_tokenizer({name: value for name, value in arguments.items() if name != "tokenizer"})
    given = load_tokenizer(arguments)
    if own is None or given is None:
        return
    vocabularies = [dict(tokenizer.get_vocab()) for tokenizer in (own, given)]
    differ = [token for token, number in vocabularies[0].items() if vocabularies[1].get(token) != number]
    if differ or own(SAMPLE)["input_ids"] != given(SAMPLE)["input_ids"]:
        what = f"{len(differ)} tokens have other ids, {differ[0]!r} is the first" if differ else "it divides texts otherwise"
        raise UserError(
            f"the tokenizer {arguments['tokenizer']} is not that of {arguments['pretrained']}: {what}, so other tokens would "
            "be read than the model was trained on. Leave tokenizer= out, or name a copy of the model's own."
        )


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
