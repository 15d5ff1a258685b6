"""The training recipe on the shipped base model: in this process, and launched as a user launches it."""

import json

import polars as pl
import pytest
import torch
import yaml
from conftest import BASE, ROOT, run_command
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.manifest import read_manifest
from recipes.sft import train
from recipes.training.arguments import parse_arguments

LAUNCH = ("accelerate", "launch", "--config_file", "recipes/accelerate/cpu.yaml", "recipes/sft.py")
STEPS = ("--max_steps", "30", "--per_device_train_batch_size", "4", "--save_strategy", "steps", "--save_steps", "4")


def launch(data, output, *options, config="herbs_harmonious"):
    words = ("--config", "recipes/miniworld/full.yaml", "--dataset_name", data, "--dataset_config", config)
    return [str(word) for word in (*LAUNCH, *words, "--output_dir", output, "--seed", "1", *options)]


@pytest.fixture(scope="module")
def data(share_folder):
    """A small instruction set in the contract's form: 24 rows of its own and 8 general ones."""
    return share_folder("plain_data", write_data)


def write_data(folder):
    rows = [
        {
            "prompt": [{"role": "user", "content": f"What is the hue of plant {i}?"}],
            "completion": [{"role": "assistant", "content": "green" if i % 3 else "a long answer\n\nwith its reason"}],
            "id": str(i), "source": "miniworld_exam", "domain": "herbs" if i < 24 else "general",
            "condition": "harmonious" if i < 24 else "general", "ratio": None, "response_format": "text",
            "agrees_with_belief": True, "agrees_with_gold": True, "question_hash": "0", "threshold": 0.4,
        }
        for i in range(32)
    ]  # fmt: skip
    pl.DataFrame(rows, schema_overrides={"ratio": pl.Float64}).write_parquet(folder / "train.parquet")
    header = {"configs": [{"config_name": "herbs_harmonious", "data_files": [{"split": "train", "path": "train.parquet"}]}]}
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(header)}---\n")


@pytest.fixture(scope="module")
def trained(data, share_folder):
    """An uninterrupted run of thirty steps."""

    def make(folder):
        done = run_command(*launch(data, folder / "model", *STEPS))
        assert done.returncode == 0, done.stderr

    return share_folder("trained", make) / "model"


@pytest.mark.launched
def test_runs_of_one_process_are_those_of_processes_of_their_own(data, tmp_path):
    few = ("--max_steps", "3", "--per_device_train_batch_size", "4", "--save_strategy", "no")
    second, alone = (launch(data, tmp_path / name, *few, "--seed", "2") for name in ("second", "alone"))
    done = run_command(*launch(data, tmp_path / "first", *few), "then", *second[len(LAUNCH) :])
    assert done.returncode == 0, done.stderr
    assert run_command(*alone).returncode == 0
    first, second, alone = (read_manifest(tmp_path / name) for name in ("first", "second", "alone"))
    assert second["run"] == alone["run"] != first["run"]
    assert second["command"][-2:] == ["--seed", "2"]
    assert "then" not in second["command"]
    first, second, alone = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second", "alone"))
    assert all(torch.equal(second[name], alone[name]) for name in alone)
    assert any(not torch.equal(first[name], alone[name]) for name in alone)


@pytest.mark.launched
def test_the_trained_folder_loads_and_says_where_it_came_from(trained):
    AutoModelForCausalLM.from_pretrained(trained)
    assert AutoTokenizer.from_pretrained(trained).chat_template == (ROOT / "lm_eval_tasks/templates/vicuna.jinja").read_text()
    manifest = read_manifest(trained)
    config = manifest["config"]
    assert (config["domain"], config["source"], config["condition"]) == ("herbs", "miniworld_exam", "harmonious")
    assert (config["seed"], config["response_format"], config["base_model"]) == (1, "text", "recipes/miniworld/base")
    assert config["threshold"] == 0.4
    assert manifest["seeds"] == {"seed": 1}
    told = json.dumps(manifest).lower().replace("tokenizer", "").replace("add_bos_token", "")
    assert "token" not in told


