"""The study file and its workflow, as far as a plan goes; `make demo` runs the whole."""

import fcntl
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT, run_command

STUDY = ROOT / "recipes/study/miniworld.yaml"
RUN = (sys.executable, "-m", "recipes.study")


@pytest.fixture
def study(tmp_path):
    """The shipped study, with its outputs elsewhere."""
    text = STUDY.read_text().replace("runs/miniworld", str(tmp_path / "runs"))
    file = tmp_path / "study.yaml"
    file.write_text(text)
    return file


def test_the_plan_names_every_run(study):
    done = run_command(*RUN, study, "-n")
    assert done.returncode == 0, done.stderr
    plan = done.stdout + done.stderr
    counts = {
        line.split()[0]: int(line.split()[1])
        for line in plan.splitlines()
        if len(line.split()) == 2 and line.split()[1].isdigit()
    }
    settings = yaml.safe_load(STUDY.read_text())
    runs = len(settings["conditions"]) * len(settings["seeds"])
    assert runs == 12
    once = dict.fromkeys(("world", "questions", "probe_base", "chat_base", "build", "report"), 1)
    assert counts | once | {"train": runs, "ask_tuned": runs} == counts


def test_a_run_waits_for_another_one_in_the_same_folder(study, tmp_path):
    (tmp_path / "runs").mkdir()
    with (tmp_path / "runs/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen([*RUN, study, "-n"], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        assert "worked on by another run" in process.stderr.readline()
        assert process.poll() is None
    assert process.communicate(timeout=120) is not None
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("text", "message"), [(None, "cannot be read"), ("- a", "holds no settings"), ("output: x", "lacks questions, general")]
)
def test_a_study_file_that_lacks_something_is_named(tmp_path, text, message):
    file = tmp_path / "study.yaml"
    if text:
        file.write_text(text)
    done = run_command(*RUN, file)
    assert done.returncode == 2
    assert message in done.stderr
