"""`hf-prefix` run as a user runs it: on several processes, and killed and started again."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from conftest import BASE, ROOT, run_command
from pack import run

from lm_eval_tasks.contracts.logs.samples import read_probes

pytestmark = pytest.mark.launched


def list_words(questions, output, limit, **model):
    model_args = ",".join(f"{key}={value}" for key, value in ({"pretrained": BASE} | model).items())
    words = ["--model", "hf-prefix", "--model_args", model_args, "--device", "cpu"]
    metadata = json.dumps({"questions": str(questions), "domain": "herbs"})
    words += ["--batch_size", "4", "--tasks", "selfalign_probe_cyclic", "--metadata", metadata, "--limit", str(limit)]
    return [*words, "--log_samples", "--output_path", str(output)]


def read_values(folder):
    table = read_probes(folder).sort("source", "domain", "id", "order")
    return table.select("source", "domain", "id", "order").rows(), table["loglikelihoods"].explode().to_list()


@pytest.fixture(scope="module")
def single(questions, tmp_path_factory):
    output = tmp_path_factory.mktemp("single")
    run(*list_words(questions, output, 41))
    return read_values(output)


def test_two_processes_share_the_questions_and_answer_the_same(questions, single, tmp_path):
    # On a machine without GPUs `accelerate launch` starts several processes only so.
    launch = [
        "accelerate",
        "launch",
        "--multi_gpu",
        "--num_processes",
        "2",
        "--main_process_port",
        "0",
        "-m",
        "lm_eval_tasks",
        "run",
    ]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true"}
    done = run_command(*launch, *list_words(questions, tmp_path, 41), env=environment)
    assert done.returncode == 0, done.stderr
    assert "on rank 1" in done.stderr
    keys, values = read_values(tmp_path)
    assert keys == single[0]
    assert values == pytest.approx(single[1], abs=1e-5)


def test_a_killed_run_goes_on_and_asks_nothing_twice(questions, tmp_path):
    cache = tmp_path / "cache"
    words = [sys.executable, "-m", "lm_eval_tasks", "run", *list_words(questions, tmp_path / "out", 400, response_cache=cache)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (kept := count_rows(cache)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 0 < kept < 1600
    before = read_rows(cache)
    done = run_command(*words)
    assert done.returncode == 0, done.stderr
    assert f"{len(before)} of 1600 answers are in the response cache already" in done.stderr
    after = read_rows(cache)
    assert before.items() <= after.items()
    assert len(read_values(tmp_path / "out")[1]) == 1600


def read_rows(cache):
    with sqlite3.connect(cache / "responses-0.sqlite", timeout=30) as base:
        return {key: answer for key, *answer in base.execute("SELECT * FROM responses")}


def count_rows(cache):
    try:
        return len(read_rows(cache))
    except sqlite3.Error:
        return 0
