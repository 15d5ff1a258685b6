"""A study that is killed thirty times ends as one that is not; only what ran when it was killed is done again."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import BASE, run_command
from new_questions import write_csv

from lm_eval_tasks.contracts.files import hash_path

RUN = (sys.executable, "-m", "recipes.study", "study.yaml")
STUDY = {
    "output": "runs",
    "questions": "questions",
    "models": {
        "miniature": {
            "base": str(BASE),
            "training": "recipes/miniworld/full.yaml",
            "accelerate": "recipes/accelerate/cpu.yaml",
            "lm_eval": "--model hf-prefix --device cpu --batch_size 64 --use_cache runs/responses",
        }
    },
    "domains": ["herbs"],
    "conditions": ["self_aligning", "incompatible"],
    "seeds": [1, 2],
    "belief_rule": "quantile:0.5",
    "size": 32,
    "general_share": 0,
    "tasks": {"probe": "selfalign_probe_cloze", "chat": "selfalign_chat_cloze"},
    "primary": "self_aligning",
}
KILLS = 30


def prepare(folder: Path) -> Path:
    """A folder with a study of four trainings, on 300 questions."""
    folder.mkdir()
    write_csv(folder / "herbs.csv")
    words = ("intervention", "questions", "csv", "herbs.csv", "--set", "source=mine", "--set", "domain=herbs")
    done = run_command(sys.executable, "-m", *words, "--output", "questions", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    return folder


def list_finished(folder: Path) -> dict[Path, tuple[int, str]]:
    """When each model that is finished was, and the hash of its weights."""
    files = folder.glob("runs/miniature/herbs/*/seed-*/model/manifest.json")
    return {file: (file.stat().st_mtime_ns, hash_path(file.with_name("model.safetensors"))) for file in files}


def kill_within(seconds: float, folder: Path) -> bool:
    """Start the study, and kill it with all that it started; whether it was still running."""
    with (folder / "log.txt").open("a") as log:
        study = subprocess.Popen(RUN, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        try:
            study.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(study.pid, signal.SIGKILL)
            study.wait()
            return True
    assert study.returncode == 0, (folder / "log.txt").read_text()[-3000:]
    return False


def kill_until_done(folder: Path, moment: random.Random, most: int) -> int:
    """Start a study anew after each kill until it ends, or was killed `most` times; how often it was."""
    finished: dict[Path, tuple[int, str]] = {}
    for kills in range(most):
        if not kill_within(moment.uniform(1, 25), folder):
            return kills
        now = list_finished(folder)
        # What ran when it was killed is closed again, from its last checkpoint; a model that was finished is what it was.
        again = [file for file in finished if now.get(file, (None, ""))[0] != finished[file][0]]
        assert len(again) <= (os.cpu_count() or 1)
        assert all(now[file][1] == finished[file][1] for file in finished if file in now)
        finished |= now
    return most


@pytest.mark.slow
def test_thirty_kills_at_random_points_change_no_byte_of_what_comes_out(tmp_path):
    whole = prepare(tmp_path / "whole")
    done = run_command(*RUN, cwd=whole)
    assert done.returncode == 0, done.stderr[-3000:]
    moment, kills, rounds = random.Random(17), 0, 0
    while kills < KILLS:  # a study is over after some eight kills, and is begun in another folder then
        rounds += 1
        killed = prepare(tmp_path / f"killed-{rounds}")
        kills += kill_until_done(killed, moment, KILLS - kills)
        done = run_command(*RUN, cwd=killed)
        assert done.returncode == 0, done.stderr[-3000:]
        assert (killed / "runs/summary.txt").read_bytes() == (whole / "runs/summary.txt").read_bytes()
        last = list_finished(killed)
        assert "Nothing to be done" in (again := run_command(*RUN, cwd=killed)).stdout + again.stderr
        assert list_finished(killed) == last
        assert len(last) == 4
    print(f"{kills} kills in {rounds} studies")
