"""The memory table: architectures are the published ones, and estimates are the libraries' own."""

import re
import sys

import pytest
import torch
from accelerate.commands.estimate import gather_data
from conftest import BASE, ROOT, run_command
from peft import get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.integrations import is_deepspeed_zero3_enabled
from trl import ModelConfig, get_peft_config

from lm_eval_tasks.contracts.errors import UserError
from recipes import memory
from recipes.memory import (
    ENGINES,
    GIB,
    Sizes,
    estimate_activations,
    estimate_memory,
    estimate_states,
    find_config,
    measure_model,
    read_recipe,
    show_estimate,
)

PUBLISHED = {
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "mistral-7b": 7_241_732_096,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-8b": 8_190_735_360,
}
ANGLES = 512  # bytes of the rotary embedding's two tables, which accelerate counts too
FULL = Sizes(trained=1000, frozen=0, layer=100, outside=200, largest=50, adapters=4)
LORA = Sizes(trained=10, frozen=2000, layer=100, outside=200, largest=50, adapters=4)
QLORA = LORA._replace(adapters=2)


def config(name):
    return AutoConfig.from_pretrained(ROOT / "recipes" / name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_architecture_has_the_published_number_of_parameters(name):
    sizes = measure_model(config(name), ModelConfig())
    assert sizes.trained == PUBLISHED[name]
    assert sizes.outside + sizes.layer * config(name).num_hidden_layers == sizes.trained


def test_one_process_among_others_under_zero3_measures_alone(monkeypatch):
    pytest.importorskip("deepspeed")
    from transformers.integrations import HfDeepSpeedConfig

    before = measure_model(config("qwen3-0.6b"), ModelConfig())
    settings = HfDeepSpeedConfig({"zero_optimization": {"stage": 3}, "train_micro_batch_size_per_gpu": 1})
    assert is_deepspeed_zero3_enabled()
    monkeypatch.setattr("deepspeed.zero.Init", None)  # it would begin to talk to the other processes
    assert measure_model(config("qwen3-0.6b"), ModelConfig()) == before
    del settings  # which ends what it switched on


def test_adapters_are_counted_as_peft_makes_them():
    model = ModelConfig(use_peft=True, lora_r=8, lora_target_modules="all-linear", dtype="bfloat16")
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config("qwen3-0.6b"))
    adapted = get_peft_model(network, get_peft_config(model))
    found = measure_model(config("qwen3-0.6b"), model)
    assert found.trained == sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert found.frozen == pytest.approx(2 * PUBLISHED["qwen3-0.6b"], abs=ANGLES)
    model.lora_target_modules = ["q_proj", "v_proj"]
    # 28 layers; q has 2,048 outputs, v has 1,024, both 1,024 inputs.
    assert measure_model(config("qwen3-0.6b"), model).trained == 28 * 8 * (1024 + 2048 + 1024 + 1024)


def test_a_base_of_4_bits_keeps_its_embeddings_and_its_output_layer_in_bf16():
    """As bitsandbytes stores it, counted on the miniature base."""
    pytest.importorskip("bitsandbytes")
    from trl import get_quantization_config

    model = ModelConfig(
        load_in_4bit=True, use_bnb_nested_quant=True, dtype="bfloat16", use_peft=True, lora_target_modules="all-linear"
    )
    loaded = AutoModelForCausalLM.from_pretrained(
        BASE, quantization_config=get_quantization_config(model), dtype=torch.bfloat16
    )
    stored = sum(p.numel() * p.element_size() for p in loaded.parameters())
    linear = sum(2 * p.numel() for p in loaded.parameters() if p.dtype == torch.uint8)
    found = measure_model(AutoConfig.from_pretrained(BASE), model)
    assert found.frozen == pytest.approx(stored + linear * 0.127 / 8, abs=ANGLES)
    assert found.adapters == 2


def test_the_states_of_zero_are_deepspeeds_estimates():
    pytest.importorskip("deepspeed")
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs as zero3
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs as zero2

    assert estimate_states(FULL, "zero2", 8) == (zero2(1000, 8, 1, False)[1], 0)
    assert estimate_states(FULL, "zero3", 8, 2) == (zero3(1000, 50, 8, 2, False, False)[1], 0)
    assert estimate_states(FULL, "zero3_offload", 8) == zero3(1000, 50, 8, 1, True, True)[1::-1]
    # What is frozen is whole under ZeRO-2, shared out under ZeRO-3, and off the GPU where it is offloaded.
    assert estimate_states(LORA, "zero2", 4)[0] == 2000 + zero2(10, 4, 1, False)[1]
    assert estimate_states(LORA, "zero3", 4)[0] == 2000 / 4 + zero3(10, 50, 4, 1, False, False)[1]
    assert estimate_states(LORA, "zero3_offload", 4)[0] == zero3(10, 50, 4, 1, True, True)[1]


