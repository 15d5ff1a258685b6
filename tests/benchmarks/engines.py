"""`python tests/benchmarks/engines.py`: questions a second of lm-eval's classes and this project's, engines too, in one run.

A side's work is its own library's and may be another process's, so seconds are the clock's; ratios are what counts. A side
is started, asked a few questions for what is set up once, then asked as many times as there are rounds, each with a few-shot
block of its own, and ended before the next is started. The median round stands. Engines that are not installed are left out.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from accelerate.utils.memory import clear_device_cache
from lm_eval.models.huggingface import HFLM
from probing import TOKENIZER, make_model, show_table
from sides import Answers, Sizes, Writer, ask_lm
from transformers import AutoTokenizer
from transformers.utils import logging

from lm_eval_tasks.models.prefix import PrefixLM

# For keys and values on a CPU, whose engine's smallest blocks have 32 tokens.
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
ENGINE = {"max_model_len": 2048, "block_size": 32, "enforce_eager": not torch.cuda.is_available()}
SIDES = ("hf", "hf-prefix", "vllm", "vllm-prefix")


@contextmanager
def start_side(name: str, folder: Path, dtype: str) -> Iterator[Any]:
    """The model class of that name, with the model in a folder."""
    if name in ("hf", "hf-prefix"):
        kind: Callable[..., Any] = {"hf": HFLM, "hf-prefix": PrefixLM}[name]
        device, size = "cuda" if torch.cuda.is_available() else "cpu", 8 if name == "hf" else "auto"
        yield kind(pretrained=str(folder), dtype=dtype, device=device, batch_size=size, softmax_dtype="float32")
        clear_device_cache(garbage_collection=True)
        return
    from lm_eval.models.vllm_causallms import VLLM

    from lm_eval_tasks.models.vllm_prefix import VLLMPrefixLM

    lm = {"vllm": VLLM, "vllm-prefix": VLLMPrefixLM}[name](pretrained=str(folder), dtype=dtype, **ENGINE)
    yield lm
    lm.model.llm_engine.engine_core.shutdown()


def compare_engines(folder: Path, questions: int, rounds: int, dtype: str) -> dict[str, Answers]:
    """Ask the same questions by every side that there is, and print what each takes; the answers of the last round."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    blocks = [Writer(tokenizer, seed).write_prompts(questions, Sizes()) for seed in range(rounds)]
    first = Writer(tokenizer, rounds).write_prompts(8, Sizes())
    seconds: dict[str, float] = {}
    answers: dict[str, Answers] = {}
    for name in SIDES:
        if name.startswith("vllm") and not find_spec("vllm"):
            print(f"{name} is left out: vLLM is not installed.")
            continue
        with start_side(name, folder, dtype) as lm:
            ask_lm(lm, first)
            taken = []
            for prompts in blocks:
                start = time.perf_counter()
                answers[name] = ask_lm(lm, prompts)
                taken.append(time.perf_counter() - start)
            seconds[name] = statistics.median(taken)
            del lm
    rows = []
    for name, own in seconds.items():
        pairs = zip(answers[name], answers["hf"], strict=True)
        gap = max(abs(a - b) for mine, theirs in pairs for a, b in zip(mine, theirs, strict=True))
        rows.append(
            {
                "side": name,
                "questions a second": questions / own,
                "times hf": seconds["hf"] / own,
                "largest difference (nats)": gap,
            }
        )
    print()
    show_table(rows)
    return answers


def main(
    model: Annotated[
        Path | None, typer.Option(help="A folder; without one a random Llama of hidden size 256, 8 layers.")
    ] = None,
    questions: Annotated[int, typer.Option(help="Questions a round.")] = 100,
    rounds: Annotated[int, typer.Option(help="Rounds, each with demonstrations of its own.")] = 3,
    dtype: Annotated[str, typer.Option(help="Of the weights.")] = "float32",
) -> None:
    """Ask made-up 5-shot questions, four letters each, by every model class that can run here, and print what each takes."""
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "1 thread"
    print(f"# Engines: {model or 'hidden 256, 8 layers'}, {dtype}, {where}, {rounds} rounds of {questions} questions, "
          f"torch {torch.__version__}, Python {sys.version.split()[0]}\n")  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        if model is None:
            tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
            make_model(len(tokenizer)).save_pretrained(scratch)
            tokenizer.save_pretrained(scratch)
        compare_engines(model or Path(scratch), questions, rounds, dtype)


if __name__ == "__main__":
    typer.run(main)
