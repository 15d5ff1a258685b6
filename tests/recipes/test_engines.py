"""Engines really run on two processes, and train as one process does; what an engine cannot do is said before it starts."""

import pytest
import torch
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env, prepare_simple_launcher_cmd_env
from conftest import BASE, ROOT, run_command
from launches import launch_words, make_engine, needs_deepspeed, write_data
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import ModelConfig, SFTConfig

from lm_eval_tasks.contracts.bases import computes_bf16
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.manifest import read_manifest
from recipes.training.engines import check_engine, confirm_engine, explain_parse_error, plan_engine, write_engine

# 35 rows in steps of 16, so that the last has 3, fewer than its micro-batches; accumulation, warm-up, cosine and clipping count
# (the gradients' norms are above 20). Adam turns rounding errors of the smallest gradients into whole steps unless its epsilon
# is above them.
STEPS = (
    "--num_train_epochs",
    "1",
    "--global_batch_size",
    "16",
    "--per_device_train_batch_size",
    "4",
    "--save_strategy",
    "epoch",
)
STEPS += ("--learning_rate", "1e-3", "--warmup_steps", "1", "--max_grad_norm", "0.5", "--adam_epsilon", "1e-5")
STEPS += ("--weight_decay", "0.1", "--logging_steps", "1", "--save_total_limit", "0")  # checkpoints are kept, and looked at
SHARED = {"processes": 2, "device": "cpu", "mixed_precision": "no"}
NONE = {"offload_optimizer": "none", "offload_params": "none"}
ENGINES = {
    "ddp": ({"engine": "ddp"}, "DDP, 2 processes on cpu", 0),
    "zero2": ({"engine": "deepspeed", "zero_stage": 2} | NONE, "DeepSpeed ZeRO-2, 2 processes on cpu", 1),
    "zero3": ({"engine": "deepspeed", "zero_stage": 3} | NONE, "DeepSpeed ZeRO-3, 2 processes on cpu", 2),
    "zero3_offload": (
        {"engine": "deepspeed", "zero_stage": 3, "offload_optimizer": "cpu", "offload_params": "cpu"},
        "DeepSpeed ZeRO-3, 2 processes on cpu, optimizer offloaded to cpu, weights offloaded to cpu",
        2,
    ),
}


@pytest.fixture(scope="module")
def data(share_folder):
    return share_folder("data_of_35", lambda folder: write_data(folder, rows=27, general=8))


@pytest.fixture(scope="module")
def alone(data, share_folder):
    """The run of one process."""

    def make(folder):
        done = run_command(*launch_words(ROOT / "recipes/accelerate/cpu.yaml", data, folder / "model", *STEPS))
        assert done.returncode == 0, done.stderr
        assert "engine: plain PyTorch, 1 process on cpu, mixed precision no" in done.stderr

    return share_folder("alone", make) / "model"


