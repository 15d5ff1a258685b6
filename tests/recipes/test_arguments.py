"""Arguments are checked before anything is loaded, and what is wrong is said with what to do."""

import pytest
import torch
import yaml
from conftest import BASE

from lm_eval_tasks.contracts.errors import UserError
from recipes.training.arguments import DECIDED, REMOVED, RecipeArguments, parse_arguments, set_accumulation

DATA = ("--dataset_name", "folder", "--dataset_config", "herbs_harmonious", "--output_dir", "unused")
CPU = ("--bf16", "false", "--use_cpu", "true", "--model_name_or_path", str(BASE))


@pytest.fixture
def recipe(tmp_path):
    def write(**settings):
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump(settings))
        return str(file)

    return write


def test_the_command_line_wins_over_the_file(recipe):
    file = recipe(learning_rate=0.1, num_train_epochs=7, global_batch_size=32, per_device_train_batch_size=4)
    script, training, model = parse_arguments(["--config", file, *DATA, *CPU, "--learning_rate", "0.2"])
    assert (training.learning_rate, training.num_train_epochs) == (0.2, 7)
    assert (script.global_batch_size, training.gradient_accumulation_steps) == (32, 8)
    assert model.model_name_or_path == str(BASE)
    assert parse_arguments([f"--config={file}", *DATA, *CPU])[1].learning_rate == 0.1


def test_the_paper_s_global_batch_is_the_default():
    script, training, _ = parse_arguments([*DATA, *CPU, "--per_device_train_batch_size", "4"])
    assert script.global_batch_size == 256
    assert training.gradient_accumulation_steps == 64


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU the recipe's own settings stand")
@pytest.mark.parametrize(("words", "on_cpu"), [("--dry_run", True), ("--dry_run true", True), ("--dry_run false", False)])
def test_only_a_dry_run_moves_to_the_cpu(recipe, words, on_cpu):
    given = [*DATA, "--model_name_or_path", str(BASE)]
    script, training, _ = parse_arguments(["--config", recipe(bf16=False), *given, *words.split()])
    assert (script.dry_run, training.use_cpu) == (on_cpu, on_cpu)
    script, training, _ = parse_arguments(["--config", recipe(bf16=False, dry_run=on_cpu), *given])
    assert (script.dry_run, training.use_cpu) == (on_cpu, on_cpu)


class Launched:
    """What is read of the arguments of a process among others."""

    def __init__(self, processes, batch):
        self.world_size, self.per_device_train_batch_size, self.gradient_accumulation_steps = processes, batch, 1


@pytest.mark.parametrize(("processes", "batch", "steps"), [(1, 4, 64), (8, 4, 8), (8, 32, 1), (16, 8, 2), (64, 4, 1)])
def test_accumulation_follows_from_the_processes(processes, batch, steps):
    launched = Launched(processes, batch)
    set_accumulation(256, launched)
    assert launched.gradient_accumulation_steps == steps


@pytest.mark.parametrize(
    ("processes", "batch", "way"),
    [
        (8, 5, "--per_device_train_batch_size 4"),
        (2, 200, "--per_device_train_batch_size 128"),
        (3, 4, "a number of processes that divides 256"),
        (512, 1, "a number of processes that divides 256"),
    ],
)
def test_a_global_batch_that_does_not_divide_is_refused_with_a_way_out(processes, batch, way):
    with pytest.raises(UserError, match=f"is no multiple of {processes} processes x {batch} rows.*Take {way}, or"):
        set_accumulation(256, Launched(processes, batch))


@pytest.mark.parametrize("name", REMOVED)
def test_a_name_of_an_older_version_is_told_its_new_one(name, recipe):
    with pytest.raises(UserError, match=f"--{name} is no argument any more: use {REMOVED[name].split(',')[0]}"):
        parse_arguments([*DATA, *CPU, f"--{name}", "1"])
    file = recipe(**{name: 1})
    with pytest.raises(UserError, match=f"recipe.yaml: {name} is no argument any more"):
        parse_arguments(["--config", file, *DATA, *CPU])


def test_new_names_are_arguments_and_old_ones_are_not():
    from dataclasses import fields

    from trl import ModelConfig, SFTConfig

    known = {name.name for kind in (RecipeArguments, SFTConfig, ModelConfig) for name in fields(kind)}
    assert not set(REMOVED) & known
    assert set(DECIDED) <= known
    assert {"warmup_steps", "eval_strategy", "max_length", "dtype", "attn_implementation"} <= known


def test_a_misspelt_name_is_told_the_nearest():
    with pytest.raises(UserError, match="--lerning_rate is no argument; learning_rate is one"):
        parse_arguments([*DATA, *CPU, "--lerning_rate", "1"])


@pytest.mark.parametrize(
    ("name", "value"),
    [("packing", "true"), ("gradient_accumulation_steps", "8"), ("eval_strategy", "epoch"), ("assistant_only_loss", "true"),
     ("train_sampling_strategy", "group_by_length"), ("dataset_streaming", "true"), ("completion_only_loss", "false")],
)  # fmt: skip
def test_what_the_script_decides_is_refused_with_its_reason(name, value):
    with pytest.raises(UserError, match=f"Leave out --{name}: {DECIDED[name][1]}"):
        parse_arguments([*DATA, *CPU, f"--{name}", value])


def test_everything_that_is_wrong_is_said_at_once():
    with pytest.raises(UserError) as error:
        parse_arguments(["--output_dir", "unused", "--bf16", "false", "--use_cpu", "true", "--packing", "true"])
    for part in ("--dataset_name", "--model_name_or_path", "--packing"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"), [(None, "cannot be read"), ("- a\n", "holds no settings"), ("a: [", "cannot be read")]
)
def test_a_file_that_is_none_is_named(tmp_path, text, message):
    file = tmp_path / "recipe.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=f"recipe.yaml {message}"):
        parse_arguments(["--config", str(file), *DATA])


def test_help_teaches_with_an_example(capsys):
    with pytest.raises(SystemExit) as ended:
        parse_arguments(["--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert "Example:\n  accelerate launch --config_file recipes/accelerate/zero3.yaml recipes/sft.py" in told
    assert "--global_batch_size" in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lora_r", "4"], "--lora_r changes nothing without --use_peft"),
        (["--hub_model_id", "anna/m"], "--hub_model_id changes nothing without --push_to_hub"),
        (["--run_name", "mine", "--report_to", "none"], "--run_name changes nothing without --report_to"),
        (["--bnb_4bit_quant_type", "nf4"], "--bnb_4bit_quant_type changes nothing without --load_in_4bit"),
    ],
)
def test_what_changes_nothing_is_said(words, message):
    given = [*DATA, *CPU, *words]
    with pytest.raises(UserError, match=message):
        parse_arguments(given)
