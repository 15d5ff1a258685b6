"""Checkpoints that a run can go on from, and those it cannot.

A checkpoint is whole when `Keeper` has listed its files, which it does once all processes have saved theirs and the disk has
them. Only then are older ones deleted, so that whatever happens during a save, the one before is still there.
"""

import json
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError, safe_open
from transformers import TrainerCallback, TrainerState, TrainingArguments

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import write_file

LIST = "files.json"


class Keeper(TrainerCallback):
    """Lists the files of each checkpoint that is saved, then deletes the oldest.

    Trainer's own `save_total_limit` must be None: it deletes before the newest checkpoint is known to be whole.

    Args:
        engine: what saves them, as `describe_engine` says it; its number of `processes` is needed.
        limit: how many checkpoints are kept [default: all].
    """

    def __init__(self, engine: dict[str, Any], limit: int | None = None) -> None:
        self.engine, self.limit = engine, limit

    def on_save(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Called in all processes, each of which has written its files."""
        PartialState().wait_for_everyone()
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir)
        newest = folder / f"checkpoint-{state.global_step}"
        list_files(newest, self.engine)
        if flaw := find_flaw(newest):
            print(f"{newest} cannot be gone on from, so that older ones are kept: {flaw}", file=sys.stderr)
        elif self.limit:
            for path in list_checkpoints(folder)[self.limit :]:
                shutil.rmtree(path, ignore_errors=True)


def list_files(checkpoint: Path, engine: dict[str, Any]) -> None:
    """Write `files.json` into a checkpoint, when the disk has all other files: their sizes in bytes, and what saved them.

    Args:
        checkpoint: its folder, into which nothing more is written.
        engine: see `Keeper`.

    Raises:
        UserError: it cannot be written.
    """
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != LIST)
    sync_files(*files)
    with write_file(checkpoint / LIST) as file:
        sizes = {str(path.relative_to(checkpoint)): path.stat().st_size for path in files}
        file.write_text(json.dumps({"engine": engine, "files": sizes}, indent=2) + "\n")
        sync_files(file)
    sync_files(*{path.parent for path in files}, checkpoint.parent)


def sync_files(*paths: Path) -> None:
    """Wait until the disk has what was written to some files (their bytes) or folders (their names)."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def list_checkpoints(folder: str | Path) -> list[Path]:
    """The checkpoints in a folder, whole or not, the newest first."""
    found = [path for path in Path(folder).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=_read_step, reverse=True)


def _read_step(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


def find_checkpoint(folder: str | Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint in a folder, and a line for each newer one that says what is wrong with it."""
    broken = []
    for path in list_checkpoints(folder):
        if not (flaw := find_flaw(path)):
            return path, broken
        broken.append(f"{path} is left out: {flaw}")
    return None, broken


def choose_checkpoint(folder: Path, engine: dict[str, Any]) -> Path | None:
    """The checkpoint that all processes go on from, as the main one finds it, or None; called in all of them.

    The main process says which it is and which are left out, and deletes the latter: their steps will be saved again, and
    files of two saves are not to be mixed.

    Args:
        folder: that of a run's checkpoints.
        engine: what is to go on, see `Keeper`.

    Raises:
        UserError: another engine or number of processes saved it. DeepSpeed and FSDP keep a part of the optimizer for each
            process and read no other number of parts.
    """
    chosen: list[Path | None] = [None]
    if PartialState().is_main_process:
        chosen[0], broken = find_checkpoint(folder)
        for path, line in zip(list_checkpoints(folder), broken):
            print(line, file=sys.stderr)
            shutil.rmtree(path)
        if chosen[0]:
            print(f"going on from {chosen[0]}", file=sys.stderr)
    if checkpoint := broadcast_object_list(chosen)[0]:
        saved = json.loads((checkpoint / LIST).read_text())["engine"]
        names = [name for name in saved | engine if saved.get(name) != engine.get(name)]
        if names:
            differ = ", ".join(f"{name} {saved.get(name)} there, {engine.get(name)} here" for name in names)
            raise UserError(f"{checkpoint} was saved otherwise: {differ}. Launch as before, or name another --output_dir.")
    return checkpoint


def find_flaw(checkpoint: Path) -> str | None:
    """What keeps a checkpoint from being gone on from, or None.

    Looked at are the list, the size of every file, the headers of safetensors, the ends of torch's files, the trainer's
    state, and that weights, optimizer and random states of all processes are there: not the numbers themselves.
    """
    try:
        listed = json.loads((checkpoint / LIST).read_text())
        files, processes = dict(listed["files"]), int(listed["engine"]["processes"])
    except OSError:
        return f"{LIST} is missing, which is written last"
    except (ValueError, KeyError, TypeError):
        return f"{LIST} is damaged"
    for name, size in files.items():
        if flaw := _find_file_flaw(checkpoint / name, size):
            return f"{name} {flaw}"
    for pattern in _list_needed(checkpoint, processes):
        if not any(checkpoint.glob(pattern)):
            return f"there is no {pattern}"
    return None


def _find_file_flaw(file: Path, size: int) -> str | None:
    found = file.stat().st_size if file.is_file() else None
    if found is None:
        return "is missing"
    if found != size:
        return f"has {found:,} bytes of {size:,}"
    if file.suffix == ".safetensors":
        try:
            with safe_open(file, "pt"):
                return None
        except SafetensorError as error:
            return f"has a damaged header ({error})"
    if file.suffix in {".pt", ".pth"} and not zipfile.is_zipfile(file):
        return "is damaged"
    if file.name == "trainer_state.json":
        try:
            return None if json.loads(file.read_text())["global_step"] == _read_step(file.parent) else "is of another step"
        except (ValueError, KeyError, TypeError):
            return "is damaged"
    return None


def _list_needed(checkpoint: Path, processes: int) -> list[str]:
    """Patterns of names, each of which a checkpoint must hold."""
    needed = ["trainer_state.json"]
    needed += [f"rng_state_{rank}.pth" for rank in range(processes)] if processes > 1 else ["rng_state.pth"]
    if any(checkpoint.glob("global_step*")):  # DeepSpeed: each process has a part of the optimizer
        return [
            *needed,
            "latest",
            *(f"global_step*/*zero_pp_rank_{rank}_mp_rank_*_optim_states.pt" for rank in range(processes)),
        ]
    weights = "pytorch_model_fsdp*" if any(checkpoint.glob("pytorch_model_fsdp*")) else "*.safetensors"
    return [*needed, weights, "scheduler.pt", "optimizer[._]*"]  # FSDP: optimizer.bin, or a folder of parts
