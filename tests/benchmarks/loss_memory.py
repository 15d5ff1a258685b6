"""`python tests/benchmarks/loss_memory.py`: the memory of one micro-batch's loss and gradient under a large vocabulary.

A process of its own, since the system counts a process's peak from its start. It prints one line of JSON.
"""

import json
import resource
import sys
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig
from transformers.utils import logging
from trl import SFTConfig

from recipes.training.trainer import Trainer

TOKENIZER = Path(__file__).parents[2] / "recipes/miniworld/base"


def read_peak() -> int:
    """The most bytes that this process has held."""
    if (status := Path("/proc/self/status")).is_file():  # getrusage counts what its parent held, too
        return 1024 * int(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure_losses(vocabulary: int, tokens: int) -> dict[str, dict[str, float]]:
    """The loss of a micro-batch and the bytes beyond all before, ours first, as it needs less; then from the logits at once."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=tokens,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    ids = torch.randint(0, vocabulary, (4, tokens // 4))
    rows = Dataset.from_dict({"input_ids": ids.tolist(), "labels": ids.tolist()})
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            folder, use_cpu=True, bf16=False, activation_checkpointing=False, max_length=None, report_to="none"
        )
        tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
        trainer = Trainer(model=model, args=arguments, train_dataset=rows, processing_class=tokenizer, ids=["0", "1", "2", "3"])
        inputs = {"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids)}
        found = {}
        for side in ("ours", "plain"):
            before = read_peak()
            if side == "ours":
                loss = trainer.training_step(model, dict(inputs), ids[:, 1:].numel()).item()
            else:
                (plain := model(**inputs).loss).backward()
                loss = plain.item()
            found[side] = {"loss": loss, "bytes": read_peak() - before}
        # What ours needed is held no more when the logits come.
        found["plain"]["bytes"] += found["ours"]["bytes"]
    return found


if __name__ == "__main__":
    logging.set_verbosity_error()
    print(json.dumps(measure_losses(*map(int, sys.argv[1:]))))
