"""On a GPU: `python -m pytest tests/gpu -s` prints how fast models of 1B and 7B parameters are trained, and tries the launches.

Models are random, weights and AdamW's states in bf16 (8 bytes a weight and gradient, as one GPU of several holds them): the 32
layers of 7B need about 62 GiB; on a device with less than 75 GiB, 8 of them are trained. It needs 14 GB of disk.
"""

import json
import math

import pytest
import torch
from conftest import BASE, ROOT, run_command
from instruction_sets import write_conditions
from safetensors.torch import load_file
from training_sides import RELEASED, make_tokenizer, make_up_samples, read_released, tokenize_samples
from training_sizes import compare_padding, make_llama, save_random
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig
from trl.trainer.utils import add_fused_lm_head, get_peak_flops

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

ROWS = 128
BATCHES = {"paper": 4, "ours": 16}  # rows a micro-batch: ours has fewer tokens in 16 than the paper's has in 4
SETTINGS = {"bf16": True, "activation_checkpointing": True}


def make_7b():
    config = AutoConfig.from_pretrained(ROOT / "recipes/llama-2-7b")
    config.num_hidden_layers = 32 if torch.cuda.get_device_properties(0).total_memory > 75 * 2**30 else 8
    return config


SIZES = {"1B": lambda: make_llama(2048, 5632, 22, 32, 4), "7B": make_7b}


@pytest.fixture(scope="module")
def samples():
    samples = read_released() if RELEASED.is_dir() else make_up_samples(2000)
    tokenizer = make_tokenizer(samples)
    return tokenizer, tokenize_samples(tokenizer, samples, ROWS)


@pytest.fixture(scope="module", params=SIZES)
def saved(request, tmp_path_factory):
    config = SIZES[request.param]()
    return request.param, save_random(config, tmp_path_factory.mktemp(request.param), "cuda")


@pytest.mark.parametrize("method", ["full", "qlora"])
def test_training_is_five_times_as_fast_as_the_papers(samples, saved, method):
    if method == "qlora":
        pytest.importorskip("bitsandbytes")
    name, folder = saved
    device = torch.cuda.get_device_name()
    peak = get_peak_flops(device, "bfloat16")
    layers = AutoConfig.from_pretrained(folder).num_hidden_layers
    known = f"{peak / 1e12:.0f} TFLOP/s in bf16" if peak else "of unknown peak"
    print(f"\n## {name}, {layers} layers, {ROWS} samples, on {device} ({known}); wanted: an MFU of 0.45 for full 7B\n")
    found = compare_padding(folder, method, *samples, BATCHES, peak, **SETTINGS)
    ratio = found["ours"].speed / found["paper"].speed
    print(f"{name} {method}: {ratio:.2f} times the paper's useful tokens a second\n")
    assert all(math.isfinite(side.loss) for side in found.values())
    assert found["ours"].loss == pytest.approx(found["paper"].loss, rel=0.01)  # bf16, other batch shapes
    assert found["ours"].memory < found["paper"].memory
    assert ratio >= 5


def test_the_logits_of_a_large_vocabulary_do_not_dominate_memory():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=151_936, hidden_size=1024, intermediate_size=2048, num_hidden_layers=2, num_attention_heads=8,
        max_position_embeddings=2048,
    )  # fmt: skip
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        ids = torch.randint(0, config.vocab_size, (4, 2048))
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    needed = {}
    for side in ("ours", "plain"):
        model.zero_grad(set_to_none=False)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        loss = model(input_ids=ids, labels=ids, **({"fused_lm_head": True} if side == "ours" else {})).loss
        loss.backward()
        needed[side] = torch.cuda.max_memory_allocated() - before
    print(f"\n8,192 tokens, 151,936 words: {needed['ours'] / 2**30:.2f} GiB; all logits: {needed['plain'] / 2**30:.2f} GiB")
    assert needed["ours"] < needed["plain"] / 2


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_conditions(tmp_path_factory.mktemp("data") / "set", "incompatible", n=40)


def launch(engine, recipe, data, output, *options):
    words = ("accelerate", "launch", "--config_file", f"recipes/accelerate/{engine}.yaml")
    words += ("--num_processes", 1 if engine == "single_gpu" else torch.cuda.device_count(), "recipes/sft.py")
    words += ("--config", f"recipes/miniworld/{recipe}.yaml", "--use_cpu", "false", "--seed", 1, "--num_train_epochs", 1)
    words += ("--global_batch_size", 8, "--per_device_train_batch_size", 1, "--dataset_name", data)
    done = run_command(*words, "--dataset_config", "herbs_incompatible", "--output_dir", output, *options)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.launched
def test_fsdp2_trains_what_one_gpu_trains(data, tmp_path):
    if 8 % torch.cuda.device_count():
        pytest.skip("a step of 8 rows does not divide among these GPUs")
    options = ("--optim", "sgd", "--learning_rate", 0.1)
    told = launch("fsdp2", "full", data, tmp_path / "fsdp2", *options)
    assert "fsdp" in told.lower()
    launch("single_gpu", "full", data, tmp_path / "single", *options)
    one, other, base = (load_file(folder / "model.safetensors") for folder in (tmp_path / "fsdp2", tmp_path / "single", BASE))
    assert all(torch.allclose(one[name], other[name], atol=1e-4) for name in other)
    assert any(not torch.allclose(one[name], base[name], atol=1e-3) for name in base)


@pytest.mark.launched
def test_qlora_trains_on_one_gpu(data, tmp_path):
    pytest.importorskip("bitsandbytes")
    launch("single_gpu", "qlora", data, tmp_path / "model", "--optim", "paged_adamw_32bit")
    adapter = load_file(tmp_path / "model/adapter_model.safetensors")
    assert any(weight.abs().max() > 0 for name, weight in adapter.items() if "lora_B" in name)
    assert json.loads((tmp_path / "model/manifest.json").read_text())["config"]["load_in_4bit"] is True
