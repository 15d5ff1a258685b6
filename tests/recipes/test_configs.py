"""Every shipped configuration is one that the installed libraries read, and the copies agree."""

import dataclasses
import re
import shlex

import pytest
import yaml
from accelerate import DeepSpeedPlugin, FullyShardedDataParallelPlugin
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from conftest import ROOT
from trl import ModelConfig, SFTConfig, TrlParser, get_peft_config, get_quantization_config

from lm_eval_tasks.contracts.errors import UserError
from recipes.training.arguments import DECIDED, RecipeArguments, set_accumulation

METHODS = ("full", "lora", "qlora")
PAPERS = {"llama-2-7b", "llama-2-13b", "llama-2-70b", "mistral-7b"}
MODELS = sorted(PAPERS | {"qwen3-0.6b", "qwen3-1.7b", "qwen3-8b"})
SMALL = ("gemma3-270m", "qwen2.5-0.5b", "smollm2-135m", "smollm2-360m")  # small enough for a CPU
RECIPES = [ROOT / "recipes" / model / f"{method}.yaml" for model in [*MODELS, "miniworld"] for method in METHODS]
RECIPES += [ROOT / "recipes" / model / f"{method}.yaml" for model in SMALL for method in METHODS[:2]]
ENGINES = ("cpu", "cpu_bf16", "single_gpu", "ddp", "fsdp2", "zero2", "zero3", "zero3_offload", "zero3_multinode")
LAUNCHES = [ROOT / f"recipes/accelerate/{name}.yaml" for name in ENGINES]
# In what two recipes of one method may differ.
OWN = {"model_name_or_path", "learning_rate", "per_device_train_batch_size", "lora_dropout", "add_bos_token"}
OWN_SMALL = {"model_name_or_path", "global_batch_size", "activation_checkpointing"}


def name(file):
    return f"{file.parent.name}/{file.stem}"


def read(file):
    return yaml.safe_load(file.read_text())


def parse(recipe, folder):
    """A recipe as `recipes/sft.py` parses it, on a machine without a GPU."""
    words = ["--config", str(recipe), "--output_dir", str(folder), "--use_cpu"]
    return TrlParser((RecipeArguments, SFTConfig, ModelConfig)).parse_args_and_config(words)


def read_command(file):
    """The words of a header: the comment's first line and those it goes on in."""
    lines = []
    for line in file.read_text().splitlines():
        lines.append(line.removeprefix("# ").removesuffix("\\"))
        if not line.endswith("\\"):
            break
    return shlex.split(" ".join(lines))


def read_launch(file, monkeypatch):
    """What `accelerate launch` makes of a header: its own arguments, those of its file, and the words of the script."""
    words = read_command(file)
    # The parser learns from the command line which arguments were given there.
    monkeypatch.setattr("sys.argv", ["accelerate", *words[2:]])
    return _validate_launch_command(launch_command_parser().parse_args(words[2:]))[0]


def test_no_recipe_or_launch_configuration_is_left_out():
    assert sorted(RECIPES) == sorted(
        file for method in METHODS for file in (ROOT / "recipes").glob(f"*/{method}.yaml") if file.parent.name != "study"
    )
    assert sorted(LAUNCHES) == sorted((ROOT / "recipes/accelerate").iterdir())


