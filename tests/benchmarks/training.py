"""`python tests/benchmarks/training.py`: how fast samples are trained, all ways in one run, with padding and the loss's memory.

The samples are those of the paper's release where it stands beside the project, else made up. Seconds are processor seconds of
one thread; ratios are what counts. The model is random: its size decides the speed.
"""

import copy
import functools
import json
import operator
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import datasets
import torch
import typer
from tabulate import tabulate
from training_cpu import compare_precisions
from training_sides import (
    PADDED,
    RELEASED,
    SIDES,
    Measured,
    count_flops,
    make_tokenizer,
    make_up_samples,
    read_released,
    run_side,
    tokenize_samples,
)
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from recipes.training.batches import Batches

STEP = 256  # rows: the paper's
BATCH = 2  # rows a micro-batch; four rows of 2,048 tokens would take 4 GiB
MICRO_BATCHES = (1, 2, 4, 8, 16, 32)
CPU = {"use_cpu": True, "bf16": False, "activation_checkpointing": False}


def make_model(vocabulary: int, layers: int = 8) -> PreTrainedModel:
    """A random Llama of hidden size 256 in fp32."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=256, intermediate_size=688, num_hidden_layers=layers, num_attention_heads=8,
        max_position_embeddings=PADDED, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config)


def show_table(rows: list[dict[str, object]]) -> None:
    """Print rows as a table."""
    print(tabulate(rows, headers="keys", floatfmt=".3g", tablefmt="github"), end="\n\n", flush=True)


def measure_alternately(
    make: Callable[[], PreTrainedModel], tokenizer: PreTrainedTokenizerBase, rows: datasets.Dataset, rounds: int
) -> dict[str, Measured]:
    """What each side takes for the rows, one after another, so that a change of the machine's speed meets all sides.

    Each round trains all rows by `trl` and `ours`, of which the median round stands, and its part of the rows by `paper`, whose
    speed is that of any rows; its parts are summed.
    """
    runs: dict[str, list[Measured]] = {side: [] for side in SIDES}
    for part in range(rounds):
        for side, measured in runs.items():
            own = rows.shard(rounds, part) if side == "paper" else rows
            measured.append(run_side(side, make, tokenizer, own, BATCH, **CPU))
    middle = {side: sorted(parts, key=lambda run: run.seconds)[len(parts) // 2] for side, parts in runs.items()}
    return middle | {"paper": functools.reduce(operator.add, runs["paper"])}


def compare_sides(tokenizer: PreTrainedTokenizerBase, rows: datasets.Dataset, rounds: int) -> dict[str, Measured]:
    """Train the same rows by every side and print what each took, against the paper's way."""
    base = make_model(len(tokenizer))
    print(f"## One step of {len(rows)} samples, micro-batches of {BATCH}\n")
    run_side(
        "ours", lambda: copy.deepcopy(base), tokenizer, rows.select(range(BATCH)), BATCH, **CPU
    )  # pays for what is set up once
    found = measure_alternately(lambda: copy.deepcopy(base), tokenizer, rows, rounds)
    show_table(
        [
            {
                "side": f"{side}: {words}",
                "useful tokens a second": found[side].speed,
                "times the paper's": found[side].speed / found["paper"].speed,
                "padded share": found[side].padded,
                "GFLOP a useful token": count_flops(base.config, found[side]) / found[side].useful / 1e9,
            }
            for side, words in SIDES.items()
        ]
    )
    return found


def measure_padding(lengths: list[int]) -> list[dict[str, object]]:
    """The padded share of an epoch in steps of 256 rows, by rows a micro-batch, and what balancing takes."""
    table = []
    order = random.Random(0).sample(lengths, len(lengths))
    for size in MICRO_BATCHES:
        batches = Batches(lengths, effective_batch_size=STEP, dp_size=1, grad_accum=STEP // size, seed=0)
        start = time.perf_counter()
        ours = [[batches.lengths[row] for row in batch] for batch in batches]
        seconds = time.perf_counter() - start
        plain = [order[start : start + size] for start in range(0, len(order), size)]
        shares = [1 - sum(map(sum, parts)) / sum(len(part) * max(part) for part in parts) for parts in (plain, ours)]
        table.append(
            {
                "rows a micro-batch": size,
                "paper": 1 - statistics.mean(lengths) / PADDED,
                "trl": shares[0],
                "ours": shares[1],
                "balancing, ms a step": 1000 * seconds / batches.num_global_batches,
            }
        )
    return table


def compare_memory(vocabulary: int = 151_936, tokens: int = 512) -> float:
    """Print the memory of the loss and its gradient; returns what ours needs of what all logits at once need."""
    words = [sys.executable, str(Path(__file__).with_name("loss_memory.py")), str(vocabulary), str(tokens)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    ours, plain = found["ours"], found["plain"]
    print(f"## The loss of {tokens:,} tokens, {vocabulary:,} words in the vocabulary, on a CPU\n")
    print(
        f"Peak memory beyond the model: ours {ours['bytes'] / 2**30:.2f} GiB, all logits at once {plain['bytes'] / 2**30:.2f}"
    )
    print(f"GiB ({ours['bytes'] / plain['bytes']:.2f} of it). The losses differ by {abs(ours['loss'] - plain['loss']):.1g}.\n")
    return ours["bytes"] / plain["bytes"]


def main(
    rows: Annotated[int, typer.Option(help="Samples that each side trains; a multiple of 2 times the rounds.")] = 16,
    rounds: Annotated[int, typer.Option(help="Alternations of the sides.")] = 2,
    memory: Annotated[bool, typer.Option(help="Measure the memory of the loss, too.")] = True,
) -> None:
    """Train samples padded as the paper does, in TRL's random batches and in ours, and print what each takes."""
    if rows % (BATCH * rounds):
        raise typer.BadParameter(f"{rows} is no multiple of {BATCH} x {rounds} rounds.")
    logging.set_verbosity_error()
    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    print(f"# Training speed: hidden 256, 8 layers, fp32, 1 thread, torch {torch.__version__}\n", flush=True)
    samples = read_released() if RELEASED.is_dir() else make_up_samples(2000)
    tokenizer = make_tokenizer(samples)
    taken = tokenize_samples(tokenizer, samples, max(4 * STEP, rows))
    lengths = [len(ids) for ids in taken["input_ids"][:]]
    told = "of the paper's release" if RELEASED.is_dir() else "made up"
    spread = statistics.quantiles(lengths, n=20)
    print(f"Samples {told}; a byte-level BPE of {len(tokenizer):,} tokens; {statistics.mean(lengths):.0f} tokens a sample on")
    print(f"average, 90% of them {spread[0]:.0f} to {spread[-1]:.0f}.\n")
    print(f"## Padded share of {len(lengths):,} samples in steps of {STEP}\n")
    show_table(measure_padding(lengths))
    compare_sides(tokenizer, taken.select(range(rows)), rounds)
    if memory:
        compare_memory()
        compare_precisions()


if __name__ == "__main__":
    typer.run(main)
