"""Tiny random models of many architectures, and requests that share prefixes in many ways."""

import random

import torch
from lm_eval.api.instance import Instance
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    OPTConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "max_position_embeddings": 512}
LLAMA = SIZES | HEADS

# A window shorter than the inputs, and one longer: where it cuts, rows hold one input each.
CONFIGS = {
    "llama": (LlamaConfig, LLAMA),
    "mistral": (MistralConfig, LLAMA | {"sliding_window": 64}),
    "mistral, wide window": (MistralConfig, LLAMA | {"sliding_window": 4096}),
    "qwen2": (Qwen2Config, LLAMA),
    "qwen2, sliding": (Qwen2Config, LLAMA | {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1}),
    "qwen3": (Qwen3Config, LLAMA | {"head_dim": 8}),
    "gpt2": (GPT2Config, {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 512}),
    "gpt_neox": (GPTNeoXConfig, SIZES | {"num_attention_heads": 4}),
    "gemma2": (Gemma2Config, LLAMA | {"head_dim": 8, "sliding_window": 64}),
    "gemma3": (Gemma3TextConfig, LLAMA | {"head_dim": 8, "sliding_window": 64}),
    "gemma3, wide window": (Gemma3TextConfig, LLAMA | {"head_dim": 8, "sliding_window": 4096}),
    "opt": (OPTConfig, SIZES | {"num_attention_heads": 4, "ffn_dim": 64, "word_embed_proj_dim": 32}),
    "olmo2": (Olmo2Config, LLAMA),
    "phi3": (Phi3Config, LLAMA | {"pad_token_id": 0}),
    "mixtral": (MixtralConfig, LLAMA | {"num_local_experts": 4}),
    "granite": (GraniteConfig, LLAMA | {"logits_scaling": 2.0}),
}
UNKNOWN: tuple[type[PreTrainedConfig], dict] = (BloomConfig, {"hidden_size": 32, "n_layer": 2, "n_head": 4})


def make_model(config: type[PreTrainedConfig], settings: dict, vocabulary: int, seed: int = 0) -> PreTrainedModel:
    """A random model whose answers differ from question to question (weights are larger than a fresh model's)."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config(vocab_size=vocabulary, **settings)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(2)
    return model


def make_requests(blocks: int = 3, questions: int = 16, orders: int = 3, seed: int = 0) -> list[Instance]:
    """Questions after few-shot blocks and after none, each in several orders of its choices, scored by letters or by texts.

    Some questions begin alike, continuations have one to six tokens, and some requests come twice.
    """
    rng = random.Random(seed)
    words = ["moss", "soil", "bloom", "the", "cure", "Which", "x9!"]

    def write(n: int) -> str:
        return " ".join(rng.choices(words, k=n))

    heads = [""]
    for number in range(blocks):
        shots = [f"{write(8)}\nAnswer: {write(1)}" for _ in range(5)]
        heads.append("\n\n".join([f"Questions about {number}.", *shots, ""]))
    pairs = []
    for number in range(questions):
        head, stem = rng.choice(heads), write(rng.randint(1, 12))
        choices = [write(rng.randint(1, 6)) for _ in range(4)]
        for order in range(orders):
            shown = choices[order:] + choices[:order]
            listing = "".join(f"\n{letter}. {choice}" for letter, choice in zip("ABCD", shown, strict=True))
            pairs += [(f"{head}{stem}{listing}\nAnswer:", f" {letter}") for letter in "ABCD"]
        if number % 3 == 0:
            pairs += [(f"{head}{stem}\nAnswer:", f" {choice}") for choice in choices]
    rng.shuffle(pairs)
    return [Instance("loglikelihood", {}, pair, 0) for pair in [*pairs, *pairs[:8]]]
