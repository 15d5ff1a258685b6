"""Whether a prompt begins with the beginning-of-sequence token, and whether it has to.

A tokenizer's own habit is what a model was pretrained with: Gemma without that token is a broken model. So it is the default
of training and of asking. The paper's training has none whatever the tokenizer does, and a run's manifest says which it was.
"""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from lm_eval_tasks.checking.protocol import Demonstrating
from lm_eval_tasks.checking.tokenizer import load_tokenizer
from lm_eval_tasks.contracts.bases import begins_with_bos
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.manifest import read_manifest


def find_asked(arguments: Mapping[str, Any]) -> bool | None:
    """Whether the prompts of a run begin with the token; None where no tokenizer can be read that tells it.

    Args:
        arguments: the model's, from `--model_args`: `add_bos_token`, else what the tokenizer does by itself.
    """
    tokenizer = load_tokenizer(arguments)
    return None if tokenizer is None else begins_with_bos(tokenizer, arguments.get("add_bos_token"))


def find_trained(arguments: Mapping[str, Any]) -> bool | None:
    """Whether the texts that a model was trained on began with the token; None where it was not trained here.

    Args:
        arguments: the model's: its adapter (`peft`), else its folder (`pretrained`), whose manifest tells it. Versions that did
            not say it trained without.
    """
    manifest = read_manifest(str(arguments.get("peft") or arguments.get("pretrained") or "")) or {}
    return bool(manifest["config"].get("add_bos_token", False)) if manifest.get("stage") == "train" else None


def check_beginning(task: Demonstrating, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise a `UserError` where a prompt begins not as in training or in the paper: with a beginning of sequence or not.

    Where the tokenizer has no such token, there is nothing to choose.
    """
    metadata = task.config.metadata
    chat = metadata["prompt"] == "chat"
    wanted = find_trained(metadata) if chat else metadata.get("bos")
    if wanted is None or tokenizer.bos_token_id is None or find_asked(metadata) == wanted:
        return
    reason = "the model was trained" if chat else "the paper did"
    raise UserError(
        f"{task.config.task} asks with{'' if wanted else 'out'} a beginning-of-sequence token, as {reason}: "
        f"add add_bos_token={wanted} to --model_args."
    )