@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_a_recipe_is_read_as_it_is_written_and_names_neither_data_nor_output(recipe, tmp_path):
    settings = read(recipe)
    assert not {"dataset_name", "dataset_config", "output_dir", *DECIDED} & set(settings)
    found = {}
    for part in parse(recipe, tmp_path):
        found |= {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    assert found.pop("report_to") == []  # none
    assert {key: found.get(key, value) for key, value in settings.items()} == settings


@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_a_recipe_trains_by_the_method_of_its_name(recipe, tmp_path):
    _, training, model = parse(recipe, tmp_path)
    adapter, quantized = get_peft_config(model), get_quantization_config(model)
    assert (adapter is not None) == (recipe.stem != "full")
    assert (quantized is not None) == (recipe.stem == "qlora")
    if adapter:
        assert adapter.target_modules == "all-linear"
    if quantized:
        assert (quantized.bnb_4bit_quant_type, quantized.bnb_4bit_use_double_quant) == ("nf4", True)
        wanted = ("float32", "adamw_torch_fused") if recipe.parent.name == "miniworld" else ("bfloat16", "paged_adamw_32bit")
        assert (str(quantized.bnb_4bit_compute_dtype), training.optim.value) == (f"torch.{wanted[0]}", wanted[1])


@pytest.mark.parametrize("recipe", RECIPES, ids=name)
@pytest.mark.parametrize("processes", [1, 8, 32])
def test_a_step_has_the_global_batch_on_one_process_and_on_many(recipe, processes, tmp_path, monkeypatch):
    script, training, _ = parse(recipe, tmp_path)
    monkeypatch.setattr(SFTConfig, "world_size", processes)
    if recipe.parent.name in ("miniworld", *SMALL) and processes > 1:
        with pytest.raises(UserError, match="no multiple"):
            set_accumulation(script.global_batch_size, training)
        return
    set_accumulation(script.global_batch_size, training)
    rows = processes * training.per_device_train_batch_size * training.gradient_accumulation_steps
    assert rows == script.global_batch_size


@pytest.mark.parametrize("model", sorted(PAPERS))
def test_the_papers_models_have_the_papers_hyper_parameters(model, tmp_path):
    script, training, loaded = parse(ROOT / f"recipes/{model}/full.yaml", tmp_path)
    assert script.global_batch_size == 256
    assert training.learning_rate == (1e-5 if model == "mistral-7b" else 2e-5)
    assert (training.num_train_epochs, training.max_length, training.seed) == (3, 2048, 42)
    assert (training.lr_scheduler_type.value, training.get_warmup_steps(1000)) == ("cosine", 30)
    assert (training.weight_decay, training.bf16, training.activation_checkpointing) == (0, True, True)
    assert script.add_bos_token is False
    # Fully fine-tuned weights are fp32: in bf16, what AdamW adds at this learning rate would be rounded away.
    assert loaded.dtype == "float32"


@pytest.mark.parametrize("method", METHODS)
def test_recipes_of_one_method_differ_in_named_settings_alone(method):
    first, *others = (read(ROOT / f"recipes/{model}/{method}.yaml") for model in MODELS)
    for settings in others:
        assert {*settings} ^ {*first} <= {"add_bos_token"}
        assert {key for key in first if settings.get(key) != first[key]} <= OWN


@pytest.mark.parametrize("method", METHODS[:2])
def test_recipes_of_small_models_are_those_of_a_larger_one_with_smaller_steps(method):
    larger = read(ROOT / f"recipes/qwen3-0.6b/{method}.yaml")
    for model in SMALL:
        settings = read(ROOT / f"recipes/{model}/{method}.yaml")
        assert {key for key in settings | larger if settings.get(key) != larger.get(key)} == OWN_SMALL


@pytest.mark.parametrize("model", MODELS)
def test_methods_of_one_model_differ_in_the_method_alone(model):
    full, lora, qlora = (read(ROOT / f"recipes/{model}/{method}.yaml") for method in METHODS)
    for settings in (lora, qlora):
        assert {key for key in full if settings[key] != full[key]} == {"dtype", "learning_rate"}
    assert {key for key in lora if qlora[key] != lora[key]} == set()


@pytest.mark.parametrize("file", LAUNCHES, ids=lambda file: file.stem)
def test_a_launch_configuration_has_what_accelerate_knows_and_leaves_the_precision_to_the_recipe(file):
    settings = load_config_from_file(str(file))
    assert settings.num_processes >= 1
    assert read(file).get("mixed_precision") == ("bf16" if file.stem == "cpu_bf16" else None)
    known = vars(launch_command_parser().parse_args(["script.py"]))
    for part in ("fsdp_config", "deepspeed_config"):
        assert set(read(file).get(part, {})) <= set(known)


def test_the_recipe_decides_the_precision(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # what `accelerate launch` sets where the file names none
    assert parse(ROOT / "recipes/llama-2-7b/full.yaml", tmp_path)[1].mixed_precision == "bf16"
    assert parse(ROOT / "recipes/miniworld/full.yaml", tmp_path)[1].mixed_precision == "no"


@pytest.mark.parametrize("file", [file for file in LAUNCHES if file.stem.startswith("zero")], ids=lambda file: file.stem)
def test_zero_is_what_its_file_name_says_and_clips_as_the_recipe_does(file):
    pytest.importorskip("deepspeed")
    settings = read(file)["deepspeed_config"]
    names = {"zero_stage", "gradient_clipping", "offload_optimizer_device", "offload_param_device", "zero3_save_16bit_model"}
    plugin = DeepSpeedPlugin(**{key: value for key, value in settings.items() if key in names}).deepspeed_config
    zero = plugin["zero_optimization"]
    where = "cpu" if file.stem == "zero3_offload" else "none"
    assert (zero["stage"], zero["offload_optimizer"]["device"]) == (int(file.stem[4]), where)
    assert zero["offload_param"]["device"] == where
    # A whole model is saved, also where each process holds a part.
    assert zero["stage"] == 2 or zero["stage3_gather_16bit_weights_on_model_save"]
    assert (plugin["gradient_clipping"], plugin["gradient_accumulation_steps"]) == ("auto", "auto")
    assert "scheduler" not in plugin


def test_fsdp2_saves_a_whole_model_and_warns_of_nothing(monkeypatch, caplog):
    arguments = read_launch(ROOT / "recipes/accelerate/fsdp2.yaml", monkeypatch)
    assert (arguments.use_fsdp, arguments.num_processes) == (True, 8)
    for key, value in prepare_multi_gpu_env(arguments).items():
        if key.startswith("FSDP_"):
            monkeypatch.setenv(key, value)
    plugin = FullyShardedDataParallelPlugin()
    assert (plugin.fsdp_version, plugin.reshard_after_forward) == (2, True)
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"
    assert "transformer_auto_wrap" in plugin.auto_wrap_policy.__name__
    assert not caplog.records


@pytest.mark.parametrize("file", [*RECIPES, *LAUNCHES], ids=name)
def test_the_header_is_the_launch_command(file, monkeypatch):
    words = read_command(file)
    assert words[:3] == ["accelerate", "launch", "--config_file"]
    assert str(file.relative_to(ROOT)) in words
    assert all((ROOT / word).is_file() for word in words if word.startswith("recipes/"))
    launch = read_launch(file, monkeypatch)
    assert launch.training_script == "recipes/sft.py"
    # The script knows every word of it, and the recipe fits the launch.
    script, training, _ = TrlParser((RecipeArguments, SFTConfig, ModelConfig)).parse_args_and_config(
        [*launch.training_script_args, "--use_cpu"]
    )
    assert (script.dataset_name, training.output_dir) == ("INSTRUCTIONS", "OUT")
    settings = read(ROOT / launch.config_file)
    monkeypatch.setattr(SFTConfig, "world_size", settings["num_processes"])
    set_accumulation(script.global_batch_size, training)
    assert (settings["num_machines"] > 1) == (launch.main_process_ip is not None)
    small = ("miniworld", *SMALL)
    assert settings["use_cpu"] == any(f"/{model}/" in launch.training_script_args[1] for model in small)


def test_the_readme_names_every_recipe_and_launch_configuration():
    text = (ROOT / "recipes/README.md").read_text()
    named = set(re.findall(r"`([\w.-]+)`", text))
    assert {*MODELS, *SMALL, *ENGINES, "miniworld"} <= named


def test_a_launch_configuration_with_a_typo_is_refused(tmp_path):
    file = tmp_path / "cpu.yaml"
    file.write_text(LAUNCHES[0].read_text() + "\nnum_proceses: 2\n")
    with pytest.raises(ValueError, match="num_proceses"):
        load_config_from_file(str(file))
