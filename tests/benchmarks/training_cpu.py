"""A small real model's shape on a CPU: LoRA on short rows, in fp32 and in bf16, by TRL's trainer and by ours."""

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from datasets import Dataset
from peft import get_peft_model
from tabulate import tabulate
from training_sides import Measured, make_tokenizer, run_side
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from trl import ModelConfig, get_peft_config

from lm_eval_tasks.contracts.bases import computes_bf16
from recipes.training.tokens import IGNORED

RECIPES = Path(__file__).parents[2] / "recipes"
LORA = {"use_peft": True, "lora_r": 64, "lora_alpha": 16, "lora_target_modules": "all-linear"}
PROMPT, RESPONSE = 56, 8  # tokens: a question without its choices in the chat template, and a choice
CPU = {"use_cpu": True, "activation_checkpointing": False}


def make_rows(vocabulary: int, n: int, seed: int = 0) -> Dataset:
    """Rows of random tokens, of the lengths of questions that are answered by the text of a choice."""
    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        prompt, response = (max(3, round(rng.gauss(mean, mean / 5))) for mean in (PROMPT, RESPONSE))
        ids = [rng.randrange(3, vocabulary) for _ in range(prompt + response)]
        rows.append({"input_ids": ids, "labels": [IGNORED] * prompt + ids[prompt:]})
    return Dataset.from_list(rows)


def make_adapted(shape: str, precision: str) -> PreTrainedModel:
    """A random model of a recipe's shape with its adapter; frozen weights in the precision, trained ones in fp32."""
    torch.manual_seed(0)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(RECIPES / shape), dtype=dtype)
    return get_peft_model(model, get_peft_config(ModelConfig(shape, **LORA)))


def compare_precisions(
    shape: str = "smollm2-135m", rows: int = 16, batch: int = 8, precisions: Sequence[str] = ("fp32", "bf16")
) -> dict[tuple[str, str], Measured]:
    """Train one step of the rows by each trainer in each precision, and print what it took.

    Args:
        shape: a folder of recipes, whose `config.json` gives the shape.
        rows: in the step.
        batch: rows a micro-batch.
        precisions: those tried; fp32 is the first.
    """
    config = AutoConfig.from_pretrained(RECIPES / shape)
    made = make_rows(config.vocab_size, rows)
    tokenizer = make_tokenizer([], 300)
    print(f"## LoRA of the shape of {shape}, {rows} rows of {PROMPT} + {RESPONSE} tokens, micro-batches of {batch}\n")
    if not computes_bf16(torch.cpu.get_capabilities()):
        print("This processor has neither AVX512-BF16 nor AMX: bf16 is slow on it.\n")
    found: dict[tuple[str, str], Measured] = {}
    for precision in precisions:
        settings = CPU | {"bf16": precision == "bf16"}
        for side in ("trl", "ours"):
            words = (side, lambda precision=precision: make_adapted(shape, precision), tokenizer)
            run_side(*words, made.select(range(batch)), batch, **settings)  # pays for what is set up once
            found[precision, side] = run_side(*words, made, batch, **settings)
    first = found[precisions[0], "trl"].speed
    table = [
        {
            "arithmetic": precision,
            "trainer": {"trl": "TRL's: logits of all tokens", "ours": "ours: logits where there is loss"}[side],
            "useful tokens a second": own.speed,
            "times the first": own.speed / first,
            "loss": own.loss,
        }
        for (precision, side), own in found.items()
    ]
    print(tabulate(table, headers="keys", floatfmt=".3g", tablefmt="github"), end="\n\n", flush=True)
    return found
