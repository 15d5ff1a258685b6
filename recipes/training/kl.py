"""What a model is charged for going from its base on the texts it is trained on: `--kl_to_base`.

A token's loss is -log p + strength * KL(base || model), the divergence in nats of the model's next-token distribution from the
base's at the same place, over the whole vocabulary; where a row weighs or masks, it does so for both. How far a model goes from
its base on what it is trained on foretells what it forgets elsewhere ("RL's Razor", Shenfeld et al. 2025), so that the charge
asks whether data that clashes can be learnt without that harm.
"""

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from peft import PeftModel
from torch.nn import Module
from trl.trainer.utils import FusedCausalLMOutput

from recipes.training.masks import IGNORED


class Base:
    """The model as it was before training: an adapter's base with the adapter off, and else a frozen copy.

    Args:
        model: not trained yet, and not wrapped for an engine.
    """

    def __init__(self, model: Module) -> None:
        self._model = model if isinstance(model, PeftModel) else copy.deepcopy(model).eval().requires_grad_(False)
        if self._model is not model:
            # TRL's own forward is an attribute of the model, and would go on asking the one that was copied.
            self._model.__dict__.pop("forward", None)

    def __call__(self, **inputs: Any) -> Any:
        """The base's outputs, without gradients."""
        with torch.no_grad():
            if not isinstance(self._model, PeftModel):
                self._model.to(inputs["input_ids"].device)
                return self._model(**inputs)
            with self._model.disable_adapter():
                return self._model(**inputs)


def ask_both(
    model: Callable[..., Any], base: Callable[..., Any], inputs: Mapping[str, Any], arithmetic: AbstractContextManager[Any]
) -> tuple[FusedCausalLMOutput, torch.Tensor]:
    """What TRL's fused output layer tells of a micro-batch, and how far the model is from its base at each label.

    Args:
        model: that is trained.
        base: as it was.
        inputs: `input_ids`, `attention_mask` and `labels`, (rows, tokens), and what else the model is asked with.
        arithmetic: in which the base is asked, as the model is.

    Returns:
        `log_probs`, `entropy`, `is_top1` and `label_mask`, and KL(base || model) in nats, each (rows, tokens - 1), the last
        with gradients; 0 where there is no label.
    """
    asked = {name: value for name, value in inputs.items() if name not in ("labels", "fused_lm_head")}
    labels = inputs["labels"][:, 1:]
    mask = labels != IGNORED
    positions = mask.any(0).nonzero().flatten()
    outputs = model(**asked, logits_to_keep=positions)
    with arithmetic:
        before = _take_labelled(base(**asked, logits_to_keep=positions).logits, mask, positions)
    after = _take_labelled(outputs.logits, mask, positions)
    wanted = labels[mask]
    log_probs = after.gather(-1, wanted[:, None]).squeeze(-1)
    found = {
        "log_probs": log_probs,
        "entropy": -(after.exp() * after).sum(-1).detach(),
        "is_top1": after.argmax(-1) == wanted,
        "kl": (before.exp() * (before - after)).sum(-1),
    }
    spread = {name: value.new_zeros(mask.shape).masked_scatter(mask, value) for name, value in found.items()}
    kl = spread.pop("kl")
    return FusedCausalLMOutput(**spread, label_mask=mask, aux_loss=getattr(outputs, "aux_loss", None)), kl


def _take_labelled(logits: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """The log-probabilities of the vocabulary, (labels, vocabulary), before each label."""
    if logits.shape[1] != len(positions):  # of a model that writes all
        logits = logits[:, positions]
    return logits[mask[:, positions]].float().log_softmax(-1)
