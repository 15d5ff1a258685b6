"""The task pack in tests: tasks built in this process, made-up question sets, what is wrong with a pack's files."""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from conftest import BASE, ROOT
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from lm_eval_tasks.__main__ import app
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import QUESTION_SCHEMA
from lm_eval_tasks.tasks import QuestionTask

PACK = ROOT / "lm_eval_tasks"


def build(task: str, **metadata: Any) -> QuestionTask:
    """A task as lm-eval builds it for `--metadata` and `--model_args`."""
    return TaskManager(include_path=str(PACK), include_defaults=False, metadata=metadata).load([task])["tasks"][task]


def run(*words: object) -> None:
    """`python -m lm_eval_tasks run ...` in this process, which has loaded the libraries already."""
    app(["run", *map(str, words)], standalone_mode=False)


def list_words(task: str, model: object, metadata: Mapping[str, Any], output: Path, *options: str) -> list[object]:
    """The words of a run that asks a model."""
    words = ["--model", "hf", "--model_args", f"pretrained={model}", "--device", "cpu", "--batch_size", "16", "--tasks", task]
    return [*words, "--metadata", json.dumps(metadata), "--log_samples", "--output_path", output, *options]


def ask_twice(folder: Path, questions: Path) -> None:
    """Ask the base model 40 questions few-shot and, in the same process, the same in the chat prompt, choices rotated by 2."""

    def list_some(task: str, metadata: Mapping[str, Any], name: str) -> list[object]:
        return list_words(task, BASE, {"questions": str(questions)} | metadata, folder / name, "--limit", "40")

    probe = list_some("selfalign_miniworld_probe", {"domain": ["annals", "herbs"]}, "probe")
    chat = list_some("selfalign_miniworld_chat", {"domain": "annals", "order": 2}, "chat")
    run(*probe, "then", *chat, "--apply_chat_template")


def refuse_run(*words: object) -> str:
    """The message, of one line, with which a run is refused."""
    with pytest.raises(UserError) as raised:
        run(*words)
    message = str(raised.value)
    assert "\n" not in message
    return message


def write_prompt(task: QuestionTask, doc: dict[str, Any]) -> str:
    """The prompt of a question in a few-shot task."""
    return task.fewshot_context(doc, task.config.num_fewshot, apply_chat_template=False)


def make_questions(n: int, choices: int = 4, name: str = "q", seed: int = 0) -> list[dict[str, Any]]:
    """Made-up questions, gold at random positions."""
    rng = random.Random(f"{seed} {name}")
    words = ["sleep", "luck", "rain", "gold", "mirth", "frost", "salt", "wool", "moss", "clay"]
    return [
        {"id": f"{name}-{i}", "source": "made_up", "question": f"What does {name} {i} bring?"}
        | {"choices": [f"{word} {i}" for word in rng.sample(words, choices)], "answer": rng.randrange(choices)}
        for i in range(n)
    ]


def write_questions(folder: Path, configs: Mapping[str, Mapping[str, list[dict[str, Any]]]]) -> Path:
    """A question set: domain -> split -> rows."""
    tables = {
        domain: {
            split: pl.DataFrame([{"domain": domain} | row for row in rows], QUESTION_SCHEMA) for split, rows in splits.items()
        }
        for domain, splits in configs.items()
    }
    return write_layout(folder, tables)


def write_layout(folder: Path, configs: Mapping[str, Mapping[str, pl.DataFrame]]) -> Path:
    """A data set folder as on the Hub: config -> split -> table, as parquet with a card that names them."""
    header = []
    for config, splits in configs.items():
        (folder / config).mkdir(parents=True)
        files = []
        for split, table in splits.items():
            table.write_parquet(folder / config / f"{split}.parquet")
            files.append({"split": split, "path": f"{config}/{split}.parquet"})
        header.append({"config_name": config, "data_files": files})
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': header})}---\n")
    return folder


def find_faults(pack: Path) -> list[str]:
    """What is wrong with a pack's files, of which lm-eval passes over most in silence: a line a fault."""
    faults, names = [], {}
    for file in sorted(pack.rglob("*.y*ml")):
        where, template = file.relative_to(pack), file.name.startswith("_")
        try:
            config = load_yaml(file, resolve_func=True)
        except Exception as error:  # any fault in the file or in what it includes and names
            faults.append(f"{where} cannot be loaded: {type(error).__name__}")
            continue
        if template:
            continue
        lines = [line for line in file.read_text().splitlines() if line.strip()]
        if not 3 <= len(lines) <= 5:
            faults.append(f"{where} has {len(lines)} lines, not 3 to 5")
        if not isinstance(config.get("task"), str):
            faults.append(f"{where} names no task")
        elif config["task"] in names:
            faults.append(f"{where} has the task name {config['task']} of {names[config['task']]}")
        else:
            names[config["task"]] = where
        if not (file.parent / "README.md").is_file():
            faults.append(f"{where} has no README.md beside it")
    index = TaskManager(include_path=str(pack), include_defaults=False).task_index
    indexed = {entry.yaml_path.relative_to(pack): name for name, entry in index.items() if entry.yaml_path}
    faults += [f"{where} is not in the index" for name, where in names.items() if indexed.get(where) != name]
    return faults