def ask(folder):
    """What a trained folder, loaded as lm-eval loads it, answers to a chat prompt: the probabilities of three letters."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turn = [{"role": "user", "content": "What is the 1th herb?\nA. sage\nB. ivy\nC. rue"}]
    prompt = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    model = HFLM(pretrained=AutoModelForCausalLM.from_pretrained(folder), tokenizer=tokenizer, device="cpu", batch_size=1)
    asked = [Instance("loglikelihood", {}, (prompt, letter), i) for i, letter in enumerate((" A", " B", " C"))]
    return torch.tensor([likelihood for likelihood, _ in model.loglikelihood(asked, disable_tqdm=True)]).exp()


@pytest.mark.launched
@pytest.mark.parametrize("name", ["ddp", *(pytest.param(name, marks=needs_deepspeed) for name in list(ENGINES)[1:])])
def test_two_processes_train_what_one_trains(name, data, alone, tmp_path):
    engine, line, shards = ENGINES[name]
    output = tmp_path / "model"
    done = run_command(*launch_words(make_engine(tmp_path, name), data, output, *STEPS))
    assert done.returncode == 0, done.stderr
    assert read_manifest(output)["config"]["engine"] == engine | SHARED
    assert f"engine: {line}, mixed precision no" in done.stderr
    # DeepSpeed's own files tell what its engine divided between two processes: the optimizer, and with ZeRO-3 the weights.
    parts = {kind for kind in ("model", "optim") if len(list(output.rglob(f"*zero_pp_rank_[01]_*{kind}_states.pt"))) == 2}
    assert parts == [set(), {"optim"}, {"model", "optim"}][shards]
    start, one, two = (load_file(folder / "model.safetensors") for folder in (BASE, alone, output))
    assert max((one[key] - start[key]).abs().max() for key in one) > 1e-3
    largest = {key: (one[key] - two[key]).abs().max().item() for key in one}
    print(f"{name}: largest difference of a weight {max(largest.values()):.1e}")
    assert max(largest.values()) < 1e-5
    probabilities = ask(output)
    assert torch.isfinite(probabilities).all()
    assert 0 < probabilities.sum() <= 1
    torch.testing.assert_close(probabilities, ask(alone), rtol=1e-3, atol=1e-6)


# --- what is said before a model is loaded


def configure(tmp_path, **settings):
    return SFTConfig(output_dir=str(tmp_path), **{"use_cpu": True, "bf16": False} | settings)


def name_base(**settings):
    return ModelConfig(**{"model_name_or_path": str(BASE)} | settings)


def enter_launch(monkeypatch, tmp_path, prepare, **settings):
    """Be the process that `accelerate launch` starts with these settings, as accelerate itself sets its environment."""
    file = tmp_path / "launch.yaml"
    here = {"compute_environment": "LOCAL_MACHINE", "use_cpu": True, "num_machines": 1, "machine_rank": 0}
    file.write_text(yaml.safe_dump(here | settings))
    words = launch_command_parser().parse_args(["--config_file", str(file), "recipes/sft.py"])
    found = prepare(_validate_launch_command(words)[0])
    for name, value in (found[1] if isinstance(found, tuple) else found).items():
        monkeypatch.setenv(name, value)


def test_what_can_be_trained_here_is_not_refused(tmp_path):
    assert check_engine(configure(tmp_path), name_base()) == []


def test_a_quantised_base_is_not_refused_an_adapter(tmp_path):
    pytest.importorskip("bitsandbytes")
    assert check_engine(configure(tmp_path), name_base(load_in_4bit=True, use_peft=True)) == []


def test_one_process_where_several_were_asked_for_is_refused(tmp_path, monkeypatch):
    enter_launch(monkeypatch, tmp_path, prepare_simple_launcher_cmd_env, distributed_type="MULTI_CPU", num_processes=2)
    (problem,) = check_engine(configure(tmp_path), name_base())
    assert "Several processes were asked for and accelerate launched one" in problem
    assert "ddp.yaml" in problem


def test_one_process_that_was_asked_for_is_not_refused(tmp_path, monkeypatch):
    enter_launch(monkeypatch, tmp_path, prepare_simple_launcher_cmd_env, distributed_type="NO", num_processes=1)
    assert check_engine(configure(tmp_path), name_base()) == []


def test_fsdp_on_a_cpu_is_refused(tmp_path, monkeypatch):
    enter_launch(monkeypatch, tmp_path, prepare_multi_gpu_env, distributed_type="FSDP", num_processes=2, fsdp_config={})
    problems = check_engine(configure(tmp_path), name_base())
    assert any("FSDP needs GPUs: on a CPU accelerate runs DDP" in problem for problem in problems)


def test_several_gpus_in_one_process_are_refused(tmp_path):
    training = configure(tmp_path)
    training._n_gpu = 2
    (problem,) = check_engine(training, name_base())
    assert "One process sees 2 GPUs" in problem


@pytest.mark.launched
@pytest.mark.skipif(not computes_bf16(torch.cpu.get_capabilities()), reason="this processor does not compute in bfloat16")
def test_a_cpu_trains_in_bf16_what_it_trains_in_fp32(data, alone, tmp_path):
    output = tmp_path / "model"
    done = run_command(*launch_words(ROOT / "recipes/accelerate/cpu_bf16.yaml", data, output, *STEPS))
    assert done.returncode == 0, done.stderr
    assert "engine: plain PyTorch, 1 process on cpu, mixed precision bf16" in done.stderr
    assert read_manifest(output)["config"]["bf16"] is True
    weights, wanted = load_file(output / "model.safetensors"), load_file(alone / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    before = load_file(BASE / "model.safetensors")
    moved, apart = (
        torch.cat([(one[name] - other[name].float()).flatten() for name in weights]).norm()
        for one, other in ((wanted, before), (weights, wanted))
    )
    assert 0 < apart < 0.3 * moved


def test_a_processor_without_bf16_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr("torch.cpu.get_capabilities", dict)
    (problem,) = check_engine(configure(tmp_path, bf16=True), name_base())
    assert "neither AVX512-BF16 nor AMX" in problem
    assert "recipes/accelerate/cpu.yaml and --bf16 false" in problem
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"amx_bf16": True})
    assert check_engine(configure(tmp_path, bf16=True), name_base()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes in bfloat16")
def test_a_gpu_recipe_without_a_gpu_is_told_which_one_trains_here(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="bf16") as caught:
        configure(tmp_path, bf16=True, use_cpu=False)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": True})
    assert "trains on this CPU with accelerate launch --config_file recipes/accelerate/cpu_bf16.yaml" in explain_parse_error(
        str(caught.value)
    )
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": False})
    message = explain_parse_error(str(caught.value))
    assert "recipes/accelerate/cpu.yaml with recipes/miniworld/full.yaml trains here" in message
    assert "--use_cpu --bf16 false" in message
    assert explain_parse_error("some\n  other error") == "some other error"


@pytest.mark.parametrize(
    ("training", "model", "message"),
    [
        ({"fp16": True}, {}, "--fp16 needs a GPU"),
        ({}, {"attn_implementation": "flash_attention_2"}, "--attn_implementation flash_attention_2 needs a GPU: take sdpa"),
        ({}, {"load_in_4bit": True}, "A quantised base (--load_in_4bit) is trained through an adapter alone: add --use_peft"),
        ({}, {"load_in_8bit": True}, "A quantised base (--load_in_8bit) is trained through an adapter alone: add --use_peft"),
    ],
)
def test_settings_that_cannot_train_here_are_refused(training, model, message, tmp_path):
    assert any(message in problem for problem in check_engine(configure(tmp_path, **training), name_base(**model)))


def test_a_quantised_model_and_an_adapter_are_no_bases_of_full_training(tmp_path):
    pytest.importorskip("bitsandbytes")
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    quantised = tmp_path / "quantised"
    AutoModelForCausalLM.from_pretrained(BASE, quantization_config=settings).save_pretrained(quantised)
    (problem,) = check_engine(configure(tmp_path), name_base(model_name_or_path=str(quantised)))
    assert f"{quantised} is quantised (bitsandbytes)" in problem
    assert check_engine(configure(tmp_path), name_base(model_name_or_path=str(quantised), use_peft=True)) == []
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/adapter_config.json").write_text("{}")
    (problem,) = check_engine(configure(tmp_path), name_base(model_name_or_path=str(tmp_path / "adapter")))
    assert f"`python -m recipes.merge {tmp_path / 'adapter'} --output MODEL`" in problem


@needs_deepspeed
def test_an_optimizer_that_deepspeed_would_replace_is_refused(tmp_path, monkeypatch):
    for name, value in {"USE_DEEPSPEED": "true", "DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "cpu"}.items():
        monkeypatch.setenv(f"ACCELERATE_{name}", value)
    assert check_engine(configure(tmp_path, optim="adamw_torch"), name_base()) == []
    (problem,) = check_engine(configure(tmp_path, optim="sgd"), name_base())
    assert "--optim sgd: with its optimizer offloaded, DeepSpeed trains with Adam whatever is asked" in problem
    monkeypatch.setenv("CXX", "no-such-compiler")
    (problem,) = check_engine(configure(tmp_path), name_base())
    assert "there is no compiler no-such-compiler: install g++" in problem


def test_an_engine_that_is_not_the_one_asked_for_ends_the_run(tmp_path, monkeypatch):
    from accelerate import Accelerator

    training = configure(tmp_path)
    accelerator = Accelerator(cpu=True)
    assert confirm_engine(accelerator, plan_engine(training)) == "engine: plain PyTorch, 1 process on cpu, mixed precision no"
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match=r"asked for is FSDP, 1 process on cpu.* but accelerate runs plain PyTorch"):
        confirm_engine(accelerator, plan_engine(training))
    assert write_engine({"engine": "ddp", "processes": 8, "device": "cuda", "mixed_precision": "bf16"}) == (
        "DDP, 8 processes on cuda, mixed precision bf16"
    )
