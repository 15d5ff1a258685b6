"""`python tests/benchmarks/answering.py`: how fast sampled answers are written, `hf-prefix` beside `hf`, both in one run.

On a CPU seconds are processor seconds of one thread; ratios are what counts. The model is random: its size decides the speed.
Answers have one length, or end at a letter that comes by chance, as real ones end with their line.
"""

import random
import sys
import time
from typing import Annotated

import torch
import typer
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from reading import TOKENIZER, make_model
from tabulate import tabulate
from transformers import AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from lm_eval_tasks.models.prefix import PrefixLM

BATCH = 16


def make_requests(questions: int, samples: int, demonstrations: int, tokens: int, end: str = "") -> list[Instance]:
    """Requests for answers of `tokens` tokens, or up to an `end`, to made-up questions after the same demonstrations."""
    rng = random.Random(0)
    words = ["moss", "soil", "bloom", "the", "cure", "which", "river", "stone"]
    asked = [f"Question: {' '.join(rng.choices(words, k=8))}?\nAnswer:" for _ in range(demonstrations + questions)]
    head = "".join(f"{text} {rng.choice(words)}\n\n" for text in asked[:demonstrations])
    least = {} if end else {"min_new_tokens": tokens}
    settings = {"until": [end or "\n"], "max_gen_toks": tokens, **least, "do_sample": True, "temperature": 0.7}
    return [
        Instance("generate_until", {}, (head + text, settings), i) for text in asked[demonstrations:] for i in range(samples)
    ]


def compare_answering(model: PreTrainedModel, requests: list[Instance], title: str) -> dict[str, int]:
    """Write the same answers by both sides, and print what each took; how many texts each gave."""
    seconds, counts = {}, {}
    for name, kind in {"hf": HFLM, "hf-prefix": PrefixLM}.items():
        lm = kind(pretrained=model, tokenizer=AutoTokenizer.from_pretrained(TOKENIZER), batch_size=BATCH)
        lm.generate_until(requests[:BATCH], disable_tqdm=True)  # the first call of a shape pays for what is set up once
        start = time.process_time()
        counts[name] = len(lm.generate_until(requests, disable_tqdm=True))
        seconds[name] = time.process_time() - start
    print(f"## {title}: {len(requests)} answers\n")
    table = [
        {"side": name, "answers a second": counts[name] / taken, "times hf": seconds["hf"] / taken}
        for name, taken in seconds.items()
    ]
    print(tabulate(table, headers="keys", floatfmt=".3g", tablefmt="github"), end="\n\n", flush=True)
    return counts


def main(questions: Annotated[int, typer.Option(help="Questions that are answered 16 times each.")] = 6) -> None:
    """Write sampled answers by lm-eval's `hf` and by `hf-prefix`, and print what each takes."""
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    print(f"# Answering speed: shape of smollm2-135m, fp32, 1 thread, batches of {BATCH}, Python {sys.version.split()[0]}\n")
    model = make_model("smollm2-135m")
    for shots in (5, 20):
        compare_answering(model, make_requests(questions, 16, shots, 8), f"{shots} demonstrations, 16 samples of 8 tokens")
    compare_answering(model, make_requests(questions * 16, 1, 5, 8), "5 demonstrations, one sample of 8 tokens")
    compare_answering(model, make_requests(questions, 16, 5, 32, "a"), "5 demonstrations, 16 samples of 32 tokens or fewer")


if __name__ == "__main__":
    typer.run(main)
