"""How fast models of 1B and 7B are trained as the recipes say, beside the paper's padding, and in how much memory."""

import math
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from training_sides import (
    RELEASED,
    Measured,
    count_flops,
    make_tokenizer,
    make_up_samples,
    read_released,
    run_side,
    tokenize_samples,
)
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from trl import ModelConfig, get_peft_config, get_quantization_config
from trl.trainer.utils import get_peak_flops

from recipes.memory import estimate_memory, measure_model, read_recipe
from recipes.miniworld.pretrain import train_tokenizer
from recipes.miniworld.training import train_model
from recipes.miniworld.world import make_world
from recipes.training.tokens import IGNORED
from recipes.yaml_files import read_yaml
from tests.gpu.bench import ROOT, Bench, Row
from tests.gpu.rates import measure_rate, name_device
from tests.gpu.shapes import RECIPE, make_1b, make_7b, make_random

PAPER = 4  # rows a micro-batch of the paper's side: at 2,048 tokens each, more than ours has in 16
OURS = 16
ROW, RESPONSE = 300, 100  # tokens of a row where all are alike, and of its response
SIZES = (4, 8, 16, 32)  # rows a micro-batch that are tried
MFU = 0.45  # wanted of full fine-tuning
TIMES = 5  # the paper's useful tokens a second that are wanted
NEAR = 0.15  # how far an estimate of memory may be off


def train_layers(bench: Bench) -> Iterator[Row]:
    """Full fine-tuning of two layers of 7B."""
    yield from _train(bench, make_7b(bench.tiny, 2), "full")


def train_1b(bench: Bench) -> Iterator[Row]:
    """Full fine-tuning of 1B."""
    yield from _train(bench, make_1b(bench.tiny), "full")


def train_lora(bench: Bench) -> Iterator[Row]:
    """LoRA of 7B."""
    yield from _train(bench, make_7b(bench.tiny), "lora")


def train_qlora(bench: Bench) -> Iterator[Row]:
    """LoRA of 7B in 4 bits."""
    yield from _train(bench, make_7b(bench.tiny), "qlora")


def _train(bench: Bench, config: PreTrainedConfig, method: str) -> Iterator[Row]:
    samples = read_released() if RELEASED.is_dir() and not bench.tiny else make_up_samples(bench.choose(2000, 40))
    tokenizer = make_tokenizer(samples, bench.choose(config.vocab_size, 600))
    rows = tokenize_samples(tokenizer, samples, bench.choose(128, 4))
    found = {}
    for side, most, n in (("paper", PAPER, bench.choose(16, 1)), ("ours", OURS, len(rows))):
        batch = min(most, n)
        found[side] = _run(bench, config, method, tokenizer, side, rows.select(range(n)), batch)
        yield describe_side(bench, config, method, side, batch, found[side])
    ours, paper = found["ours"], found["paper"]
    mfu, _ = find_mfu(bench, config, method, ours)
    yield bench.claim("losses are numbers, and near each other", "within 5%", ours.loss / paper.loss,
                      math.isfinite(ours.loss) and abs(ours.loss / paper.loss - 1) < 0.05)  # fmt: skip
    if method == "full":
        yield bench.claim("MFU", f"at least {MFU}", mfu, mfu >= MFU, gpu=True)
    yield bench.claim("times the paper's useful tokens a second", f"at least {TIMES}", ours.speed / paper.speed,
                      ours.speed >= TIMES * paper.speed, gpu=True)  # fmt: skip
    yield bench.claim("peak GiB, less than the paper's", paper.memory / 2**30, ours.memory / 2**30,
                      ours.memory < paper.memory, gpu=True)  # fmt: skip
    yield judge_memory(bench, config, method, ours, "")


def compare_batches(bench: Bench) -> Iterator[Row]:
    """Rows a micro-batch: speed and memory where all rows have 300 tokens."""
    config, generator = make_7b(bench.tiny), torch.Generator().manual_seed(0)
    ids = torch.randint(3, config.vocab_size, (bench.choose(64, 8), ROW), generator=generator).tolist()
    rows = Dataset.from_dict({"input_ids": ids, "labels": [[IGNORED] * (ROW - RESPONSE) + row[-RESPONSE:] for row in ids]})
    tokenizer, found = make_tokenizer([], 300), {}
    for size in SIZES[: bench.choose(len(SIZES), 2)]:
        found[size] = _run(bench, config, "lora", tokenizer, "ours", rows, size)
        yield describe_side(bench, config, "lora", "ours", size, found[size])
        yield judge_memory(bench, config, "lora", found[size], f", {size} rows a micro-batch")
    recipe = read_recipe(RECIPE / "lora.yaml")[1]["per_device_train_batch_size"]
    best = max(found, key=lambda size: found[size].speed)
    share = found[recipe].speed / found[best].speed
    yield bench.claim(
        f"the recipe's {recipe} rows a micro-batch, of the speed of {best}", "at least 0.95", share, share >= 0.95, gpu=True
    )


