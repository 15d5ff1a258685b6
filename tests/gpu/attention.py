"""Attention's ways beside each other: eager, SDPA and flash attention, where all rows are alike and where some are padded."""

import importlib.util
from collections.abc import Iterator

import torch
from transformers import AutoModelForCausalLM

from tests.gpu.bench import Bench, Row
from tests.gpu.rates import time_calls
from tests.gpu.shapes import make_7b

WAYS = ("eager", "sdpa", "flash_attention_2")
LENGTHS = (300, 2048)  # tokens of a row
TOKENS = 19_200  # of a micro-batch, about


def compare_attention(bench: Bench) -> Iterator[Row]:
    """Forward and backward passes of two layers of 7B in bf16."""
    config = make_7b(bench.tiny, 2)
    for way in WAYS:
        if way.startswith("flash") and (bench.tiny or not importlib.util.find_spec("flash_attn")):
            yield {"attention": way, "not tried": "it needs a GPU" if bench.tiny else "the package flash-attn is not installed"}
            continue
        torch.manual_seed(0)
        with torch.device(bench.device):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation=way)
        for length in LENGTHS[: bench.choose(2, 1)]:
            ids = torch.randint(3, config.vocab_size, (bench.choose(TOKENS // length, 2), length), device=bench.device)
            for padded in (0, length // 10):
                mask = torch.ones_like(ids)
                mask[0, length - padded :] = 0
                yield {"attention": way, "rows": len(ids), "tokens a row": length, "padded in one row": padded} | _time(
                    bench, model, ids, mask
                )


def _time(bench: Bench, model: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> Row:
    labels = ids.masked_fill(mask == 0, -100)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()

    if not bench.tiny:
        torch.cuda.reset_peak_memory_stats()
    seconds = time_calls(step, bench.device, bench.choose(5, 1))
    return {
        "tokens a second": ids.numel() / seconds,
        "peak GiB": 0.0 if bench.tiny else torch.cuda.max_memory_allocated() / 2**30,
    }
