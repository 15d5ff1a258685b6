"""A base that comes with this project is taken only where it was pretrained as the study says."""

import json
from pathlib import Path

import pytest
import yaml
from conftest import BASE

from recipes.study import shipping
from recipes.study.shipping import find_base, find_shipped, spread_worlds

PRETRAINING, WORLD = "recipes/miniworld/pretrain.yaml", "recipes/miniworld/world.yaml"


@pytest.fixture
def worlds(tmp_path, monkeypatch):
    """A folder of shipped bases with that of world 31, of which there is the record alone."""
    record = json.loads((BASE / "pretraining.json").read_text())
    record["config"]["seed"] = 31
    (tmp_path / "worlds/31").mkdir(parents=True)
    (tmp_path / "worlds/31/pretraining.json").write_text(json.dumps(record))
    monkeypatch.setattr(shipping, "WORLDS", tmp_path / "worlds")
    return tmp_path / "worlds"


def test_a_shipped_base_is_taken_by_its_seed(worlds):
    study = {"output": "runs/x", "worlds": [31, 32], "world": WORLD, "pretraining": PRETRAINING, "models": {"mini": {}}}
    spread = dict(spread_worlds(study))
    assert spread["mini-31"]["base"] == str(worlds / "31")
    assert spread["mini-32"]["base"] == "runs/x/worlds/32/mini-32"
    assert spread["mini-31"]["questions"] == "runs/x/worlds/31/questions"  # they are made in any case


def test_a_base_of_another_pretraining_or_world_is_not_taken(worlds, tmp_path):
    assert find_base(31, PRETRAINING, WORLD) == str(worlds / "31")
    other = yaml.safe_load(Path(PRETRAINING).read_text())
    other["corpus"]["rounds"] += 1
    (tmp_path / "pretrain.yaml").write_text(yaml.safe_dump(other))
    assert find_base(31, str(tmp_path / "pretrain.yaml"), WORLD) is None
    (tmp_path / "world.yaml").write_text(Path(WORLD).read_text() + "# other\n")
    assert find_base(31, PRETRAINING, str(tmp_path / "world.yaml")) is None
    assert find_base(32, PRETRAINING, WORLD) is None


def test_what_comes_with_this_project_is_found_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_shipped(WORLD) == str(BASE.parent / "world.yaml")
    assert find_shipped("mine.yaml") == "mine.yaml"