def _run(bench: Bench, config: PreTrainedConfig, method: str, tokenizer: Any, side: str, rows: Dataset, batch: int) -> Measured:
    model, settings = read_recipe(RECIPE / f"{method}.yaml")
    options = {name: settings[name] for name in ("bf16", "activation_checkpointing", "optim") if name in settings}
    options |= {"use_cpu": True, "optim": "adamw_torch"} if bench.tiny else {}
    return run_side(side, partial(load_model, bench, config, model), tokenizer, rows, batch, warm=1, **options)


def load_model(bench: Bench, config: PreTrainedConfig, settings: ModelConfig) -> PreTrainedModel:
    """A random model as a recipe loads one, with its adapter where it trains one."""
    dtype = getattr(torch, settings.dtype)
    if settings.load_in_4bit:
        if not (folder := bench.scratch / "model").is_dir():
            make_random(config, bench.device, dtype).save_pretrained(folder)
        quantized = {"quantization_config": get_quantization_config(settings), "attn_implementation": "sdpa"}
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, device_map=bench.device, **quantized)
    else:
        model = make_random(config, bench.device, dtype)
    if not settings.use_peft:
        return model
    from peft import get_peft_model

    adapted = get_peft_model(model, get_peft_config(settings))
    adapted.enable_input_require_grads()  # checkpointing needs them where the weights are frozen
    return adapted


def find_mfu(bench: Bench, config: PreTrainedConfig, method: str, own: Measured) -> tuple[float, str]:
    """What share of the device's peak a step makes use of; where that is not known, of what a large product reaches."""
    known = None if bench.tiny else get_peak_flops(name_device(bench), "bfloat16")
    peak = known or measure_rate(bench)
    return count_flops(config, own, frozen=method != "full") / own.seconds / peak, "peak" if known else "measured"


def describe_side(bench: Bench, config: PreTrainedConfig, method: str, side: str, batch: int, own: Measured) -> Row:
    """What one side took."""
    mfu, of = find_mfu(bench, config, method, own)
    return {
        "method": method,
        "side": side,
        "layers": config.num_hidden_layers,
        "rows a micro-batch": batch,
        "useful tokens a second": own.speed,
        "tokens a second": own.tokens / own.seconds,
        f"MFU ({of})": mfu,
        "peak GiB": own.memory / 2**30,
        "loss": own.loss,
    }


def judge_memory(bench: Bench, config: PreTrainedConfig, method: str, own: Measured, where: str) -> Row:
    """The peak against what `recipes.memory` estimates of the largest micro-batch."""
    sizes = measure_model(config, read_recipe(RECIPE / f"{method}.yaml")[0])
    estimate = estimate_memory(config, sizes, "single_gpu", 1, 1, 1, own.largest).total
    return bench.claim(f"peak GiB, as estimated{where}", f"{estimate / 2**30:.3g} (within 15%)", own.memory / 2**30,
                       abs(own.memory / estimate - 1) <= NEAR, gpu=True)  # fmt: skip


def pretrain_miniature(bench: Bench) -> Iterator[Row]:
    """A few steps of the miniature base's pretraining, of more rows each."""
    folder = ROOT / "recipes/miniworld"
    settings, world = read_yaml(folder / "pretrain.yaml"), make_world(read_yaml(folder / "world.yaml"))
    settings["reading"]["training"] = {"steps": 0}
    tokenizer = train_tokenizer(world, settings)
    for rows in bench.choose((16, 128), (4,)):
        settings["training"] |= {"rows": rows, "max_steps": bench.choose(100, 3)}
        start = time.perf_counter()
        _, told = train_model(world, settings, tokenizer, bench.device)
        seconds = time.perf_counter() - start  # the corpus is counted and written meanwhile
        yield {"rows a step": rows, "steps": told["steps"], "tokens a second": told["tokens"] / seconds, "seconds": seconds}
