"""`python tests/benchmarks/probing.py`: how fast questions are asked, all sides in one run, with tokens and FLOPs.

On a CPU seconds are processor seconds of one thread; ratios are what counts. The model is random: its size decides the speed.
"""

import copy
import statistics
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from sides import LETTERS, Measured, Sizes, Writer, count_flops, make_side, measure
from tabulate import tabulate
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

TOKENIZER = Path(__file__).parents[2] / "recipes/miniworld/base"
ROUNDS = 5
SHARES = (0.0, 0.25, 0.5, 0.75, 0.85, 0.95)


def make_model(vocabulary: int) -> PreTrainedModel:
    """A random Llama of hidden size 256 and 8 layers in fp32."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=256, intermediate_size=688, num_hidden_layers=8, num_attention_heads=8,
        max_position_embeddings=2048,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config).eval()


def show_table(rows: list[dict[str, object]]) -> None:
    """Print rows as a table."""
    print(tabulate(rows, headers="keys", floatfmt=".3g", tablefmt="github"), end="\n\n", flush=True)


def find_difference(one: Measured, other: Measured) -> float:
    """The largest difference between two sides' log-probabilities, in nats."""
    pairs = zip(one.answers, other.answers, strict=True)
    return max(abs(a - b) for own, their in pairs for a, b in zip(own, their, strict=True))


def compare_sides(
    names: list[str], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str], title: str
) -> dict[str, Measured]:
    """Ask the same prompts by every side and print what each took, against the first."""
    every, needed = count_flops(model, tokenizer, prompts, False), count_flops(model, tokenizer, prompts, True)
    allowed = every[1] / needed[1]
    print(f"## {title}\n\n{len(prompts)} prompts. A plain loop: {every[0]:,} tokens, {every[1] / 1e12:.3f} TFLOP; each prefix")
    print(
        f"once: {needed[0]:,} tokens, {needed[1] / 1e12:.3f} TFLOP. So the FLOPs allow {allowed:.2f} times the loop's speed.\n"
    )
    for name in names:  # the first call of a shape pays for what is set up once
        make_side(name, model, tokenizer)(prompts[:2])
    found = measure_alternately(names, model, tokenizer, prompts)
    first = found[names[0]]
    show_table(
        [
            {
                "side": name,
                "prompts a second": len(prompts) / own.seconds,
                "times the first": first.seconds / own.seconds,
                "of what FLOPs allow": first.seconds / own.seconds / allowed,
                "tokens read": f"{own.tokens:,}",
                "largest difference (nats)": find_difference(own, first),
            }
            | ({"peak GiB": own.memory / 2**30} if own.memory else {})
            for name, own in found.items()
        ]
    )
    return found


