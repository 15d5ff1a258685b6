import json
import os
import shutil
from pathlib import Path

import pytest
from trainers import make_rows, make_trainer
from transformers import TrainerState, TrainingArguments

from lm_eval_tasks.contracts.errors import UserError
from recipes.training.checkpoints import LIST, Keeper, choose_checkpoint, find_checkpoint, find_flaw, list_files
from recipes.training.engines import describe_engine

ENGINE = {"engine": "none", "processes": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The checkpoints of steps 1 and 2, as the trainer saves them."""
    settings = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "optim": "adamw_torch"}
    trainer = make_trainer(tmp_path_factory.mktemp("made"), make_rows(8), 4, 1, **settings)
    trainer.add_callback(Keeper(describe_engine(trainer.accelerator)))
    trainer.train()
    return Path(trainer.args.output_dir)


@pytest.fixture
def folder(made, tmp_path):
    """A copy whose files are links: to be replaced, never written into."""
    for step in (1, 2):
        shutil.copytree(made / f"checkpoint-{step}", tmp_path / f"checkpoint-{step}", copy_function=os.link)
    return tmp_path


def replace(file, content):
    file.unlink()
    file.write_bytes(content)


def test_the_newest_whole_checkpoint_is_found(folder, tmp_path):
    assert find_checkpoint(tmp_path / "nowhere") == (None, [])
    for name in ("checkpoint-best", "checkpoint-10.tmp"):
        (folder / name).mkdir()
    assert find_checkpoint(folder) == (folder / "checkpoint-2", [])
    (folder / "checkpoint-2").rename(folder / "checkpoint-10")
    found, broken = find_checkpoint(folder)
    assert found == folder / "checkpoint-1"
    assert broken == [f"{folder / 'checkpoint-10'} is left out: trainer_state.json is of another step"]


@pytest.mark.parametrize("damage", ["cut", "empty", "missing"])
@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "config.json"]
)
def test_a_file_that_is_not_whole_is_named_and_the_checkpoint_before_is_taken(folder, name, damage):
    file = folder / "checkpoint-2" / name
    content = file.read_bytes()
    left = {"cut": len(content) - 1, "empty": 0, "missing": None}[damage]
    file.unlink()
    if left is not None:
        file.write_bytes(content[:left])
    flaw = "is missing" if left is None else f"has {left:,} bytes of {len(content):,}"
    assert find_checkpoint(folder) == (folder / "checkpoint-1", [f"{folder / 'checkpoint-2'} is left out: {name} {flaw}"])


@pytest.mark.parametrize(
    ("name", "change", "flaw"),
    [
        ("model.safetensors", lambda content: bytes(8) + content[8:], "has a damaged header"),
        ("model.safetensors", lambda content: content.replace(b'"dtype"', b'"dtypo"', 1), "has a damaged header"),
        ("model.safetensors", lambda content: bytes(len(content)), "has a damaged header"),
        ("optimizer.pt", lambda content: content[:-4096] + bytes(4096), "is damaged"),
        ("rng_state.pth", lambda content: bytes(len(content)), "is damaged"),
        ("trainer_state.json", lambda content: bytes(len(content)), "is damaged"),
        ("trainer_state.json", lambda content: content.replace(b'"global_step": 2', b'"global_step": 1'), "is of another step"),
    ],
)
def test_a_file_of_the_right_size_can_still_be_damaged(folder, name, change, flaw):
    file = folder / "checkpoint-2" / name
    replace(file, change(file.read_bytes()))
    assert find_flaw(folder / "checkpoint-2").startswith(f"{name} {flaw}")


def test_a_checkpoint_without_its_list_is_not_whole(folder):
    listed = folder / "checkpoint-2" / LIST
    replace(listed, listed.read_bytes()[:-9])
    assert find_flaw(folder / "checkpoint-2") == "files.json is damaged"
    replace(listed, b"{}")
    assert find_flaw(folder / "checkpoint-2") == "files.json is damaged"
    listed.unlink()
    assert find_flaw(folder / "checkpoint-2") == "files.json is missing, which is written last"


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "model.safetensors", "trainer_state.json"])
def test_what_was_never_saved_is_missed_too(folder, name):
    (folder / "checkpoint-2" / name).unlink()
    list_files(folder / "checkpoint-2", ENGINE)
    assert find_flaw(folder / "checkpoint-2").startswith(f"there is no {name.split('.')[0].removeprefix('model')}")


def test_a_part_of_the_optimizer_is_needed_for_each_process(folder):
    """DeepSpeed's names, as its runs on two processes leave them."""
    path = folder / "checkpoint-2"
    (path / "optimizer.pt").rename(path / "rng_state_1.pth")
    (path / "rng_state.pth").rename(path / "rng_state_0.pth")
    (path / "global_step2").mkdir()
    (path / "latest").write_text("global_step2")
    part = "global_step2/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"
    os.link(path / "rng_state_0.pth", path / part)
    list_files(path, {"processes": 2})
    assert find_flaw(path) == "there is no global_step*/*zero_pp_rank_1_mp_rank_*_optim_states.pt"
    os.link(path / "rng_state_0.pth", path / part.replace("rank_0_", "rank_1_"))
    list_files(path, {"processes": 2})
    assert find_flaw(path) is None


def save(folder, step, limit):
    arguments = TrainingArguments(output_dir=str(folder), use_cpu=True)
    Keeper(ENGINE, limit).on_save(arguments, TrainerState(global_step=step, is_world_process_zero=True), None)


def test_older_checkpoints_are_deleted_when_the_newest_is_whole(folder, capsys):
    (folder / "checkpoint-2" / LIST).unlink()
    (folder / "checkpoint-2/optimizer.pt").rename(folder / "optimizer.pt")
    save(folder, 2, limit=1)
    assert "cannot be gone on from, so that older ones are kept: there is no optimizer" in capsys.readouterr().err
    assert (folder / "checkpoint-1").is_dir()
    (folder / "optimizer.pt").rename(folder / "checkpoint-2/optimizer.pt")
    save(folder, 2, limit=None)
    assert (folder / "checkpoint-1").is_dir()
    save(folder, 2, limit=1)
    assert find_checkpoint(folder) == (folder / "checkpoint-2", [])
    assert not (folder / "checkpoint-1").exists()


def test_a_checkpoint_that_is_left_out_is_deleted_so_that_its_step_is_saved_anew(folder, capsys):
    saved = json.loads((folder / "checkpoint-1" / LIST).read_text())["engine"]
    (folder / "checkpoint-2/optimizer.pt").unlink()
    assert choose_checkpoint(folder, saved) == folder / "checkpoint-1"
    left_out, going_on = capsys.readouterr().err.splitlines()
    assert left_out == f"{folder / 'checkpoint-2'} is left out: optimizer.pt is missing"
    assert going_on == f"going on from {folder / 'checkpoint-1'}"
    assert [path.name for path in folder.iterdir()] == ["checkpoint-1"]


def test_another_number_of_processes_or_engine_is_named(folder):
    saved = json.loads((folder / "checkpoint-2" / LIST).read_text())["engine"]
    here = saved | {"engine": "deepspeed", "processes": 8, "zero_stage": 3}
    with pytest.raises(UserError) as error:
        choose_checkpoint(folder, here)
    for words in (
        "checkpoint-2",
        "engine none there, deepspeed here",
        "processes 1 there, 8 here",
        "zero_stage None there, 3 here",
    ):
        assert words in str(error.value)
