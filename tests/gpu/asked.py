"""How fast a model of 7B is asked, by the paper's loop, by lm-eval's `hf` and by `hf-prefix`, and that the answers agree."""

from collections.abc import Iterator, Sequence

import torch
from probing import TOKENIZER
from sides import Measured, Sizes, Writer, count_flops, make_side, measure
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tests.gpu.bench import Bench, Row
from tests.gpu.predicting import plan_prompts, predict_seconds
from tests.gpu.rates import measure_bandwidth, measure_rate
from tests.gpu.shapes import make_7b, make_asked

BATCHES = (8, 16, 32, 64)  # that lm-eval's `hf` is tried with
OURS = "hf-prefix auto"


def ask_questions(bench: Bench) -> Iterator[Row]:
    """Questions after one few-shot block."""
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    yield from _compare(bench, tokenizer, Writer(tokenizer).write_prompts(bench.choose(2000, 24), Sizes()))


def ask_orders(bench: Bench) -> Iterator[Row]:
    """Questions after one few-shot block, each in the four cyclic orders of its choices."""
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    yield from _compare(bench, tokenizer, Writer(tokenizer, 1).write_cyclic(bench.choose(200, 6), Sizes()))


def _compare(bench: Bench, tokenizer: PreTrainedTokenizerBase, prompts: list[str]) -> Iterator[Row]:
    rate, bandwidth = measure_rate(bench), measure_bandwidth(bench)
    config = make_7b(bench.tiny)
    plan = plan_prompts(config, tokenizer, prompts)
    predicted = len(prompts) / predict_seconds(config, plan, rate, bandwidth)
    model = make_asked(bench)
    least, flops = count_flops(model, tokenizer, prompts, shared=True)
    bound = len(prompts) * rate / flops
    yield {"bound": "least tokens", "of": f"{least:,} tokens at {rate / 1e12:.4g} TFLOP/s", "prompts a second": bound}
    yield {"bound": "predicted for hf-prefix", "of": f"{plan.tokens:,} tokens, its operators", "prompts a second": predicted}

    def run(side: str, part: Sequence[str]) -> Measured:
        return measure(make_side(side, model, tokenizer), model, part)

    few = prompts[: bench.choose(192, 8)]
    run(OURS, few)  # the first call of a shape pays for what is set up once
    ours = run(OURS, prompts)
    yield _tell(OURS, ours)
    yield bench.claim("hf-prefix: prompts a second", f"{predicted:.3g} (within 25%)", len(prompts) / ours.seconds,
                      abs(len(prompts) / ours.seconds / predicted - 1) < 0.25, gpu=True)  # fmt: skip
    tried: dict[str, Measured] = {}
    for side in ["loop", *(f"hf {size}" for size in BATCHES)]:
        run(side, few[:2])
        tried[side] = run(side, few)
        yield _tell(side, tried[side])
    loop = tried.pop("loop")
    best = min(tried, key=lambda side: tried[side].seconds)
    noise = max(compare_answers(tried[best], other)[0] for side, other in tried.items() if side != best)
    hf = run(best, prompts)
    yield _tell(best, hf)
    gap, same = compare_answers(ours, hf)
    speed, to_loop = hf.seconds / ours.seconds, loop.seconds / len(few) * len(prompts) / ours.seconds
    yield bench.claim(f"hf-prefix: times the speed of `{best}`", "at least 3", speed, speed >= 3, gpu=True)
    yield bench.claim("hf-prefix: times the speed of the paper's loop", "at least 3", to_loop, to_loop >= 3, gpu=True)
    yield bench.claim(
        f"tokens read, of those of `{best}`", "at most a third", ours.tokens / hf.tokens, ours.tokens * 3 <= hf.tokens
    )
    yield bench.claim(
        f"largest difference in probability to `{best}` ({noise:.2g} among its batch sizes)", "at most 0.05", gap, gap <= 0.05
    )
    yield bench.claim(f"same most probable choice as `{best}`", "at least 0.99", same, same >= 0.99)
    yield bench.claim(f"peak GiB, at most that of `{best}`", hf.memory / 2**30, ours.memory / 2**30, ours.memory <= hf.memory,
                      gpu=True)  # fmt: skip


def _tell(side: str, own: Measured) -> Row:
    return {
        "side": side,
        "prompts": len(own.answers),
        "prompts a second": len(own.answers) / own.seconds,
        "tokens read": own.tokens,
        "peak GiB": own.memory / 2**30,
    }


def compare_answers(one: Measured, other: Measured) -> tuple[float, float]:
    """The largest difference in a choice's probability, and the share of questions with the same most probable choice."""
    ours, theirs = (torch.tensor(side.answers).softmax(-1) for side in (one, other))
    return (ours - theirs).abs().max().item(), (ours.argmax(-1) == theirs.argmax(-1)).float().mean().item()
