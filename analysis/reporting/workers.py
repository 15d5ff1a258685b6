"""Work that is done in processes beside this one, as far as there are processors, and here where these would wait for it.

The processes are Python's own, each fed through its pipes: neither a fork, which the threads of polars do not survive, nor a
second run of the script that called, which `multiprocessing` would need.
"""

import gc
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Self

MOST = 4  # processes at once, this one counted: each takes 250 MB
LOST = (OSError, EOFError, pickle.UnpicklingError)  # what a process that has ended leaves behind
GARBAGE = 1_000_000  # new objects after which Python looks for circles among them


@dataclass
class Task:
    """A call that is waiting, running or done."""

    work: Callable[..., Any]
    args: Sequence[Any]
    future: Future | None  # None where there is no process but this one
    held: Any = None

    def help(self) -> None:
        """Do the work here, unless it has begun elsewhere."""
        if self.future is None or self.future.cancel():
            self.future, self.held = None, self.work(*self.args)

    def drop(self) -> None:
        """Have it not begun any more, or wait until it is done."""
        if self.future and not self.future.cancel():
            wait([self.future])

    def get(self) -> Any:
        """What the work gave, after `help`; raises what it raised."""
        try:
            return self.held if self.future is None else self.future.result()
        except LOST:
            return self.work(*self.args)


class Workers:
    """Processes that do the work of `submit`; at the end of the context they are gone, and what they had begun is dropped."""

    def __init__(self, module: str) -> None:
        """Start the processes.

        Args:
            module: what each imports first, while this process does something else.
        """
        command = [sys.executable, "-c", f"import {module}; from {__name__} import serve; serve()"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._processes: list[subprocess.Popen] = []
        self._idle: SimpleQueue[subprocess.Popen] = SimpleQueue()
        for _ in range(min(count_processors(), MOST) - 1):
            with suppress(OSError):  # no process to be had: all is done here
                self._processes.append(subprocess.Popen(command, **pipes))
                self._idle.put(self._processes[-1])
        self._threads = ThreadPoolExecutor(max(len(self._processes), 1))

    def submit(self, work: Callable[..., Any], *args: Any) -> Task:
        """Have a function of a module called by the next process that is idle. Its arguments and its result are pickled."""
        return Task(work, args, self._threads.submit(self._ask, work, args) if self._processes else None)

    def _ask(self, work: Callable[..., Any], args: Sequence[Any]) -> Any:
        process = self._idle.get()
        try:
            pickle.dump((work, args), process.stdin)
            process.stdin.flush()
            done, answer = pickle.load(process.stdout)
        finally:
            self._idle.put(process)
        if not done:
            raise answer
        return answer

    def __enter__(self) -> Self:
        """The processes are started already."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes, whatever they do."""
        for process in self._processes:
            process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.communicate()


@contextmanager
def relax_garbage() -> Iterator[None]:
    """Look for circles of garbage rarely: matplotlib makes very many objects, of which few are garbage."""
    before = gc.get_threshold()
    gc.set_threshold(GARBAGE)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def count_processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def serve() -> None:
    """Do what is asked for on the standard input, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asked ends this process
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what is printed is no answer
    with relax_garbage():
        while True:
            try:
                work, args = pickle.load(asked)
            except EOFError:
                return
            try:
                answer = True, work(*args)
            except Exception as error:
                answer = False, error
            pickle.dump(answer, answers)
            answers.flush()