def measure_alternately(
    names: list[str], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str]
) -> dict[str, Measured]:
    """What each side takes for all prompts, measured alternately, so that a change of the machine's speed meets all sides.

    Each round asks a part of the prompts by every side that shares nothing, whose parts are summed, and all of them by
    `hf-prefix`, of which the round of median time stands.
    """
    sides = {name: make_side(name, model, tokenizer) for name in names}
    runs: dict[str, list[Measured]] = {name: [] for name in names}
    size = -(-len(prompts) // ROUNDS)
    for start in range(0, len(prompts), size):
        for name, side in sides.items():
            part = prompts if "prefix" in name else prompts[start : start + size]
            runs[name].append(measure(side, model, part))
    middle = {name: sorted(parts, key=lambda run: run.seconds)[len(parts) // 2] for name, parts in runs.items()}
    return {name: middle[name] if "prefix" in name else join_runs(parts) for name, parts in runs.items()}


def join_runs(parts: list[Measured]) -> Measured:
    """One side's parts as one run."""
    return Measured(
        [answer for part in parts for answer in part.answers],
        sum(part.seconds for part in parts),
        sum(part.tokens for part in parts),
        max(part.memory for part in parts),
    )


def compare_cyclic(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, n: int) -> None:
    """Cyclic probing with the stem shared, against four separate probes by `hf`."""
    sizes = Sizes()
    prompts = Writer(tokenizer, 1).write_cyclic(n, sizes)
    one, two = (tokenizer(prompt)["input_ids"] for prompt in prompts[:2])
    common = next(k for k, (a, b) in enumerate(zip(one, two, strict=False)) if a != b)
    head = len(tokenizer(prompts[0][: prompts[0].rindex("\n\n")])["input_ids"])
    share = (common - head) / (len(one) - head)
    orders = len(LETTERS)
    names = ["loop", "hf 1", "hf-prefix 8", "hf-prefix auto"]
    found = compare_sides(names, model, tokenizer, prompts, f"{n} questions under {orders} cyclic orders, 5-shot")
    ratio = found["hf 1"].seconds / found["hf-prefix 8"].seconds
    print(f"The stem is {share:.2f} of a question's tokens. hf-prefix: {ratio:.2f} times {orders} separate `hf` probes.\n")


def compare_shares(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, n: int, rounds: int) -> None:
    """`hf-prefix` against `hf` at several shares of the prompt that questions have in common, in alternation."""
    print(f"## Shares of the prompt in common, {n} prompts of about 300 tokens, medians of {rounds} alternations\n")
    rows = []
    for share in SHARES:
        writer = Writer(tokenizer, 2)
        head = writer.write_words(int(300 * share))
        prompts = [f"{head}\n{writer.write_words(300 - int(300 * share))}\nAnswer:" for _ in range(n)]
        for batch in (1, 8):
            sides = [make_side(f"{kind} {batch}", model, tokenizer) for kind in ("hf", "hf-prefix")]
            pairs = [[measure(side, model, prompts).seconds for side in sides] for _ in range(rounds)]
            ratios = sorted(hf / own for hf, own in pairs)
            rows.append(
                {
                    "share": share,
                    "batch size": batch,
                    "hf-prefix / hf, speed": statistics.median(ratios),
                    "least": ratios[0],
                    "most": ratios[-1],
                }
            )
    show_table(rows)


def compare_half(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, n: int) -> None:
    """In bf16 any other batch shape moves log-probabilities: `hf-prefix` beside `hf` with another batch size."""
    half = copy.deepcopy(model).to(torch.bfloat16)
    prompts = Writer(tokenizer, 3).write_prompts(n, Sizes())
    print(f"## bf16, log-probabilities in fp32 (`softmax_dtype=float32`), {n} prompts, against `hf` at batch size 1\n")
    first, *others = (
        measure(make_side(name, half, tokenizer), half, prompts).answers for name in ("hf 1", "hf 8", "hf-prefix 8")
    )
    truth = torch.tensor(first)
    rows = []
    for name, answers in zip(("hf 8", "hf-prefix 8"), map(torch.tensor, others), strict=True):
        same = int((answers.argmax(1) == truth.argmax(1)).sum())
        gap = (answers.softmax(1) - truth.softmax(1)).abs().max().item()
        nats = (answers - truth).abs().max().item()
        rows.append({"side": name, "same choice": f"{same} of {n}", "largest difference (nats)": nats, "in probability": gap})
    show_table(rows)


def main(
    questions: Annotated[int, typer.Option(help="Questions of the few-shot probe.")] = 500,
    cyclic: Annotated[int, typer.Option(help="Questions of the cyclic probe, each asked in four orders.")] = 60,
    shared: Annotated[int, typer.Option(help="Prompts at each share of the prefix; 0 leaves this part out.")] = 16,
    rounds: Annotated[int, typer.Option(help="Alternations at each share.")] = 10,
) -> None:
    """Ask made-up questions by the paper's loop, by lm-eval's `hf` and by `hf-prefix`, and print what each takes."""
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    model = make_model(len(tokenizer))
    print(
        f"# Probing speed: hidden 256, 8 layers, fp32, 1 thread, torch {torch.__version__}, Python {sys.version.split()[0]}\n"
    )
    prompts = Writer(tokenizer).write_prompts(questions, Sizes())
    names = ["loop", "hf 1", "hf 8", "hf 32", "hf-prefix 8", "hf-prefix 32", "hf-prefix auto"]
    compare_sides(names, model, tokenizer, prompts, f"{questions} questions, 5-shot")
    if cyclic:
        compare_cyclic(model, tokenizer, cyclic)
        compare_half(model, tokenizer, cyclic)
    if shared:
        compare_shares(model, tokenizer, shared, rounds)


if __name__ == "__main__":
    typer.run(main)
