"""Where memory is short: batches of `hf-prefix` that do not fit, and the loss of a large vocabulary."""

from collections.abc import Iterator

import torch
from probing import TOKENIZER
from sides import Sizes, Writer, make_side, measure
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig
from trl.trainer.utils import add_fused_lm_head

from lm_eval_tasks.models import prefix
from tests.gpu.asked import compare_answers
from tests.gpu.bench import Bench, Row
from tests.gpu.shapes import make_asked

LEFT = 2**31  # bytes of a GPU that are left beside the model


def lack_memory(bench: Bench) -> Iterator[Row]:
    """Both."""
    yield from ask_with_little(bench)
    yield from compare_losses(bench)


def ask_with_little(bench: Bench) -> Iterator[Row]:
    """Batches are halved until they fit, and the answers are those of small ones."""
    tokenizer, model = AutoTokenizer.from_pretrained(TOKENIZER), make_asked(bench)
    prompts = Writer(tokenizer).write_prompts(bench.choose(256, 8), Sizes())
    told: list[str] = []
    prefix.logger.addFilter(lambda record: told.append(record.getMessage()) is None)
    few = measure(make_side("hf-prefix 8", model, tokenizer), model, prompts)
    if not bench.tiny:
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info()
        torch.cuda.set_per_process_memory_fraction(min(1.0, (total - free + LEFT) / total))
    try:
        many = measure(make_side("hf-prefix 256", model, tokenizer), model, prompts)
    finally:
        if not bench.tiny:
            torch.cuda.set_per_process_memory_fraction(1.0)
    halved = sum("out of memory" in line for line in told)
    yield bench.claim("a batch that does not fit is halved: times", "at least 1", halved, halved >= 1, gpu=True)
    gap, same = compare_answers(many, few)
    yield bench.claim("largest difference in probability to batches of 8", "at most 0.05", gap, gap <= 0.05)
    yield bench.claim("same most probable choice as in batches of 8", "at least 0.99", same, same >= 0.99)


def compare_losses(bench: Bench) -> Iterator[Row]:
    """The loss and its gradient of one micro-batch, in tiles and from all logits at once."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=bench.choose(151_936, 4096), hidden_size=bench.choose(1024, 64), intermediate_size=bench.choose(2048, 128),
        num_hidden_layers=2, num_attention_heads=bench.choose(8, 2), max_position_embeddings=2048,
    )  # fmt: skip
    with torch.device(bench.device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        ids = torch.randint(0, config.vocab_size, (bench.choose(4, 1), bench.choose(2048, 64)))
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    needed = {}
    for side in ("in tiles", "at once"):
        model.zero_grad(set_to_none=False)
        before = 0
        if not bench.tiny:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        outputs = model(input_ids=ids, labels=ids, **({"fused_lm_head": True} if side == "in tiles" else {}))
        outputs.loss.backward()
        needed[side] = 0 if bench.tiny else torch.cuda.max_memory_allocated() - before
        yield {"loss": side, "tokens": ids.numel(), "vocabulary": config.vocab_size, "nats": outputs.loss.item(),
               "GiB beside the model": needed[side] / 2**30}  # fmt: skip
        del outputs
    share = needed["in tiles"] / max(needed["at once"], 1)
    yield bench.claim("memory of the loss in tiles, of that from all logits", "at most 0.5", share, share <= 0.5, gpu=True)
