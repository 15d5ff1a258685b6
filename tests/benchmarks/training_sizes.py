"""Full fine-tuning and QLoRA of models of a size, padded as the paper does and in ours: what the GPU check measures."""

from pathlib import Path

import datasets
import torch
from tabulate import tabulate
from training_sides import Measured, count_flops, run_side
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from trl import ModelConfig, get_peft_config, get_quantization_config

# What the recipes' full.yaml and qlora.yaml say of a Llama.
METHODS = {
    "full": {},
    "qlora": {
        "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "use_bnb_nested_quant": True,
        "use_peft": True, "lora_r": 64, "lora_alpha": 16, "lora_dropout": 0.1, "lora_target_modules": "all-linear",
    },
}  # fmt: skip
OPTIMIZERS = {"full": "adamw_torch_fused", "qlora": "paged_adamw_32bit"}


def save_random(config: PreTrainedConfig, folder: Path, device: str) -> Path:
    """Write a random model in bf16, made on a device, as a folder that `from_pretrained` reads."""
    torch.manual_seed(0)
    with torch.device(device):
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def make_llama(hidden: int, inner: int, layers: int, heads: int, groups: int) -> PreTrainedConfig:
    """A Llama with the vocabulary of Llama 2 and rows of at most 2,048 tokens."""
    return LlamaConfig(
        vocab_size=32_000, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=groups, max_position_embeddings=2048, tie_word_embeddings=False,
    )  # fmt: skip


def load_model(folder: Path, method: str) -> PreTrainedModel:
    """A saved model as a method of training loads it, with an adapter where it trains one."""
    settings = ModelConfig(str(folder), dtype="bfloat16", **METHODS[method])
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, attn_implementation="sdpa", quantization_config=get_quantization_config(settings)
    )
    if not settings.use_peft:
        return model
    from peft import get_peft_model

    adapted = get_peft_model(model, get_peft_config(settings))
    adapted.enable_input_require_grads()  # checkpointing needs them where the weights are frozen
    return adapted


def compare_padding(
    folder: Path,
    method: str,
    tokenizer: PreTrainedTokenizerBase,
    rows: datasets.Dataset,
    batches: dict[str, int],
    peak: float | None,
    **settings: object,
) -> dict[str, Measured]:
    """Train one step of the rows by each side and print what it took.

    Args:
        folder: a saved model.
        method: one of `METHODS`.
        tokenizer: gives the token to pad with.
        rows: `input_ids` and `labels`.
        batches: side -> rows a micro-batch.
        peak: floating-point operations a second that the device does in bf16, if it is known.
        **settings: further ones of `SFTConfig`.
    """
    config = AutoConfig.from_pretrained(folder)
    found = {}
    for side, batch in batches.items():
        words = (side, lambda: load_model(folder, method), tokenizer)
        run_side(*words, rows.select(range(batch)), batch, optim=OPTIMIZERS[method], **settings)  # pays for what is set up once
        found[side] = run_side(*words, rows, batch, optim=OPTIMIZERS[method], **settings)
    table = []
    for side, own in found.items():
        flops = count_flops(config, own, frozen=method != "full") / own.seconds
        table.append(
            {
                "method": method,
                "side": side,
                "rows a micro-batch": batches[side],
                "tokens a second": own.tokens / own.seconds,
                "useful tokens a second": own.speed,
                "TFLOP/s": flops / 1e12,
                "MFU": flops / peak if peak else None,
                "MFU of useful tokens": flops / peak * (1 - own.padded) if peak else None,
                "peak GiB": own.memory / 2**30,
            }
        )
    print(tabulate(table, headers="keys", floatfmt=".3g", tablefmt="github"), end="\n\n", flush=True)
    return found
