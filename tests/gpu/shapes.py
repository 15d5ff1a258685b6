"""Random models of the shapes that are measured, and their small stand-ins for a rehearsal."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, PreTrainedModel

from tests.gpu.bench import ROOT, Bench

RECIPE = ROOT / "recipes/llama-2-7b"
TINY = {"vocab_size": 4096, "hidden_size": 64, "intermediate_size": 128}
TINY |= {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32}


def make_7b(tiny: bool = False, layers: int = 32) -> PreTrainedConfig:
    """Llama 2 of 7B, or of fewer layers; a stand-in has one or two."""
    config = AutoConfig.from_pretrained(RECIPE)
    config.update({"num_hidden_layers": layers} | ({**TINY, "num_hidden_layers": min(layers, 2)} if tiny else {}))
    return config


def make_1b(tiny: bool = False) -> PreTrainedConfig:
    """TinyLlama's shape, 1.1B; a stand-in has one layer."""
    sizes = {"hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 32, "num_key_value_heads": 4}
    sizes |= {"vocab_size": 32_000, "num_hidden_layers": 22, "max_position_embeddings": 2048}
    return LlamaConfig(**(sizes | {**TINY, "num_hidden_layers": 1} if tiny else sizes), tie_word_embeddings=False)


def make_random(config: PreTrainedConfig, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """A model of random weights, made where it is used; on the device `meta` it has none."""
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")


def make_asked(bench: Bench) -> PreTrainedModel:
    """The model of 7B that is asked, in bf16."""
    return make_random(make_7b(bench.tiny), bench.device, torch.bfloat16).eval()
