"""Runs that are killed, that find damaged checkpoints, a full disk or another run's output, and that go on."""

import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from conftest import run_command
from deaths import run_script
from launches import CONFIG, launch_words, make_engine, needs_deepspeed, write_data
from safetensors.torch import load_file

from lm_eval_tasks.contracts.manifest import read_manifest

pytestmark = pytest.mark.launched

# Four steps an epoch, so that the last step and half of the checkpoints are within an epoch.
STEPS = ("--max_steps", "10", "--global_batch_size", "8", "--per_device_train_batch_size", "8")
SAVES = ("--save_strategy", "steps", "--save_steps", "2")


def make_words(data, output, *options):
    words = ("--config", "recipes/miniworld/full.yaml", "--dataset_name", data, "--dataset_config", CONFIG)
    return [*words, "--output_dir", output, "--seed", "1", *STEPS, *SAVES, *options]


def read_weights(output):
    return (output / "model.safetensors").read_bytes()


def list_steps(output):
    return sorted(int(path.name.split("-")[1]) for path in output.glob("checkpoints/*/checkpoint-*"))


def find_line(text, words):
    """The one line of an output that holds some words."""
    found = [line for line in text.splitlines() if words in line]
    assert len(found) == 1, text
    return found[0]


@pytest.fixture(scope="module")
def data(share_folder):
    return share_folder("data", write_data)


@pytest.fixture(scope="module")
def whole(data, share_folder):
    """An uninterrupted run, which keeps its checkpoints."""

    def make(folder):
        status, text = run_script(make_words(data, folder / "model", "--save_total_limit", "0"), folder / "log")
        assert status == 0, text
        assert list_steps(folder / "model") == [2, 4, 6, 8, 10]

    return share_folder("whole", make) / "model"


def copy_checkpoints(whole, output, *steps):
    """What a run leaves that was killed after some of its checkpoints; returns the folder they lie in."""
    work = output / "checkpoints" / read_manifest(whole)["run"]
    for step in steps:
        shutil.copytree(whole / work.relative_to(output) / f"checkpoint-{step}", work / f"checkpoint-{step}")
    shutil.copy(whole / work.relative_to(output) / "run.json", work)
    return work


# Where a process is killed, and the step that the next one goes on from.
DEATHS = [
    ({"dies_at": "transformers.Trainer.training_step", "call": 2}, None),  # nothing is saved
    ({"dies_writing": "*/checkpoint-2/optimizer.pt"}, None),
    ({"dies_at": "recipes.training.checkpoints.list_files", "call": 2}, 2),  # step 4 is saved and not yet listed
    ({"dies_writing": "*/checkpoint-6/rng_state.pth"}, 4),
    ({"dies_at": "shutil.rmtree", "call": 2}, 6),  # step 6 is whole, step 4 not yet deleted; the first call deletes half of 6
    ({"dies_at": "recipes.training.output.publish_model"}, 10),  # the final model is saved and not yet moved
    ({"dies_at": "lm_eval_tasks.contracts.manifest.write_manifest", "call": 1}, 10),  # it is moved
    ({"dies_at": "recipes.training.output.end_run"}, None),  # all is done but deleting checkpoints
]


def test_a_run_killed_wherever_it_is_ends_with_the_same_weights(data, whole, tmp_path):
    words, from_step = make_words(data, tmp_path / "model", "--save_total_limit", "1"), None
    for death, next_step in DEATHS:
        status, text = run_script(words, tmp_path / "log", **death)
        assert status == -9, (death, text)
        assert ("going on from" in text) == bool(from_step), (death, text)
        assert not from_step or find_line(text, "going on from").endswith(f"checkpoint-{from_step}"), (death, text)
        from_step = next_step
    assert list_steps(tmp_path / "model") == [10]
    status, text = run_script(words, tmp_path / "log")
    assert status == 0, text
    assert "already holds this run" in text
    assert not (tmp_path / "model/checkpoints").exists()
    assert read_weights(tmp_path / "model") == read_weights(whole)
    assert read_manifest(tmp_path / "model")["run"] == read_manifest(whole)["run"]


