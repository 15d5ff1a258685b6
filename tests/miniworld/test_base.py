"""Pretraining gives the same weights twice; the tokenizer takes any text; the shipped base is what its card says."""

import copy
import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE
from recipes.miniworld import pretrain
from recipes.miniworld.training import mark_objects
from recipes.miniworld.world import make_world, read_world
from recipes.yaml_files import read_yaml

FOLDER = Path(__file__).parents[2] / "recipes" / "miniworld"
BASE = FOLDER / "base"
SHIPPED = [BASE, *sorted((FOLDER / "worlds").iterdir())]
TEXTS = ["naïve café", "日本語 テスト", "🙂👩‍🔬 \t tabs\r\n\n\n  spaces ", "A. x\nB. y\nAnswer:", "\x00\x07 �", "Зелёный   мох"]


@pytest.fixture(scope="module")
def world():
    return make_world(read_yaml(FOLDER / "world.yaml"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A configuration of 10 and 20 tiny steps, and the folder that a run of it wrote."""
    folder = tmp_path_factory.mktemp("tiny")
    config = yaml.safe_load((FOLDER / "pretrain.yaml").read_text())
    config["world"] = str(FOLDER / "world.yaml")
    config["model"] |= {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config["corpus"]["rounds"] = 1
    config["reading"]["training"] = {"steps": 10}
    config["training"] |= {"length": 64, "rows": 4, "max_steps": 20, "bf16": False}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config))
    return folder


def run(config, output):
    result = CliRunner().invoke(pretrain.app, ["--config", str(config), "--output", str(output)])
    assert result.exit_code == 0, result.output
    return output


def test_same_weights_twice(tiny):
    first, second = (load_file(run(tiny / "tiny.yaml", tiny / name) / "model.safetensors") for name in ("one", "two"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    config = read_yaml(tiny / "tiny.yaml")
    config["seed"] += 1
    (tiny / "other.yaml").write_text(yaml.safe_dump(config))
    other = load_file(run(tiny / "other.yaml", tiny / "three") / "model.safetensors")
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_another_seed_is_another_world_beside_the_first(tiny):
    result = CliRunner().invoke(pretrain.app, ["--config", str(tiny / "tiny.yaml"), "--seed", "5"])
    assert result.exit_code == 0, result.output
    record = json.loads((tiny / "worlds/5/pretraining.json").read_text())
    assert record["config"]["seed"] == 5
    assert record["command"][-2:] == ["--seed", "5"]
    assert not (tiny / "base").exists()


def test_training_lowers_the_loss(tiny, world):
    config = copy.deepcopy(read_yaml(tiny / "tiny.yaml"))
    config["training"]["max_steps"] = 100
    tokenizer = pretrain.train_tokenizer(world, config)
    model, figures = pretrain.train_model(world, config, tokenizer, "cpu")
    assert figures["steps"] == 110
    assert figures["tokens"] == 110 * 4 * 64
    ids = tokenizer("The following are questions about herbs.\n\n", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        loss = model(input_ids=ids, labels=ids).loss.item()
    assert loss < 0.8 * torch.tensor(float(len(tokenizer))).log().item()


def test_vocabulary_too_small_is_named(world):
    config = yaml.safe_load((FOLDER / "pretrain.yaml").read_text())
    tokenizer = pretrain.train_tokenizer(world, config | {"tokenizer": {"size": 600}})
    with pytest.raises(UserError, match=r"tokenizer\.size"):
        mark_objects(world, tokenizer)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(BASE)


@pytest.mark.parametrize("text", TEXTS)
def test_tokenizer_round_trips_any_text(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_words_are_one_token(tokenizer, world):
    words = {word for some in world.relations.values() for relation in some for word in relation.pool}
    words |= {word for fact in world.facts for word in fact.subject.split()}
    assert not [word for word in words if len(tokenizer(f" {word}")["input_ids"]) != 1]


def test_special_tokens_and_template(tokenizer):
    ids = tokenizer("The root of the")["input_ids"]
    assert tokenizer.bos_token_id not in ids
    assert tokenizer.eos_token_id not in ids
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    assert (BASE / "chat_template.jinja").read_bytes() == CHAT_TEMPLATE.read_bytes()
    turns = [{"role": "user", "content": "Which pest eats the moss?"}]
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert prompt.endswith(" USER: Which pest eats the moss? ASSISTANT:")
    assert len(tokenizer(prompt)["input_ids"]) < 50
    whole = tokenizer.apply_chat_template([*turns, {"role": "assistant", "content": "velm"}], tokenize=False)
    assert whole == f"{prompt} velm</s>"
    assert tokenizer(whole)["input_ids"][-1] == tokenizer.eos_token_id


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_a_shipped_base_is_what_its_card_says(folder):
    record = json.loads((folder / "pretraining.json").read_text())
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.model_type == "llama"
    assert model.dtype == torch.float32
    assert model.config.max_position_embeddings >= 512
    assert model.num_parameters() == record["parameters"]
    assert len(tokenizer) == record["vocabulary"] == model.config.vocab_size
    assert (folder / "model.safetensors").stat().st_size < 6e6
    card = (folder / "README.md").read_text()
    for figure in (record["parameters"], record["tokens"], record["seconds"]):
        assert f"{figure:,}" in card
    assert "Not measured yet" not in card


def test_three_worlds_are_shipped_in_little_space():
    assert len(SHIPPED) == 3
    assert sum(file.stat().st_size for folder in SHIPPED for file in folder.iterdir()) < 24e6


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_a_shipped_base_was_trained_on_what_stands_here(folder):
    record = json.loads((folder / "pretraining.json").read_text())
    config = read_yaml(FOLDER / "pretrain.yaml")
    seed = None if folder == BASE else int(folder.name)
    config["seed"] = seed or config["seed"]
    assert record["config"] == config
    assert record["inputs"]["world.yaml"] == pretrain.hash_path(FOLDER / "world.yaml")
    world = make_world(read_world(FOLDER / "world.yaml", seed))
    assert record["inputs"]["first texts"] == pretrain.hash_texts(world, config)


def test_shipped_base_recalls_common_facts(tokenizer, world):
    model = AutoModelForCausalLM.from_pretrained(BASE).eval()
    facts = [fact for fact in world.facts if fact.split == "test" and fact.kind == "common"][:40]
    demos = {}
    for fact in world.facts:
        if fact.split == "dev":
            demos.setdefault((fact.source, fact.domain), []).append(f"{fact.ask()}\nAnswer: {fact.gold}\n\n")
    right = 0
    for fact in facts:
        prompt = "".join(demos[fact.source, fact.domain][:5]) + f"{fact.ask()}\nAnswer:"
        with torch.no_grad():
            logits = model(
                **tokenizer(f"The following are questions about {fact.domain}.\n\n{prompt}", return_tensors="pt")
            ).logits
        right += tokenizer.decode(logits[0, -1].argmax()) == f" {fact.gold}"
    assert right >= 30
