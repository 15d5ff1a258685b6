"""What the probing benchmarks compare: made-up few-shot questions, the sides that answer them, and what an answer costs."""

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lm_eval_tasks.models.prefix import PrefixLM

LETTERS = "ABCD"
Answers = list[list[float]]  # log-probabilities (nats) of the four letters, a list a question

logging.getLogger("lm_eval").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Sizes:
    """Words of the parts of a made-up prompt (about a token each, letters and line ends not counted)."""

    shots: int = 5
    shot: int = 42
    stem: int = 36
    choice: int = 7


class Writer:
    """Writes made-up questions of words that are one token each."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, seed: int = 0) -> None:
        self._random = random.Random(seed)
        words = (tokenizer.decode([number]) for number in range(300, min(len(tokenizer), 3000)))
        self._words = [word for word in words if word.startswith(" ") and word.strip().isalpha()]

    def write_words(self, n: int) -> str:
        """`n` random words."""
        return "".join(self._random.choices(self._words, k=n)).strip()

    def write_head(self, sizes: Sizes) -> str:
        """A few-shot block: what all questions share."""
        shots = [
            f"{self.list_choices(self.write_words(sizes.shot), self.write_choices(sizes))} B. {self.write_words(3)}"
            for _ in range(sizes.shots)
        ]
        return "\n\n".join(["The following are multiple choice questions.", *shots, ""])

    def write_choices(self, sizes: Sizes) -> list[str]:
        """Four option texts."""
        return [self.write_words(sizes.choice) for _ in LETTERS]

    @staticmethod
    def list_choices(stem: str, choices: Sequence[str]) -> str:
        """A question as it is asked."""
        return "\n".join([stem, *(f"{a}. {b}" for a, b in zip(LETTERS, choices, strict=True)), "Answer:"])

    def write_prompts(self, n: int, sizes: Sizes) -> list[str]:
        """Prompts of `n` questions after one few-shot block."""
        head = self.write_head(sizes)
        return [head + self.list_choices(self.write_words(sizes.stem), self.write_choices(sizes)) for _ in range(n)]

    def write_cyclic(self, n: int, sizes: Sizes) -> list[str]:
        """Prompts of `n` questions after one few-shot block, each under the four cyclic orders of its choices."""
        head, prompts = self.write_head(sizes), []
        for _ in range(n):
            stem, choices = self.write_words(sizes.stem), self.write_choices(sizes)
            prompts += [head + self.list_choices(stem, choices[order:] + choices[:order]) for order in range(len(LETTERS))]
        return prompts


def ask_loop(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> Answers:
    """As the paper's code asks: one question a forward pass, logits at every position, the letters' read at the last."""
    ids = [tokenizer(f" {letter}", add_special_tokens=False)["input_ids"][-1] for letter in LETTERS]
    answers = []
    with torch.inference_mode():
        for prompt in prompts:
            logits = model(**tokenizer(prompt, return_tensors="pt").to(model.device)).logits[0, -1]
            answers.append(logits.float().log_softmax(-1)[ids].tolist())
    return answers


def ask_lm(lm: HFLM, prompts: Sequence[str]) -> Answers:
    """As lm-eval asks, tokenization included."""
    requests = [Instance("loglikelihood", {}, (prompt, f" {letter}"), 0) for prompt in prompts for letter in LETTERS]
    values = [value for value, _ in lm.loglikelihood(requests, disable_tqdm=True)]
    return [values[start : start + len(LETTERS)] for start in range(0, len(values), len(LETTERS))]


def make_side(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Callable[[Sequence[str]], Answers]:
    """The side of that name: `loop`, `hf 8` or `hf-prefix 8` (a batch size)."""
    kind, _, batch = name.partition(" ")
    if kind == "loop":
        return lambda prompts: ask_loop(model, tokenizer, prompts)
    size: Any = int(batch) if batch.isdigit() else batch
    lm = {"hf": HFLM, "hf-prefix": PrefixLM}[kind](
        pretrained=model, tokenizer=tokenizer, batch_size=size, softmax_dtype="float32"
    )
    return lambda prompts: ask_lm(lm, prompts)


@dataclass
class Measured:
    """What one side took: seconds, and the tokens that the first layer read (padding counted)."""

    answers: Answers
    seconds: float
    tokens: int
    memory: int  # bytes at most on the GPU, 0 on a CPU


def measure(side: Callable[[Sequence[str]], Answers], model: PreTrainedModel, prompts: Sequence[str]) -> Measured:
    """Run a side once. On a CPU the seconds are those of the process, which neighbours on the machine do not stretch."""
    counts: list[int] = []
    layer = next(module for module in model.modules() if isinstance(module, torch.nn.ModuleList))[0]
    hook = layer.register_forward_pre_hook(lambda _, args, __: counts.append(args[0].shape[:2].numel()), with_kwargs=True)
    on_gpu = model.device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    start = clock()
    answers = side(prompts)
    seconds = clock() - start
    hook.remove()
    return Measured(answers, seconds, sum(counts), torch.cuda.max_memory_allocated() if on_gpu else 0)


def count_flops(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], shared: bool
) -> tuple[int, float]:
    """Tokens and floating-point operations that the answers need.

    A token costs two operations a weight of the layers, four a visible token and width of attention in each layer, and two a
    weight of the output layer where that is applied.

    Args:
        model: a model with plain attention layers.
        tokenizer: its tokenizer.
        prompts: what is asked.
        shared: each distinct prefix is computed once and the output layer applied to each prompt's last token: the least that
            an exact method can do. Else every token of every prompt, the output layer everywhere: what the paper's loop does.
    """
    config, head = model.config, model.get_output_embeddings().weight.numel()
    weights = sum(weight.numel() for weight in model.parameters()) - model.get_input_embeddings().weight.numel()
    weights -= 0 if config.tie_word_embeddings else head
    width = config.num_attention_heads * (getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    tokens, last, flops = 0, [], 0.0
    for ids in sorted(tokenizer(prompt)["input_ids"] for prompt in prompts):
        known = next((k for k, (a, b) in enumerate(zip(ids, last, strict=False)) if a != b), min(len(ids), len(last)))
        first = known if shared else 0
        seen = sum(range(first + 1, len(ids) + 1))
        tokens += len(ids) - first
        flops += 2 * weights * (len(ids) - first) + 4 * width * config.num_hidden_layers * seen
        flops += 2 * head * (1 if shared else len(ids))
        last = ids
    return tokens, flops
