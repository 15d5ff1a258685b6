"""The shipped base models reach what their cards say, measured anew through the task pack."""

import json
import sys

import pytest
from conftest import BASE, run_command

WORLD = BASE.parent / "world.yaml"
BASES = [pytest.param(BASE, marks=pytest.mark.launched, id="base")]
BASES += [pytest.param(base, marks=pytest.mark.slow, id=base.name) for base in sorted((BASE.parent / "worlds").iterdir())]


def run(*words):
    done = run_command(sys.executable, "-m", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("base", BASES)
def test_a_shipped_base_meets_every_requirement_and_its_card_says_the_same(base, tmp_path):
    seed = () if base == BASE else ("--seed", base.name)
    world, questions = tmp_path / "world", tmp_path / "questions"
    run("recipes.miniworld.world", "--config", WORLD, *seed, "--output", world)
    run("intervention", "questions", "jsonl", world / "questions.jsonl", "--output", questions)
    model = (
        "--model",
        "hf-prefix",
        "--model_args",
        f"pretrained={base}",
        "--device",
        "cpu",
        "--batch_size",
        "64",
        "--log_samples",
    )
    probe = json.dumps({"questions": str(questions), "splits": ["train", "test"]})
    told = json.dumps({"questions": str(questions), "splits": ["train"], "contexts": str(world / "contexts.jsonl")})
    chat = json.dumps({"questions": str(questions)})
    run(
        "lm_eval_tasks", "run", *model, "--tasks", "selfalign_miniworld_probe", "--metadata", probe,
        "--output_path", tmp_path / "probe",
        "then", *model, "--tasks", "selfalign_miniworld_probe_context", "--metadata", told,
        "--output_path", tmp_path / "context",
        "then", *model, "--tasks", "selfalign_miniworld_chat", "--metadata", chat, "--output_path", tmp_path / "chat",
        "--apply_chat_template",
    )  # fmt: skip
    logs, table = [tmp_path / name for name in ("probe", "context", "chat")], tmp_path / "figures.parquet"
    run("lm_eval_tasks", "table", *logs, "--score", "sum", "--output", table)
    lines = run("recipes.miniworld.check", table).splitlines()
    accuracy = next(line.split() for line in lines if line.startswith("5-shot accuracy") and " all " in line)
    assert f"| 5-shot accuracy | all | {accuracy[3]} |" in (base / "README.md").read_text()
