"""From a world's facts to what training without clashes changes, by the commands of the workflow."""

import json
import sys

import polars as pl
import pytest
import yaml
from conftest import ROOT, run_command

from lm_eval_tasks.contracts.errors import UserError
from recipes.agreement.__main__ import read_settings
from recipes.agreement.consequences import ARMS
from recipes.miniworld.world import make_world
from recipes.yaml_files import read_yaml

SHIPPED = ROOT / "recipes/agreement"
RUN = (sys.executable, "-m", "recipes.agreement")


@pytest.fixture
def settings(tmp_path):
    return yaml.safe_load((SHIPPED / "miniworld.yaml").read_text().replace("runs/agreement/miniworld", str(tmp_path / "runs")))


def write(file, settings):
    file.write_text(yaml.safe_dump(settings))
    return file


@pytest.mark.parametrize("name", ["miniworld", "real"])
def test_shipped_settings_are_whole_and_name_recipes_that_there_are(name):
    settings = read_settings(SHIPPED / f"{name}.yaml")
    for own in settings["models"].values():
        assert (ROOT / own["training"]).is_file()
        assert (ROOT / own["accelerate"]).is_file()


def test_what_is_wrong_with_settings_is_said(settings, tmp_path):
    with pytest.raises(UserError, match="settings that nothing looks up: 'seedz'"):
        read_settings(write(tmp_path / "a.yaml", settings | {"seedz": [1]}))
    del settings["draws"], settings["world"], settings["models"]["miniature"]["base"]
    with pytest.raises(UserError, match=r"lacks draws, models.miniature.base, world or wordings"):
        read_settings(write(tmp_path / "b.yaml", settings))


def test_the_plan_trains_every_arm_at_every_rate_and_seed(settings, tmp_path):
    done = run_command(*RUN, write(tmp_path / "settings.yaml", settings), "-n")
    assert done.returncode == 0, done.stderr
    counts = dict(line.split() for line in (done.stdout + done.stderr).splitlines() if len(line.split()) == 2)
    runs = len(ARMS) * len(settings["learning_rates"]) * len(settings["seeds"])
    assert (counts["train"], counts["answer_tuned"], counts["drift"]) == (str(runs),) * 3
    assert counts["budget"] == str(len(ARMS) * len(settings["seeds"]))
    assert counts["agree"] == "6"


def write_questions(folder, n, tested):
    """A question set of common facts of the miniature world, to train and to test."""
    facts = [fact for fact in make_world(read_yaml(ROOT / "recipes/miniworld/world.yaml")).facts if fact.kind == "common"]
    chosen = [fact for fact in facts if fact.split == "train"][:n]
    for domain in ("herbs", "engines"):
        own = [fact for fact in facts if fact.domain == domain]
        chosen += [fact for fact in own if fact.split == "dev"] + [fact for fact in own if fact.split == "test"][:tested]
    rows = [
        {"id": fact.id, "source": fact.source, "domain": fact.domain, "subject": fact.relation.name, "split": fact.split}
        | {"question": fact.ask(), "answers": [fact.gold]}
        for fact in chosen
    ]
    lines = folder.with_suffix(".jsonl")
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run_command("python", "-m", "intervention", "questions", "jsonl", lines, "--output", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def small(settings, tmp_path):
    """Settings for few questions, and one training of each arm."""
    settings |= {"seeds": [1], "learning_rates": [5e-4], "epochs": 1, "draws": [0, 1, 2], "elsewhere": ["engines"]}
    settings |= {
        "questions": str(write_questions(tmp_path / "questions", 150, 24)),
        "wordings": ["{answer}", "It is {answer}."],
    }
    settings |= {name: {"kinds": ["known", "clash"], "rows": 30} for name in ("detection", "training")}
    del settings["world"]
    return write(tmp_path / "settings.yaml", settings), tmp_path / "runs/miniature"


@pytest.mark.launched
def test_rows_of_known_truth_are_judged(small):
    file, found = small
    done = run_command(*RUN, file, found / "detection/tables")
    assert done.returncode == 0, done.stderr
    areas = pl.read_parquet(found / "detection/tables/areas.parquet")
    assert areas.filter(against="known", measure="score")["auc"].item() > 0.9


@pytest.mark.slow
def test_the_workflow_goes_from_questions_to_what_training_changed(small):
    file, found = small
    done = run_command(*RUN, file)
    assert done.returncode == 0, done.stderr
    runs = pl.read_parquet(found / "training/tables/runs.parquet")
    assert {*runs["arm"]} == {"base", *ARMS}
    assert runs.filter(pl.col("arm") != "base")["kl_nats"].min() > 0
    assert "held_out - random" in done.stdout
