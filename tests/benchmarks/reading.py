"""`python tests/benchmarks/reading.py`: how fast responses are read token by token, all sides in one run, the same numbers.

On a CPU seconds are processor seconds of one thread; ratios are what counts. The model is random: its size decides the speed.
"""

import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import typer
from tabulate import tabulate
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from lm_eval_tasks.models.prefix import PrefixLM
from lm_eval_tasks.models.tokens import TokenReading, describe_tokens

RECIPES = Path(__file__).parents[2] / "recipes"
TOKENIZER = RECIPES / "miniworld/base"
VOCABULARY = 49_152  # of the shape below


class Made(NamedTuple):
    """A made-up text, and how many of its last tokens are read."""

    ids: tuple[int, ...]
    scored: int


def make_model(shape: str) -> PreTrainedModel:
    """A random model of a recipe's shape, in fp32."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(RECIPES / shape), dtype=torch.float32).eval()


def make_texts(n: int, shared: int, prompt: int = 40, response: int = 60, seed: int = 0) -> list[Made]:
    """Texts of random tokens: what all share (a system prompt, worked answers), a prompt of one's own, a response."""
    rng = random.Random(seed)
    head = tuple(rng.randrange(3, VOCABULARY) for _ in range(shared))
    texts = []
    for _ in range(n):
        own, scored = (max(4, round(rng.lognormvariate(0, 0.6) * mean)) for mean in (prompt, response))
        texts.append(Made((*head, *(rng.randrange(3, VOCABULARY) for _ in range(own + scored))), scored))
    return texts


Side = Callable[[Sequence[Made]], list[TokenReading]]


def make_loop(model: PreTrainedModel, batch: int) -> Side:
    """A plain loop over forwards of `batch` texts, padded on the right."""

    @torch.inference_mode()
    def read(texts: Sequence[Made]) -> list[TokenReading]:
        readings = []
        for start in range(0, len(texts), batch):
            part = texts[start : start + batch]
            width = max(len(text.ids) for text in part)
            ids = torch.zeros(len(part), width, dtype=torch.long)
            mask = torch.zeros(len(part), width, dtype=torch.long)
            for row, text in enumerate(part):
                ids[row, : len(text.ids)], mask[row, : len(text.ids)] = torch.tensor(text.ids), 1
            logits = model(input_ids=ids, attention_mask=mask).logits
            for row, text in enumerate(part):
                own = logits[row, len(text.ids) - text.scored - 1 : len(text.ids) - 1].float().log_softmax(-1)
                tokens = torch.tensor(text.ids[-text.scored :])
                numbers = describe_tokens(own, torch.arange(text.scored), tokens)
                readings.append(TokenReading(*(part.numpy() for part in numbers)))
        return readings

    return read


def make_read(model: PreTrainedModel, batch: int) -> Side:
    """What `lm_eval_tasks read` does."""
    lm = PrefixLM(
        pretrained=model, tokenizer=AutoTokenizer.from_pretrained(TOKENIZER), batch_size=batch, softmax_dtype="float32"
    )

    def read(texts: Sequence[Made]) -> list[TokenReading]:
        found: dict[int, TokenReading] = {}
        lm.read_tokens(
            {i: text.ids for i, text in enumerate(texts)}, {i: text.scored for i, text in enumerate(texts)}, found.update
        )
        return [found[i] for i in range(len(texts))]

    return read


def find_difference(one: Sequence[TokenReading], other: Sequence[TokenReading]) -> float:
    """The largest difference between two sides' log-probabilities and entropies, in nats."""
    pairs = zip(one, other, strict=True)
    return max(
        float(np.abs(a - b).max())
        for own, their in pairs
        for a, b in ((own.logprobs, their.logprobs), (own.entropies, their.entropies))
    )


def compare_reading(model: PreTrainedModel, texts: Sequence[Made], title: str) -> dict[str, list[TokenReading]]:
    """Read the same texts by every side, and print what each took against padded batches of 8."""
    sides = {
        "loop, batch 1": make_loop(model, 1),
        "loop, padded batches of 8": make_loop(model, 8),
        "read": make_read(model, 8),
    }
    tokens = sum(text.scored for text in texts)
    print(f"## {title}: {len(texts)} responses, {tokens:,} tokens of {sum(len(text.ids) for text in texts):,}\n")
    found, seconds = {}, {}
    for name, side in sides.items():
        side(texts[:2])  # the first call of a shape pays for what is set up once
        start = time.process_time()
        found[name] = side(texts)
        seconds[name] = time.process_time() - start
    table = [
        {
            "side": name,
            "response tokens a second": tokens / seconds[name],
            "times the padded batches": seconds["loop, padded batches of 8"] / seconds[name],
            "largest difference (nats)": find_difference(own, found["loop, batch 1"]),
        }
        for name, own in found.items()
    ]
    print(tabulate(table, headers="keys", floatfmt=".3g", tablefmt="github"), end="\n\n", flush=True)
    return found


def main(rows: Annotated[int, typer.Option(help="Responses that are read.")] = 48) -> None:
    """Read made-up responses by plain loops and by `read`, and print what each takes."""
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    print(
        f"# Reading speed: shape of smollm2-135m, fp32, 1 thread, torch {torch.__version__}, Python {sys.version.split()[0]}\n"
    )
    model = make_model("smollm2-135m")
    compare_reading(model, make_texts(rows, shared=400), "After what all share, 400 tokens")
    compare_reading(model, make_texts(rows, shared=30), "After a system prompt of 30 tokens")
    compare_reading(model, make_texts(rows, shared=0), "Nothing shared")


if __name__ == "__main__":
    typer.run(main)