@pytest.mark.parametrize(("largest", "reason"), [(10**6, "File too large"), (6 * 10**6, "torch could not write")])
def test_what_cannot_be_written_costs_no_older_checkpoint(data, whole, tmp_path, largest, reason):
    work = copy_checkpoints(whole, tmp_path / "model", 2, 4)
    weights = work / "checkpoint-4/model.safetensors"
    size = weights.stat().st_size
    os.truncate(weights, size // 2)
    words = make_words(data, tmp_path / "model", "--save_total_limit", "1")
    status, text = run_script(words, tmp_path / "log", largest=largest)
    assert status == 2, text
    damaged = find_line(text, "is left out")
    assert f"checkpoint-4 is left out: model.safetensors has {size // 2:,} bytes of {size:,}" in damaged
    assert find_line(text, "going on from").endswith("checkpoint-2")
    error = find_line(text, "error: ")
    assert error.startswith(f"error: {work / 'checkpoint-4'} could not be written: {reason}")
    assert f"{work / 'checkpoint-2'} is whole" in error
    assert "Traceback" not in text
    status, text = run_script(words, tmp_path / "log")
    assert status == 0, text
    assert find_line(text, "going on from").endswith("checkpoint-2")
    assert read_weights(tmp_path / "model") == read_weights(whole)


def can_mount():
    try:
        return run_command("unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt").returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not can_mount(), reason="a small disk needs Linux and its user namespaces (`unshare -rm mount`)")
def test_a_full_disk_is_named_and_the_run_goes_on_where_there_is_space(data, whole, tmp_path):
    """The disk, in memory, has room for one checkpoint of 15 MB."""
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    words = [str(word) for word in (sys.executable, "recipes/sft.py", *make_words(data, disk / "model"))]
    script = f'mount -t tmpfs -o size=22m none {disk} && {{ "$@"; status=$?; cp -r {disk} {kept}; exit $status; }}'
    done = run_command("unshare", "-rm", "sh", "-c", script, "sh", *words)
    assert done.returncode == 2, done.stderr
    error = find_line(done.stderr, "error: ")
    assert "checkpoint-4 could not be written" in error
    assert "checkpoint-2 is whole" in error
    status, text = run_script(make_words(data, kept / "model"), tmp_path / "log")
    assert status == 0, text
    assert find_line(text, "going on from").endswith("checkpoint-2")
    assert read_weights(kept / "model") == read_weights(whole)


def test_another_runs_checkpoints_are_left_alone(data, whole, tmp_path):
    copy_checkpoints(whole, tmp_path / "model", 4)
    status, text = run_script(make_words(data, tmp_path / "model", "--learning_rate", "0.1"), tmp_path / "log")
    assert status == 2
    assert "learning_rate 0.0005 there, 0.1 here" in find_line(text, "error: ")
    assert list_steps(tmp_path / "model") == [4]


def test_another_runs_model_is_left_alone_until_its_manifest_is_gone(data, whole, tmp_path):
    """Snakemake deletes the manifest before it makes it again."""
    shutil.copytree(whole, tmp_path / "model")
    words = make_words(data, tmp_path / "model", "--max_steps", "1")
    status, text = run_script(words, tmp_path / "log")
    assert status == 2
    assert "max_steps 10 there, 1 here" in find_line(text, "error: ")
    assert read_weights(tmp_path / "model") == read_weights(whole)
    (tmp_path / "model/manifest.json").unlink()
    status, text = run_script(words, tmp_path / "log")
    assert status == 0, text
    assert read_manifest(tmp_path / "model")["config"]["max_steps"] == 1
    assert read_weights(tmp_path / "model") != read_weights(whole)


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.parametrize("stage", ["zero2", "zero3"])
def test_zero_goes_on_where_one_process_was_killed_while_it_saved(data, tmp_path, stage):
    engine = make_engine(tmp_path, stage)
    options = ("--max_steps", "5", "--global_batch_size", "8", "--per_device_train_batch_size", "4", *SAVES)
    words = launch_words(engine, data, tmp_path / "killed", *options)
    script = words.index("recipes/sft.py")
    optimizer = "*/checkpoint-4/global_step4/*rank_1_mp_rank_00_optim_states.pt"
    dies = run_command(*words[:script], Path(__file__).with_name("deaths.py"), optimizer, *words[script + 1 :])
    assert dies.returncode != 0
    assert list_steps(tmp_path / "killed") == [2, 4], dies.stderr
    goes_on = run_command(*words)
    assert goes_on.returncode == 0, goes_on.stderr
    assert "checkpoint-4 is left out: files.json is missing" in find_line(goes_on.stderr, "is left out")
    assert find_line(goes_on.stderr, "going on from").endswith("checkpoint-2")
    through = run_command(*launch_words(engine, data, tmp_path / "through", *options))
    assert through.returncode == 0, through.stderr
    killed, wanted = (load_file(tmp_path / name / "model.safetensors") for name in ("killed", "through"))
    assert killed.keys() == wanted.keys()
    for name, weight in wanted.items():
        torch.testing.assert_close(killed[name], weight, rtol=0, atol=1e-6, msg=name)