def test_the_states_of_one_gpu_ddp_and_fsdp2_are_accelerates_estimates(monkeypatch):
    """`accelerate estimate-memory` of the same architecture: fp32 weights, AdamW."""
    monkeypatch.setattr("accelerate.commands.estimate.create_empty_model", lambda *a, **k: _build("qwen3-0.6b"))
    arguments = type(
        "Arguments", (), {"model_name": "", "library_name": None, "trust_remote_code": None, "dtypes": ["float32"]}
    )
    [(_, _, total, training)] = gather_data(arguments)
    sizes = measure_model(config("qwen3-0.6b"), ModelConfig())
    assert total == pytest.approx(4 * sizes.trained, abs=ANGLES)
    assert estimate_states(sizes, "single_gpu", 1, bf16=False)[0] == pytest.approx(training["step"], abs=4 * ANGLES)
    # With bf16 there is a copy of the weights in bf16; DDP holds the gradients once more.
    assert estimate_states(FULL, "single_gpu", 1)[0] == (16 + 2) * 1000
    assert estimate_states(FULL, "ddp", 8)[0] == (16 + 2 + 4) * 1000
    assert estimate_states(FULL, "fsdp2", 8)[0] == 16 * 1000 / 8 + 4 * (200 + 2 * 100)


def _build(name):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config(name), dtype=torch.float32)


def test_a_base_of_4_bits_is_on_every_gpu_or_nowhere():
    assert estimate_states(QLORA, "single_gpu", 1)[0] == 2000 + 10 * (2 + 2 + 8)
    assert estimate_states(QLORA, "ddp", 8)[0] == 2000 + 10 * (2 + 2 + 8 + 2)
    assert all(estimate_states(QLORA, engine, 8) is None for engine in ENGINES[2:])


def test_activations_are_the_formulas():
    """Two rows of 100 tokens of Llama-2-7B, by hand."""
    tokens, hidden, layers, vocabulary = 200, 4096, 32, 32000
    loss = 2 * tokens * vocabulary + 4 * tokens * hidden
    kept = 2 * tokens * hidden * layers + 34 * tokens * hidden
    assert estimate_activations(config("llama-2-7b"), 2, 100, full=False) == kept + loss
    assert estimate_activations(config("llama-2-7b"), 2, 100) == kept + loss + 4 * vocabulary * hidden
    whole = estimate_activations(config("llama-2-7b"), 2, 100, checkpointing=False, full=False)
    assert whole == 34 * tokens * hidden * layers + loss


def test_fp32_weights_make_an_fp32_stream_where_they_are_autocast_and_not_where_they_are_gathered_in_bf16():
    def activations(engine, sizes, bf16=True):
        return estimate_memory(config("llama-2-7b"), sizes, engine, 8, 1, 2, 100, bf16).activations

    kept = 200 * 4096 * 32
    assert activations("single_gpu", FULL) - activations("fsdp2", FULL) == 2 * kept
    assert activations("ddp", LORA) == activations("fsdp2", LORA)
    assert activations("fsdp2", FULL, bf16=False) == activations("ddp", FULL)


def test_a_gated_models_architecture_is_that_beside_its_recipe(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert find_config("meta-llama/Llama-2-13b-hf").hidden_size == 5120
    assert find_config(str(BASE)).hidden_size == 128
    with pytest.raises(UserError, match="nobody/nothing cannot be read"):
        find_config("nobody/nothing")


def test_without_deepspeed_the_other_engines_are_estimated(monkeypatch):
    monkeypatch.setitem(sys.modules, "deepspeed.runtime.zero.stage3", None)
    assert estimate_states(FULL, "ddp", 8)
    with pytest.raises(UserError, match=r"selfalign\[deepspeed\]"):
        estimate_states(FULL, "zero3", 8)


def test_the_readme_holds_what_the_command_prints():
    pytest.importorskip("deepspeed")
    done = run_command(sys.executable, "-m", "recipes.memory")
    assert done.returncode == 0, done.stderr
    text = (ROOT / "recipes/README.md").read_text()
    table = re.search(r"<!-- python -m recipes.memory -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert table
    assert table[1] == done.stdout
    # Every cell is the function's, and a card fits what it is said to.
    model, settings = read_recipe(ROOT / "recipes/mistral-7b/full.yaml")
    rows = (settings["per_device_train_batch_size"], settings["max_length"])
    found = estimate_memory(config("mistral-7b"), measure_model(config("mistral-7b"), model), "zero3", 8, 1, *rows)
    line = next(line for line in done.stdout.splitlines() if line.startswith("| mistral-7b | full"))
    assert show_estimate(found) in line
    assert line.endswith("| 24 GB |")
    assert 16 * memory.USABLE < found.total / GIB <= 24 * memory.USABLE
