"""The tokenizer of the model that a run asks, without the model: what lets a task be checked before anything is loaded."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase


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
