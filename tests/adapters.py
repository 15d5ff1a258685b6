"""Adapters of the miniature base, whose embeddings and output layer share their weights, with weights that are not zero."""

import torch
from conftest import BASE
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

IDS = torch.arange(10, 30)[None]
SETTINGS = {
    "attention": {"target_modules": ["q_proj"]},
    "all linear": {"target_modules": "all-linear"},
    "embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "head by pattern": {"target_modules": r".*\.(q_proj)|lm_head"},
    "both": {"target_modules": ["embed_tokens", "lm_head"]},
    "saved head": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "saved embeddings": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "some tokens": {"target_modules": ["q_proj"], "trainable_token_indices": [12, 13]},
}


def save_adapter(folder, settings, base=BASE):
    """An adapter of the miniature base whose weights are not zero; the logits of its model."""
    torch.manual_seed(0)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=4, task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += 0.02 * torch.randn_like(weight)
    model.save_pretrained(folder)
    with torch.no_grad():
        return model.eval()(IDS).logits
