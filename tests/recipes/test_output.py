import errno
import json
import os
import resource
import select
import signal
import subprocess
import sys
from threading import Timer

import pytest
import torch
from conftest import BASE
from safetensors.torch import save_file
from transformers import AutoTokenizer

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.manifest import make_manifest, write_manifest
from recipes.training.checkpoints import list_files
from recipes.training.output import end_run, enter_run, hold_output, publish_model, refuse_other_runs, report_full_disk

ENGINE = {"engine": "none", "processes": 1}


def describe(**config):
    config = {"dataset": "herbs", "learning_rate": 0.1, "processes": 1} | config
    return {"stage": "train", "command": ["sft.py"], "config": config, "inputs": {"dataset": "aa"}, "seeds": {"seed": 1}}


def make_checkpoint(work, step=4):
    path = work / f"checkpoint-{step}"
    path.mkdir(parents=True)
    save_file({"weight": torch.ones(4)}, path / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({}, path / name)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    list_files(path, ENGINE)
    return path


def test_a_run_that_has_not_ended_is_named_with_what_differs(tmp_path):
    there = make_manifest(**describe(learning_rate=0.2, processes=8, optim="sgd", seed=2))
    here = make_manifest(**describe())
    work = enter_run(tmp_path, there)
    assert work == tmp_path / "checkpoints" / there["run"]
    refuse_other_runs(tmp_path, here)  # it has saved nothing
    checkpoint = make_checkpoint(work)
    refuse_other_runs(tmp_path, there)
    with pytest.raises(UserError) as error:
        enter_run(tmp_path, here)
    assert str(error.value) == (
        f"{checkpoint} is of another run, which has not ended: learning_rate 0.2 there, 0.1 here; processes 8 there, 1 here; "
        f"optim sgd there, None here (and 1 more). Give that run's command again, name another --output_dir, or delete {work}."
    )
    assert not (tmp_path / "checkpoints" / here["run"]).exists()


def test_other_rows_and_other_versions_are_differences(tmp_path):
    there, here = make_manifest(**describe()), make_manifest(**describe())
    there |= {"run": "0", "inputs": {"dataset": "bb"}, "versions": there["versions"] | {"torch": "1.0"}}
    make_checkpoint(enter_run(tmp_path, there))
    with pytest.raises(UserError, match=r"hash of the dataset bb there, aa here; version of torch 1.0 there, "):
        refuse_other_runs(tmp_path, here)


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_run_that_does_not_say_what_it_is_is_left_alone_too(tmp_path, content):
    work = tmp_path / "checkpoints/0"
    make_checkpoint(work)
    if content is not None:
        (work / "run.json").write_text(content)
    with pytest.raises(UserError, match="what differs is not known"):
        refuse_other_runs(tmp_path, make_manifest(**describe()))


def test_a_finished_model_of_another_run_is_left_alone(tmp_path):
    run = write_manifest(tmp_path, **describe(seed=2))
    with pytest.raises(UserError, match=rf"holds the output of another run \({run}\): seed 2 there, None here\. Name another"):
        refuse_other_runs(tmp_path, make_manifest(**describe()))


@pytest.mark.parametrize("limit", [None, 2])
def test_a_finished_run_keeps_its_checkpoints_unless_they_were_limited(tmp_path, limit):
    manifest = make_manifest(**describe())
    with hold_output(tmp_path):
        work = enter_run(tmp_path, manifest)
        make_checkpoint(work)
        (work / "final").mkdir()
        end_run(tmp_path, manifest["run"], limit)
    if limit:
        assert not list(tmp_path.iterdir())
    else:
        assert sorted(path.name for path in work.iterdir()) == ["checkpoint-4", "finished", "run.json"]
        assert [path.name for path in work.parent.iterdir()] == [work.name]
        refuse_other_runs(tmp_path, make_manifest(**describe(seed=2)))  # it has ended


def test_a_finished_run_without_checkpoints_leaves_nothing_beside_its_model(tmp_path):
    manifest = make_manifest(**describe())
    with hold_output(tmp_path):
        enter_run(tmp_path, manifest)
        end_run(tmp_path, manifest["run"], None)
    assert not list(tmp_path.iterdir())


def test_weights_of_an_earlier_model_do_not_stay_beside_the_new_one(tmp_path):
    work = tmp_path / "checkpoints/0"
    (work / "final").mkdir(parents=True)
    for name in ("model.safetensors", "config.json"):
        (work / "final" / name).write_text("new")
    for name in (
        "model.safetensors",
        "adapter_model.safetensors",
        "adapter_config.json",
        "model.safetensors.index.json",
        "notes",
    ):
        (tmp_path / name).write_text("old")
    publish_model(work, tmp_path)
    found = {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()}
    assert found == {"model.safetensors": "new", "config.json": "new", "notes": "old"}


HOLDER = """
import fcntl, sys, time
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


def test_a_folder_is_held_until_its_process_ends_even_by_a_kill(tmp_path, capsys):
    with hold_output(tmp_path) as lock:
        other = subprocess.Popen([sys.executable, "-c", HOLDER, lock.name], stdout=subprocess.PIPE, text=True)
        assert not select.select([other.stdout], [], [], 0.5)[0]
    assert other.stdout.readline() == "held\n"
    assert not capsys.readouterr().err
    Timer(0.5, other.kill).start()
    with hold_output(tmp_path):
        assert other.wait() == -signal.SIGKILL
        assert capsys.readouterr().err == f"waiting for another process that trains into {tmp_path}\n"
    other.communicate()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write in .*file: Not a directory\. Name an --output_dir"):
        hold_output(tmp_path / "file")


def write_safetensors(folder):
    save_file({"weight": torch.ones(10**6)}, folder / "model.safetensors")


def write_torch(folder):
    torch.save({"weight": torch.ones(10**6)}, folder / "optimizer.pt")


def write_torch_stream(folder):
    with (folder / "optimizer.bin").open("wb") as stream:
        torch.save({"weight": torch.ones(10**6)}, stream)


def write_tokenizer(folder):
    AutoTokenizer.from_pretrained(BASE).save_pretrained(folder)


def write_text(folder):
    (folder / "trainer_state.json").write_text("x" * 10**6)


@pytest.fixture
def small_files():
    """No file may have more than 100 kB: the nearest to a full disk that every Unix has."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("write", [write_safetensors, write_torch, write_torch_stream, write_tokenizer, write_text])
@pytest.mark.parametrize("saved", [False, True])
def test_what_a_full_disk_keeps_from_being_written_is_said(tmp_path, small_files, write, saved):
    whole = make_checkpoint(tmp_path) if saved else None
    lost = tmp_path / "checkpoint-6"
    lost.mkdir()
    with pytest.raises(UserError) as error, report_full_disk(tmp_path):
        write(lost)
    reason = "torch could not write its file to the end" if write is write_torch else "File too large"
    text = str(error.value)
    assert text.startswith(f"{lost} could not be written: {reason} (")
    assert text.endswith(
        f"Make room. {whole} is whole: the same command goes on from it."
        if saved
        else "Make room. The same command starts anew."
    )


def test_a_final_model_that_cannot_be_written_is_named(tmp_path):
    whole = make_checkpoint(tmp_path)
    (tmp_path / "final").mkdir()
    match = rf"final could not be written: {os.strerror(errno.EDQUOT)} .*{whole.name} is whole"
    with pytest.raises(UserError, match=match), report_full_disk(tmp_path):
        try:
            raise OSError(errno.EDQUOT, "full")
        except OSError as error:
            raise ValueError from error


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), PermissionError(errno.EACCES, "no"), UserError("loss is nan")]
)
def test_other_errors_are_not_a_full_disk(tmp_path, error):
    with pytest.raises(type(error)) as found, report_full_disk(tmp_path):
        raise error
    assert found.value is error