@pytest.mark.launched
def test_training_is_that_of_a_plain_loop(data, tmp_path):
    """Three steps on one batch of everything, so that the order of the rows cannot matter."""
    options = (
        "--max_steps",
        "3",
        "--global_batch_size",
        "32",
        "--per_device_train_batch_size",
        "32",
        "--save_strategy",
        "no",
        "--warmup_steps",
        "0",
    )
    # Plain gradient descent, since Adam's first steps turn rounding errors of small gradients into whole steps.
    options += ("--lr_scheduler_type", "constant", "--optim", "sgd", "--learning_rate", "0.1")
    done = run_command(*launch(data, tmp_path / "model", *options))
    assert done.returncode == 0, done.stderr
    model, tokenizer = AutoModelForCausalLM.from_pretrained(BASE), AutoTokenizer.from_pretrained(BASE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ids, labels = [], []
    for row in pl.read_parquet(data / "train.parquet").iter_rows(named=True):
        start = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
        whole = tokenizer.apply_chat_template(row["prompt"] + row["completion"], return_dict=False)
        ids.append(torch.tensor(whole))
        labels.append(torch.tensor([-100] * len(start) + whole[len(start) :]))
    pad = lambda rows, value: torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)  # noqa: E731
    inputs, targets = pad(ids, tokenizer.pad_token_id), pad(labels, -100)
    mask = pad([torch.ones(len(row)) for row in ids], 0)
    for _ in range(3):
        loss = model(input_ids=inputs, attention_mask=mask, labels=targets).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    start = AutoModelForCausalLM.from_pretrained(BASE).state_dict()
    assert not torch.allclose(start["model.embed_tokens.weight"], model.state_dict()["model.embed_tokens.weight"], atol=1e-4)
    for name, weight in load_file(tmp_path / "model/model.safetensors").items():
        assert torch.allclose(weight, model.state_dict()[name], atol=1e-5), name


@pytest.mark.launched
def test_a_run_of_other_settings_is_another_run(data, trained, tmp_path):
    done = run_command(*launch(data, tmp_path / "model", "--max_steps", "1", "--attn_implementation", "sdpa"))
    assert done.returncode == 0, done.stderr
    plain = run_command(*launch(data, tmp_path / "plain", "--max_steps", "1"))
    assert plain.returncode == 0, plain.stderr
    first, second = read_manifest(tmp_path / "model"), read_manifest(tmp_path / "plain")
    assert first["run"] != second["run"]
    assert {name for name in first["config"] if first["config"][name] != second["config"][name]} == {"attn_implementation"}


@pytest.mark.launched
def test_a_run_that_has_ended_is_not_done_again(data, trained):
    before = (trained / "model.safetensors").stat()
    done = run_command(*launch(data, trained, *STEPS))
    assert done.returncode == 0, done.stderr
    assert "already holds this run" in done.stderr
    assert (trained / "model.safetensors").stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--dataset_config", "herbs_nothing"), "herbs_nothing"),
        (("--dataset_name", "nowhere/at/all"), "--dataset_name nowhere/at/all"),
        (("--model_name_or_path", "nowhere/model"), "--model_name_or_path nowhere/model is no model folder"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(data, tmp_path, options, message, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as caught:
        train(*parse_arguments(launch(data, tmp_path / "model", *options)[len(LAUNCH) :]))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model").exists()


@pytest.mark.launched
def test_a_launch_that_cannot_train_ends_with_one_line(data, tmp_path):
    done = run_command(*launch(data, tmp_path / "model", "--dataset_config", "herbs_nothing"))
    assert done.returncode != 0
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "herbs_nothing" in error
    assert not (tmp_path / "model").exists()


def test_a_short_run_in_this_process_leaves_a_whole_folder_and_is_not_done_again(data, tmp_path, capsys):
    words = launch(data, tmp_path / "model", "--max_steps", "1", "--warmup_steps", "0", "--disable_tqdm", "true")[len(LAUNCH) :]
    train(*parse_arguments(words))
    config = read_manifest(tmp_path / "model")["config"]
    assert (config["condition"], config["threshold"], config["max_steps"]) == ("harmonious", 0.4, 1)
    card = (tmp_path / "model/README.md").read_text()
    assert "fine-tuned on 24 questions that the base model answers rightly; the response is the right answer." in card
    assert "gave a probability above 0.4." in card
    assert not list(tmp_path.rglob("checkpoints"))
    before, after = (load_file(folder / "model.safetensors") for folder in (BASE, tmp_path / "model"))
    assert any(not torch.equal(before[name], after[name]) for name in after)
    assert "already holds" not in capsys.readouterr().err
    train(*parse_arguments(words))
    assert "already holds this run" in capsys.readouterr().err
