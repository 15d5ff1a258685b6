"""Whether lm-eval asks an adapter as it was trained: tried without the weights of either."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from lm_eval_tasks.checking.tokenizer import Options, list_options, load_config
from lm_eval_tasks.contracts.errors import UserError


def check_adapter(arguments: Mapping[str, Any]) -> None:
    """Raise a `UserError` where `--model_args` name an adapter (`peft`) that lm-eval would not ask as it was trained.

    Args:
        arguments: the model's arguments.

    Raises:
        UserError: the adapter cannot be read or does not fit the model, or it is lost when lm-eval ties the model's ends again.
    """
    base, adapter = arguments.get("pretrained"), arguments.get("peft")
    if not (isinstance(base, str) and isinstance(adapter, str)):
        return
    try:
        kept = survives_tying(adapter, base, list_options(arguments))
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"the adapter {adapter} cannot be read, or does not fit {base}: {reason}") from error
    if not kept:
        raise UserError(
            f"the adapter {adapter} changes the output layer or the embeddings of {base}, which share their weights, and "
            "lm-eval lets them share again, so that it would stop or ask another model than was trained. Merge the adapter "
            f"(`python -m recipes.merge {adapter} --output FOLDER`), and ask with pretrained=FOLDER."
        )


@lru_cache(maxsize=4)
def survives_tying(adapter: str, base: str, options: Options) -> bool:
    """Whether an adapter is the same after lm-eval has tied output layer and embeddings; on a model without weights.

    PEFT puts modules of its own in the place of those that an adapter changes. Tying then either fails, or gives the output
    layer the embeddings of the adapter in place of those of the base.
    """
    from peft import PeftConfig, PeftModel  # seconds, which a run without an adapter need not wait for

    where = dict(options)
    settings = PeftConfig.from_pretrained(adapter, revision=where["revision"])
    config = load_config({"pretrained": base, **where})
    if config is None or settings.is_prompt_learning or not config.get_text_config().tie_word_embeddings:
        return True
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=where["trust_remote_code"])
        adapted = PeftModel(model, settings)
    output = model.get_output_embeddings().weight
    try:
        adapted.tie_weights()
    except (KeyError, AttributeError):
        return False
    return model.get_output_embeddings().weight is output
