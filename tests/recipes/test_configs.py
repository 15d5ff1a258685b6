"""Every shipped configuration is one that the installed libraries read."""

import shlex

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from conftest import ROOT
from trl import ModelConfig, SFTConfig, TrlParser

from recipes.arguments import RecipeArguments

RECIPES = sorted((ROOT / "recipes").glob("*/full.yaml"))
LAUNCHES = sorted((ROOT / "recipes/accelerate").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda file: file.parent.name)
def test_a_recipe_names_what_trl_knows_and_neither_data_nor_output(recipe, tmp_path, monkeypatch):
    settings = yaml.safe_load(recipe.read_text())
    assert not {"dataset_name", "dataset_config", "output_dir"} & set(settings)
    # bf16 is refused without a GPU, whatever else is right.
    on_cpu = tmp_path / "recipe.yaml"
    on_cpu.write_text(yaml.safe_dump(settings | {"bf16": False, "output_dir": str(tmp_path)}))
    _, training, model = TrlParser((RecipeArguments, SFTConfig, ModelConfig)).parse_args_and_config(["--config", str(on_cpu)])
    assert training.learning_rate == settings["learning_rate"]
    assert model.model_name_or_path == settings["model_name_or_path"]


@pytest.mark.parametrize("file", LAUNCHES, ids=lambda file: file.stem)
def test_a_launch_configuration_is_one_of_accelerate(file):
    settings = load_config_from_file(str(file))
    assert settings.num_processes >= 1


@pytest.mark.parametrize("file", [*RECIPES, *LAUNCHES], ids=lambda file: f"{file.parent.name}/{file.name}")
def test_the_header_is_the_launch_command(file):
    lines = []
    for line in file.read_text().splitlines():
        lines.append(line.removeprefix("# ").removesuffix("\\"))
        if not line.endswith("\\"):
            break
    words = shlex.split(" ".join(lines))
    assert words[:3] == ["accelerate", "launch", "--config_file"]
    assert str(file.relative_to(ROOT)) in words
    assert all((ROOT / word).is_file() for word in words if word.startswith("recipes/"))
