"""A dry run says what the run would do, loads no model and writes nothing."""

import re
import sys
from types import SimpleNamespace

import pytest
from conftest import BASE, ROOT, run_command
from instruction_sets import make_general, make_row, make_table, write_set
from transformers import AutoModelForCausalLM
from trl import SFTConfig

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE
from recipes.memory import estimate_memory, find_config, measure_model, show_estimate
from recipes.showing.dry_run import count_work, list_settings, name_engine, plan
from recipes.training.arguments import parse_arguments
from recipes.training.rows import read_rows
from recipes.training.tokens import IGNORED, load_tokenizer, prepare_rows
from recipes.training.trainer import Trainer

PAPERS = "recipes/llama-2-7b"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eleven rows of a condition, some with a reason, and two general instructions."""
    rows = [make_row(i, reason="It grows so." if i % 3 else None) for i in range(11)]
    table = make_table([*rows, make_general(1), make_general(2)])
    return write_set(tmp_path_factory.mktemp("data") / "thirteen_rows", {"herbs_incompatible": table})


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def parse(folder, output, *words, recipe="recipes/miniworld/full.yaml"):
    data = ("--dataset_name", folder, "--dataset_config", "herbs_incompatible", "--output_dir", output, "--dry_run")
    return parse_arguments([str(word) for word in ("--config", ROOT / recipe, *data, "--use_cpu", *words)])


def prepare(script, training):
    rows, tokenizer = read_rows(script), load_tokenizer(str(BASE))
    tokenizer.chat_template = CHAT_TEMPLATE.read_text()
    return rows, tokenizer, prepare_rows(tokenizer, rows, training.max_length)


def read_output(capsys):
    """What was printed, each part on one line, without the frames of tables."""
    return " ".join(re.sub(r"[│┃╭╮╰╯─━]", " ", capsys.readouterr().out).split())


def test_steps_are_those_that_the_trainer_takes_and_tokens_those_that_it_sees(folder, tmp_path):
    sizes = ("--global_batch_size", "5", "--per_device_train_batch_size", "5", "--num_train_epochs", "2")
    script, training, _ = parse(folder, tmp_path, *sizes, "--warmup_steps", "0.4", "--save_strategy", "no")
    rows, tokenizer, prepared = prepare(script, training)
    work = count_work(script, training, rows, prepared)
    training.disable_tqdm = True
    network = AutoModelForCausalLM.from_pretrained(BASE)
    trainer = Trainer(model=network, args=training, train_dataset=prepared, processing_class=tokenizer, ids=rows["id"])
    done = trainer.train()
    warm = training.get_warmup_steps(done.global_step)
    assert work["steps"] == f"{done.global_step}, 3 an epoch; the first {warm} warm up"
    assert warm == 3  # 0.4 of 6, rounded up
    assert work["rows"] == "13: 11 incompatible, 2 general"
    lengths = [len(ids) for ids in prepared["input_ids"]]
    trained = sum(label != IGNORED for labels in prepared["labels"] for label in labels)
    shape = f"mean {sum(lengths) / 13:.0f}, longest {max(lengths)} a row"
    assert work["tokens an epoch"] == f"{sum(lengths)}, {trained} of them with loss; {shape}"
    times = 13 * 2048 / sum(lengths)
    assert work["padded as in the paper"] == f"26,624, to 2,048 each: {times:.1f} times as many"


def test_max_steps_outdo_the_epochs(folder, tmp_path):
    script, training, model = parse(folder, tmp_path, "--max_steps", "7")
    assert count_work(script, training, read_rows(script), None)["steps"].startswith("7, 1 an epoch")
    assert list_settings(script, training, model)["epochs"] == "--max_steps 7"


def test_rows_are_shown_with_their_loss_beside_the_evaluation_prompt(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", None)  # no model is loaded
    monkeypatch.setenv("COLUMNS", "200")
    plan(*parse(folder, tmp_path / "out"))
    text = read_output(capsys)
    assert "evaluation herbs_incompatible" in text
    assert "B.·ivy·1↵ ↵ It·grows·so.</s>" in text.replace("  ", " ")
    assert "made_up / herbs / 1" in text
    assert "general / general / 1" in text
    assert text.endswith("Dry run: nothing was trained or written.")
    assert not (tmp_path / "out").exists()


def test_rows_of_another_making_are_counted_and_not_shown(folder, tmp_path, capsys, monkeypatch):
    script, training, model = parse(folder, tmp_path)
    rows = read_rows(script).remove_columns("order")
    monkeypatch.setattr("recipes.showing.dry_run.read_rows", lambda script: rows)
    plan(script, training, model)
    text = read_output(capsys)
    assert "13: 11 incompatible, 2 general" in text
    assert "The rows have no column 'order'" in text


def test_a_gated_model_is_described_without_its_tokenizer(folder, tmp_path, capsys, offline):
    script, training, model = parse(folder, tmp_path, recipe=f"{PAPERS}/full.yaml")
    plan(script, training, model, ["It has no wheels."])
    text = read_output(capsys)
    assert "This launch would be refused: It has no wheels." in text
    assert "meta-llama/Llama-2-7b-hf: its tokenizer is needed to count tokens and to show rows." in text
    config = find_config(model.model_name_or_path)
    found = estimate_memory(config, measure_model(config, model), "single_gpu", 1, 1, 4, 2048)
    assert f"single_gpu {found.total / (1 << 30):.1f} = {show_estimate(found)}" in text
    assert "rows a step 256 = 1 x 4 x 64" in text
    assert "8 x 4 x 8, 16 x 4 x 4, 32 x 4 x 2" in text
    assert "weights float32, arithmetic bf16" in text
    assert "tokens an epoch" not in text


def test_a_quantised_base_is_compared_under_the_engines_that_train_it(folder, tmp_path, capsys, offline):
    plan(*parse(folder, tmp_path, recipe=f"{PAPERS}/qlora.yaml"))
    text = read_output(capsys)
    assert "QLoRA: r 64, alpha 16, dropout 0.1, all-linear layers" in text
    assert text.count("does not share out a base of 4 bits") == 4


def test_without_deepspeed_the_other_engines_are_told(folder, tmp_path, capsys, offline, monkeypatch):
    monkeypatch.setitem(sys.modules, "deepspeed.runtime.zero.stage3", None)
    plan(*parse(folder, tmp_path, recipe=f"{PAPERS}/full.yaml"))
    text = read_output(capsys)
    assert text.count("'selfalign[deepspeed]'") == 3
    assert "ddp 144.0 = 138.1 + 5.9" in text


def test_a_model_that_is_nowhere_is_an_error(folder, tmp_path, offline):
    with pytest.raises(UserError, match="nobody/nothing cannot be read"):
        plan(*parse(folder, tmp_path, "--model_name_or_path", "nobody/nothing"))


def test_an_engine_has_the_name_of_its_launch_configuration(folder, tmp_path, monkeypatch):
    _, training, _ = parse(folder, tmp_path)
    assert name_engine(training) == "cpu"
    training.bf16 = True
    assert name_engine(training) == "single_gpu"
    monkeypatch.setattr(SFTConfig, "world_size", 8)
    assert name_engine(training) == "ddp"
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert name_engine(training) == "fsdp2"
    for stage, device, name in ((2, "none", "zero2"), (3, "none", "zero3"), (3, "cpu", "zero3_offload")):
        training.deepspeed_plugin = SimpleNamespace(zero_stage=stage, offload_param_device=device)
        assert name_engine(training) == name
        assert (ROOT / f"recipes/accelerate/{name}.yaml").is_file()


@pytest.mark.launched
def test_a_recipe_for_gpus_is_looked_at_without_one_and_without_a_launcher(folder, tmp_path):
    words = ("--config", f"{PAPERS}/qlora.yaml", "--model_name_or_path", BASE, "--dataset_name", folder)
    words = (*words, "--dataset_config", "herbs_incompatible", "--output_dir", tmp_path / "out", "--dry_run")
    done = run_command(sys.executable, "-m", "recipes.sft", *words)
    assert done.returncode == 0, done.stderr
    assert "weights bfloat16, arithmetic bf16" in done.stdout
    assert "evaluation" in done.stdout
    assert done.stdout.rstrip().endswith("Dry run: nothing was trained or written.")
    assert not (tmp_path / "out").exists()
