"""On a GPU: `python -m pytest tests/gpu -s` prints how fast a model of 7B parameters is asked, and that the answers agree."""

import pytest
import torch
from conftest import BASE
from probing import compare_sides, find_difference
from sides import Sizes, Writer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from lm_eval_tasks.models.reader import TreeReader

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

QUESTIONS = 2000
BATCHES = (1, 8, 32, 64)


@pytest.fixture(scope="module")
def model():
    """A random Llama of the size of Llama-2-7B (the config's own defaults) in bf16."""
    torch.manual_seed(0)
    with torch.device("cuda"):
        return AutoModelForCausalLM.from_config(LlamaConfig(max_position_embeddings=4096), dtype=torch.bfloat16).eval()


def test_a_7b_model_is_asked_faster_and_answers_the_same(model):
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    writer = Writer(tokenizer)
    prompts = writer.write_prompts(QUESTIONS, Sizes())
    names = ["loop", *(f"hf {size}" for size in BATCHES), "hf-prefix 64", "hf-prefix auto"]
    title = f"{QUESTIONS} questions, 5-shot, 7B in bf16 on {torch.cuda.get_device_name()}"
    found = compare_sides(names, model, tokenizer, prompts, title)
    best = min((f"hf {size}" for size in BATCHES), key=lambda name: found[name].seconds)
    ours = found["hf-prefix auto"]
    probabilities = [torch.tensor(found[name].answers).softmax(-1) for name in (best, "hf-prefix auto")]
    gap = (probabilities[0] - probabilities[1]).abs().max().item()
    print(f"hf-prefix: {found[best].seconds / ours.seconds:.2f} times `{best}`, largest difference in probability {gap:.4f}")
    assert ours.tokens < found[best].tokens / 3
    assert gap < 0.05  # what another batch shape alone does to `hf` in bf16
    assert find_difference(ours, found[best]) < 0.5


def test_batches_are_halved_until_they_fit(model, monkeypatch):
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    prompts = Writer(tokenizer).write_prompts(256, Sizes())
    read, sizes = TreeReader.read_rows, []

    def note(self, shared, rows, asked):
        sizes.append(len(rows))
        return read(self, shared, rows, asked)

    monkeypatch.setattr(TreeReader, "read_rows", note)
    free, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (total - free + 2**31) / total))  # two GiB are left
    try:
        compare_sides(["hf-prefix 8", "hf-prefix 256"], model, tokenizer, prompts, "Little memory")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(set(sizes)) > 2
