"""The command `python -m lm_eval_tasks run`: options as lm-eval reads them, errors in one line, questions loaded once."""

import json
import shutil
import sys

import lm_eval.tasks
import pytest
import yaml
from conftest import BASE, run_command
from pack import make_questions, refuse_run, write_questions

from lm_eval_tasks import tasks
from lm_eval_tasks.running import asking
from lm_eval_tasks.running.asking import list_tasks
from lm_eval_tasks.running.harness import run_harness
from lm_eval_tasks.tasks import QuestionTask

RUN = (sys.executable, "-m", "lm_eval_tasks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model without weights, and a question set."""
    folder = tmp_path_factory.mktemp("harness")
    shutil.copytree(BASE, folder / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    write_questions(folder / "questions", {"herbs": {"dev": make_questions(5, 4, "dev"), "test": make_questions(9, 4, "test")}})
    return folder


def list_words(folder, task="selfalign_probe"):
    metadata = json.dumps({"questions": str(folder / "questions")})
    return ["--tasks", task, "--metadata", metadata, "--device", "cpu"]


@pytest.mark.parametrize("form", ["commas", "words", "JSON"])
def test_model_arguments_are_read_in_every_form_that_lm_eval_takes(folder, form):
    arguments = {"pretrained": str(folder / "model"), "max_length": 40}
    pairs = [f"{name}={value}" for name, value in arguments.items()]
    given = {"commas": [",".join(pairs)], "words": pairs, "JSON": [json.dumps(arguments)]}[form]
    message = refuse_run("--model_args", *given, *list_words(folder))
    assert f"exceed the 40 tokens that {folder / 'model'} reads" in message


def test_a_configuration_file_is_read_and_the_command_line_wins(folder, tmp_path):
    settings = {
        "model": "hf",
        "model_args": {"pretrained": str(folder / "model"), "max_length": 40},
        "tasks": ["selfalign_probe"],
    }
    settings["metadata"] = {"questions": str(folder / "questions")}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    assert "exceed the 40 tokens" in refuse_run("--config", tmp_path / "run.yaml")
    message = refuse_run(
        "--config", tmp_path / "run.yaml", "--tasks", "selfalign_chat", "--chat_template", "--model", "hf-prefix"
    )
    assert message.startswith("selfalign_chat: 9 question(s), with prompt and longest choice, exceed the 40 tokens")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings | {"tusks": 2}))
    assert "unexpected keyword argument 'tusks'" in refuse_run("--config", tmp_path / "run.yaml")


def test_options_that_cannot_be_used_are_refused_in_one_line(folder):
    model, words = ["--model_args", f"pretrained={folder / 'model'}"], list_words(folder)
    near = "the pack has no task 'selfalign_medicin_probe'; near it: selfalign_medicine_probe, "
    assert refuse_run(*model, "--tasks", "selfalign_medicin_probe,selfalign_chat").startswith(near)
    assert "lm-eval's own tasks are asked with `lm_eval`" in refuse_run(*model, "--tasks", "hellaswag")
    assert "no task is named. Name one or several with --tasks" in refuse_run(*model)
    assert "lm-eval has no --model 'hf-prefiks'; it has hf-prefix." in refuse_run("--model", "hf-prefiks", *model, *words)
    assert "argument --limit/-L: invalid float value: 'few'. `python -m" in refuse_run(*model, *words, "--limit", "few")
    assert "unrecognized arguments: --shots 3" in refuse_run(*model, *words, "--shots", "3")
    assert "Invalid JSON" in refuse_run(*model, *words, "--metadata", "{'questions': 1}")
    assert "Specify --output_path" in refuse_run(*model, *words, "--log_samples")
    assert "no configuration that can be read" in refuse_run("--model_args", f"pretrained={folder / 'questions'}", *words)
    missing = f"{model[1]},tokenizer={folder / 'none'}"
    assert f"the tokenizer folder {folder / 'none'} does not exist" in refuse_run("--model_args", missing, *words)


def test_a_template_file_is_for_hf_prefix_and_has_to_be_there(folder):
    model, words = ["--model_args", f"pretrained={folder / 'model'}"], list_words(folder, "selfalign_chat")
    message = refuse_run("--model", "hf", *model, *words, "--chat_template")
    assert message.startswith(
        "--chat_template is for --model hf-prefix and vllm-prefix, not for 'hf'. Name a tokenizer folder that has"
    )
    message = refuse_run("--model", "hf-prefix", *model, *words, "--chat_template", "none.jinja")
    assert message.startswith("the chat template none.jinja cannot be read")
    assert "cannot be loaded" in refuse_run("--model", "hf-prefix", *model, *words, "--chat_template")


def test_questions_are_loaded_and_checked_once_and_lm_eval_is_left_as_it_was(folder, tmp_path, monkeypatch):
    calls, manager = [], lm_eval.tasks.TaskManager
    download, check = QuestionTask.download, tasks.check_task
    monkeypatch.setattr(QuestionTask, "download", lambda *a, **b: calls.append("load") or download(*a, **b))
    monkeypatch.setattr(tasks, "check_task", lambda *a: calls.append("check") or check(*a))
    words = ["--model_args", f"pretrained={BASE}", *list_words(folder), "--num_fewshot", "2", "--limit", "2"]
    run_harness(["run", *words, "--log_samples", "--output_path", str(tmp_path)])
    assert calls == ["load", "check"]
    assert len(list(tmp_path.rglob("samples_*.jsonl"))) == 1
    assert lm_eval.tasks.TaskManager is manager
    assert "simple_evaluate" not in vars(lm_eval)


def test_an_error_of_the_run_itself_keeps_its_traceback(folder, monkeypatch):
    def fail(**_):
        raise ValueError("in the middle of it")

    monkeypatch.setattr(asking, "simple_evaluate", fail)
    with pytest.raises(ValueError, match="in the middle of it"):
        run_harness(["run", "--model_args", f"pretrained={folder / 'model'}", *list_words(folder)])


def test_tasks_of_ones_own_are_asked_beside_the_packs(folder, tmp_path):
    own = {
        "task": "mine",
        "include": str(asking.PACK / "templates" / "_probe_letter.yaml"),
        "dataset_kwargs": {"domain": "nowhere"},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(own))
    words = ["--model_args", f"pretrained={folder / 'model'}", *list_words(folder, "mine"), "--include_path", tmp_path]
    assert "has no domain 'nowhere'" in refuse_run(*words)
    words = ["--model_args", f"pretrained={folder / 'model'}", *list_words(folder), "--include_path", tmp_path]
    assert "cannot be loaded" in refuse_run(*words)


def test_the_pack_lists_its_tasks_and_their_tags():
    lines = list_tasks()
    assert "selfalign_mmlu_probe  (selfalign_benchmarks)" in lines
    assert "selfalign_context" in lines
    assert len(lines) == len(set(lines)) > 50


def test_help_teaches_with_examples_and_errors_end_with_status_2():
    helped, bare = (run_command(*RUN, "run", *words) for words in (["--help"], []))
    assert helped.returncode == bare.returncode == 0
    assert helped.stdout == bare.stdout
    first = helped.stdout.index("python -m lm_eval_tasks run --model hf-prefix --model_args pretrained=MODEL")
    assert first < helped.stdout.index("--chat_template [FILE]") < helped.stdout.index("--num_fewshot")
    done = run_command(*RUN, "run", "--limit", "few")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "error: argument --limit/-L: invalid float value: 'few'. `python -m lm_eval_tasks run --help` shows how to ask."
    ]
