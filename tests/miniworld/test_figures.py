"""The shipped base model reaches what its card says, measured anew through the task pack."""

import json
import sys

import pytest
from conftest import BASE, run_command

RUN = (sys.executable, "-m", "lm_eval_tasks")
pytestmark = pytest.mark.launched


def test_the_shipped_base_meets_every_requirement_and_its_card_says_the_same(world, questions, tmp_path):
    model = (
        "--model",
        "hf-prefix",
        "--model_args",
        f"pretrained={BASE}",
        "--device",
        "cpu",
        "--batch_size",
        "64",
        "--log_samples",
    )
    probe = json.dumps({"questions": str(questions), "splits": ["train", "test"]})
    told = json.dumps({"questions": str(questions), "splits": ["train"], "contexts": str(world / "contexts.jsonl")})
    chat = json.dumps({"questions": str(questions)})
    asked = run_command(
        *RUN, "run", *model, "--tasks", "selfalign_miniworld_probe", "--metadata", probe, "--output_path", tmp_path / "probe",
        "then", *model, "--tasks", "selfalign_miniworld_probe_context", "--metadata", told,
        "--output_path", tmp_path / "context",
        "then", *model, "--tasks", "selfalign_miniworld_chat", "--metadata", chat, "--output_path", tmp_path / "chat",
        "--apply_chat_template",
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr
    table = run_command(
        *RUN,
        "table",
        tmp_path / "probe",
        tmp_path / "context",
        tmp_path / "chat",
        "--score",
        "sum",
        "--output",
        tmp_path / "figures.parquet",
    )
    assert table.returncode == 0, table.stderr
    done = run_command(sys.executable, "-m", "recipes.miniworld.check", tmp_path / "figures.parquet")
    assert done.returncode == 0, done.stdout + done.stderr
    accuracy = next(line.split() for line in done.stdout.splitlines() if line.startswith("5-shot accuracy") and " all " in line)
    assert f"| 5-shot accuracy | all | {accuracy[3]} |" in (BASE / "README.md").read_text()
