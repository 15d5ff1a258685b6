"""The folder that a run trains into: one run at a time, what is finished moved into it, and what a full disk leaves.

output/                                the finished model, and its manifest, which is written last
output/checkpoints/<run>/run.json      what the run's manifest will say
output/checkpoints/<run>/checkpoint-N  see `recipes.training.checkpoints`
output/checkpoints/<run>/finished      the model is in the output; its checkpoints were kept
"""

import errno
import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from accelerate import PartialState

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import write_file
from lm_eval_tasks.contracts.manifest import read_manifest
from recipes.training.checkpoints import LIST, find_checkpoint, list_checkpoints, sync_files

CHECKPOINTS = "checkpoints"
RECORD = "run.json"
FINISHED = "finished"
FINAL = "final"
LOCK = ".lock-"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def hold_output(output: Path) -> TextIO:
    """Wait until no process of an earlier launch trains into a folder any more; called in all processes.

    A launcher that is killed may leave processes behind that still save. So each process holds a lock of its own while the
    returned file is open, or until it ends in whatever way. Where a file system has no locks, nothing is waited for.

    Raises:
        UserError: the folder cannot be made.
    """
    state = PartialState()
    try:
        (output / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        lock = (output / CHECKPOINTS / f"{LOCK}{state.process_index}").open("w")
    except OSError as error:
        raise UserError(f"cannot write in {output}: {error.strerror}. Name an --output_dir that can be written.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting for another process that trains into {output}", file=sys.stderr)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        pass
    state.wait_for_everyone()
    return lock


def enter_run(output: Path, manifest: dict[str, Any]) -> Path:
    """The folder of a run's checkpoints, which says from the start what the run is.

    Raises:
        UserError: see `refuse_other_runs`.
    """
    refuse_other_runs(output, manifest)
    work = output / CHECKPOINTS / manifest["run"]
    if PartialState().is_main_process:
        with write_file(work / RECORD) as file:
            file.write_text(json.dumps(manifest, indent=2) + "\n")
    return work


def refuse_other_runs(output: Path, manifest: dict[str, Any]) -> None:
    """Leave alone what another run has finished or can still go on from.

    Args:
        output: the folder that is to be trained into.
        manifest: that of the run that is to be trained.

    Raises:
        UserError: the folder holds another run's model, or a checkpoint of one that has not ended; says what differs.
    """
    there = read_manifest(output)
    if there and there["run"] != manifest["run"]:
        raise UserError(
            f"{output} holds the output of another run ({there['run']}): {list_differences(there, manifest)}. Name another "
            "--output_dir, or delete that folder."
        )
    for folder in sorted((output / CHECKPOINTS).glob("*")):
        if folder.name == manifest["run"] or (folder / FINISHED).is_file():
            continue
        if checkpoint := find_checkpoint(folder)[0]:
            raise UserError(
                f"{checkpoint} is of another run, which has not ended: {list_differences(_read_record(folder), manifest)}. "
                f"Give that run's command again, name another --output_dir, or delete {folder}."
            )


def _read_record(work: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((work / RECORD).read_text()))
    except (OSError, ValueError):
        return {}


def list_differences(there: dict[str, Any], here: dict[str, Any], most: int = 3) -> str:
    """The first settings, inputs and versions that differ between two manifests, with both values.

    >>> here = {"config": {"seed": 2, "optim": "sgd"}, "inputs": {}, "versions": {}}
    >>> list_differences({"config": {"seed": 1, "optim": "sgd"}}, here)
    'seed 1 there, 2 here'
    """
    found = []
    for part, words in (("config", ""), ("inputs", "hash of the "), ("versions", "version of ")):
        one, other = there.get(part, {}), here[part]
        names = [name for name in one | other if one.get(name) != other.get(name)] if one else []
        found += [f"{words}{name} {one.get(name)} there, {other.get(name)} here" for name in names]
    more = f" (and {len(found) - most} more)" if len(found) > most else ""
    return "; ".join(found[:most]) + more or "what differs is not known"


def publish_model(work: Path, output: Path) -> None:
    """Move the saved model from `work/final` into the output, where the disk has it before a manifest is written beside it.

    Weights of an earlier model that do not belong to this one are deleted (a LoRA adapter would be loaded on top of it).
    """
    files = sorted((work / FINAL).iterdir())
    for pattern in ("*.safetensors", "*.safetensors.index.json", "adapter_config.json"):
        for stale in set(output.glob(pattern)) - {output / file.name for file in files}:
            stale.unlink()
    sync_files(*files)
    for file in files:
        file.chmod(0o644)  # safetensors makes its files private
        file.replace(output / file.name)
    sync_files(output)


def end_run(output: Path, run: str, limit: int | None) -> None:
    """Delete the checkpoints of a run whose model and manifest stand in the output; without a limit they are kept."""
    work = output / CHECKPOINTS / run
    shutil.rmtree(work / FINAL, ignore_errors=True)
    if limit or not list_checkpoints(work):
        shutil.rmtree(work, ignore_errors=True)
    else:
        (work / FINISHED).touch()
    for lock in work.parent.glob(f"{LOCK}*"):
        lock.unlink(missing_ok=True)
    with suppress(OSError):  # other runs' checkpoints were kept
        work.parent.rmdir()


@contextmanager
def report_full_disk(work: Path) -> Iterator[None]:
    """Say in one line what a full disk kept from being written to a run's folder, and what is still there.

    Raises:
        UserError: an error of the block says that the disk or the quota is full, or a file too large for it.
    """
    try:
        yield
    except Exception as error:
        if (reason := _find_reason(error)) is None:
            raise
        unlisted = [path for path in list_checkpoints(work) if not (path / LIST).is_file()]
        lost = next(iter(unlisted), work / FINAL if (work / FINAL).is_dir() else work)
        whole = find_checkpoint(work)[0]
        kept = f"{whole} is whole: the same command goes on from it." if whole else "The same command starts anew."
        free = shutil.disk_usage(work).free // 2**20
        raise UserError(f"{lost} could not be written: {reason} ({free:,} MiB are free). Make room. {kept}") from error


def _find_reason(error: BaseException | None) -> str | None:
    """Why nothing more could be written, in the words of an error or of those that led to it."""
    chain = []
    while error:
        chain.append(error)
        error = error.__cause__ or error.__context__
    for number in FULL:  # safetensors and tokenizers have it in their words alone
        if any(getattr(part, "errno", None) == number or f"(os error {number})" in str(part) for part in chain):
            return os.strerror(number)
    words = " ".join(str(part) for part in chain if isinstance(part, RuntimeError))
    return "torch could not write its file to the end" if "inline_container" in words or "iostream error" in words else None
