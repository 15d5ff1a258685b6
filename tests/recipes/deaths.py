"""The training script in processes that die where they are told to, forked from one that has imported everything."""

import itertools
import multiprocessing
import os
import pkgutil
import resource
import runpy
import signal
import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

ROOT, SCRIPT = Path(__file__).parents[2], "recipes/sft.py"
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["recipes.training.arguments", "recipes.training.output", "recipes.training.trainer"])


def run_script(
    words: Sequence[object], log: Path, dies_at: str = "", call: int = 1, dies_writing: str = "", largest: int | None = None
) -> tuple[int | None, str]:
    """Run the training script, as `python recipes/sft.py WORDS` would, without the seconds that its imports take.

    Args:
        words: its command line.
        log: where its output goes.
        dies_at: the full name of a function on whose `call`-th call the process kills itself (SIGKILL).
        call: counted from 1.
        dies_writing: pattern of a file's path, of which torch writes half before the process kills itself.
        largest: bytes that a file may have; writing more fails much as on a full disk.

    Returns:
        The exit status (-9: killed) and the output.
    """
    process = _FORKS.Process(target=_run, args=([str(word) for word in words], log, dies_at, call, dies_writing, largest))
    process.start()
    process.join()
    return process.exitcode, log.read_text()


def _run(words: list[str], log: Path, dies_at: str, call: int, dies_writing: str, largest: int | None) -> None:
    with log.open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    os.chdir(ROOT)
    if largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    calls = itertools.count(1)
    if dies_at:
        _replace(dies_at, lambda original, *args, **kwargs: _die() if next(calls) == call else original(*args, **kwargs))
    if dies_writing:
        die_writing(dies_writing)
    sys.argv = [SCRIPT, *words]
    runpy.run_path(SCRIPT, run_name="__main__")


def die_writing(pattern: str) -> None:
    """Let torch write half of the first file whose path fits a pattern, and kill the process."""

    def save(original: Callable[..., None], content: Any, file: Any, *args: Any, **kwargs: Any) -> None:
        original(content, file, *args, **kwargs)
        if fnmatch(str(file), pattern):
            os.truncate(file, os.path.getsize(file) // 2)
            _die()

    _replace("torch.save", save)


def _replace(name: str, function: Callable[..., Any]) -> None:
    """Exchange a function for another, which gets it as its first argument."""
    path, _, attribute = name.rpartition(".")
    owner = pkgutil.resolve_name(path)
    original = getattr(owner, attribute)
    setattr(owner, attribute, lambda *args, **kwargs: function(original, *args, **kwargs))


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":  # accelerate launch ... tests/recipes/deaths.py PATTERN WORDS
    die_writing(sys.argv[1])
    sys.argv = [SCRIPT, *sys.argv[2:]]
    sys.path.insert(0, str(ROOT))
    runpy.run_path(SCRIPT, run_name="__main__")
