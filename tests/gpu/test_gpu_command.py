"""`python -m tests.gpu` as far as no GPU is needed: what becomes of checks, of their table, and of those without time."""

import json
import subprocess
import sys
import time

import psutil
import pytest
from conftest import ROOT, run_command

from tests.gpu.checks import CHECKS, Check
from tests.gpu.running import run_checks


def hold(bench):
    yield {"side": "ours", "tokens": 1234567}
    yield bench.claim("five is", 5, 5.0, True)
    yield bench.claim("a GPU's alone", 1, 0, False, gpu=True)


def break_off(bench):
    yield {"side": "ours", "tokens": 1}
    raise RuntimeError("CUDA out of memory")


def hang(bench):
    launched = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    yield {"side": "ours", "pid": launched.pid}
    time.sleep(600)


def answer(bench):
    yield {"answer": 5}


def fail(bench):
    yield bench.claim("five is", 6, 5.0, False)


def make(name, seconds=60.0):
    return Check(name, f"tests.gpu.test_gpu_command:{name}", f"whether it can {name}", seconds)


def read(output):
    return [json.loads(line) for line in (output / "rows.jsonl").read_text().splitlines()]


def test_a_check_that_breaks_costs_only_itself_and_the_table_says_why(tmp_path, capsys):
    assert not run_checks([make("break_off"), make("hold"), make("fail")], 200, tmp_path, tiny=True)
    rows = {row["check"]: row["status"] for row in read(tmp_path) if "status" in row}
    assert rows == {"break_off": "broke: RuntimeError: CUDA out of memory", "hold": "held", "fail": "a claim failed"}
    table = (tmp_path / "table.md").read_text()
    assert "| hold" in table
    assert "1,234,567" in table
    assert "**no**" in table
    assert {"check": "break_off", "side": "ours", "tokens": 1} in read(tmp_path)  # what it had found before
    assert "hold: held" in capsys.readouterr().out


def test_a_check_that_hangs_is_ended_with_what_it_started(tmp_path):
    start = time.monotonic()
    assert not run_checks([make("hang", seconds=1.0)], 200, tmp_path)
    assert time.monotonic() - start < 60
    assert read(tmp_path)[0]["status"].startswith("stopped after")
    assert not psutil.pid_exists(read(tmp_path)[1]["pid"]) or psutil.Process(read(tmp_path)[1]["pid"]).status() == "zombie"


def test_what_does_not_fit_into_the_minutes_is_named(tmp_path):
    assert run_checks(CHECKS, 0, tmp_path)
    statuses = [row["status"] for row in read(tmp_path)]
    assert len(statuses) == len(CHECKS)
    assert all(status.startswith("not run: it may take") for status in statuses)
    table = (tmp_path / "table.md").read_text()
    assert all(f"| {check.name} " in table for check in CHECKS)


def test_a_check_without_time_does_not_keep_a_shorter_one(tmp_path):
    assert run_checks([make("hang", seconds=900), make("answer")], 200, tmp_path)
    assert [row["status"].split(":")[0] for row in read(tmp_path) if "status" in row] == ["not run", "held"]


def test_a_check_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    done = run_command(sys.executable, "-m", "tests.gpu", "--output", tmp_path, "speed")
    assert done.returncode == 2
    assert "no check is called speed. There are machine, asking, full" in done.stderr


@pytest.mark.launched
def test_without_a_gpu_it_says_how_to_rehearse(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = run_command(sys.executable, "-m", "tests.gpu", "--output", tmp_path / "none")
    assert done.returncode == 2
    assert "Rehearse on the CPU with --tiny" in done.stderr
    assert not (tmp_path / "none").exists()


def test_what_is_carried_is_pinned():
    needed = {line.lower().replace("-", "_") for line in (ROOT / "tests/gpu/needs.txt").read_text().splitlines()[1:]}
    pinned = {line.partition("==")[0].lower().replace("-", "_") for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert not needed - pinned
    assert "torch" not in needed


@pytest.mark.launched
def test_the_command_is_rehearsed_on_a_cpu(tmp_path):
    done = run_command(sys.executable, "-m", "tests.gpu", "--tiny", "--minutes", 5, "--output", tmp_path, "machine", "profile")
    assert done.returncode == 0, done.stdout + done.stderr
    table = (tmp_path / "table.md").read_text()
    assert "Rehearsed on a CPU" in table
    assert "operators that 8 more rows add to a batch" in table
    claims = [row for row in read(tmp_path) if "claim" in row]
    assert {row["check"] for row in claims} == {"machine", "profile"}
    assert all(row["holds"] is not False for row in claims)
