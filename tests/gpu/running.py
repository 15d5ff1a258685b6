"""Runs checks one after another, each in a process of its own, until the time is up; the table stands after each."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.gpu.bench import ROOT, Row
from tests.gpu.checks import Check
from tests.gpu.table import BROKE, FAILED, HELD, NOT_RUN, STOPPED, Result, write_results

PATHS = (ROOT, ROOT / "tests", ROOT / "tests/benchmarks")  # as pytest's `pythonpath` says
TINY_SECONDS = (15, 240)  # of a rehearsed check: those that must be left for it, and those after which it is ended


class Child:
    """A check's process. It loads its modules while the check ahead of it runs, and then waits for `go`.

    Args:
        check: the check.
        output: the folder of its rows and its log.
        tiny: whether it is a rehearsal.
    """

    def __init__(self, check: Check, output: Path, tiny: bool) -> None:
        self.rows, self.log = output / f"{check.name}.jsonl", output / f"{check.name}.log"
        self.rows.unlink(missing_ok=True)
        self._scratch = tempfile.TemporaryDirectory(prefix="selfalign-gpu-")
        words = [sys.executable, "-m", "tests.gpu.child", check.runs, str(self.rows.absolute()), self._scratch.name]
        words += ["--tiny"] if tiny else []
        known = [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
        paths = os.pathsep.join([*map(str, PATHS), *known])
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                words, cwd=ROOT, env=os.environ | {"PYTHONPATH": paths}, stdin=subprocess.PIPE, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def go(self, seconds: float) -> int | None:
        """Run the check for so many seconds at most: its exit status, or None where it was stopped."""
        try:
            self._process.communicate(b"\n", timeout=seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            self.end()
        return self._process.returncode

    def end(self) -> None:
        """End the process and all that it has started; what a launcher starts has a group of its own."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self._process.pid).children(recursive=True) if self._process.poll() is None else ():
                process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._scratch.cleanup()

    def read_rows(self) -> list[Row]:
        """The rows that it has yielded; one that was cut short is left out."""
        lines = self.rows.read_text().splitlines(keepends=True) if self.rows.is_file() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def read_last_line(self) -> str:
        """What it said last."""
        lines = self.log.read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def run_checks(checks: Sequence[Check], seconds: float, output: Path, tiny: bool = False) -> bool:
    """Run checks and write their table.

    Args:
        checks: in their order.
        seconds: after which all has ended.
        output: the folder of the table.
        tiny: whether it is a rehearsal.

    Returns:
        Whether every check that ran came to its end and every claim holds.
    """
    end = time.monotonic() + seconds
    output.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    loading: list[tuple[Check, Child]] = []
    try:
        for number, check in enumerate(checks):
            least, most = TINY_SECONDS if tiny else (check.seconds, 2 * check.seconds)
            if (left := end - time.monotonic()) < least:
                status = f"{NOT_RUN}: it may take {least:.0f} s, and {max(left, 0):.0f} s were left"
                results.append(Result(check, status))
                while loading:
                    loading.pop()[1].end()
            else:
                own = loading.pop()[1] if loading and loading[0][0] is check else Child(check, output, tiny)
                loading = [(check, own), *((after, Child(after, output, tiny)) for after in checks[number + 1 : number + 2])]
                results.append(_run(check, own, min(left, most)))
                del loading[0]
            print(f"{check.name}: {results[-1].status} ({results[-1].seconds:.0f} s)", flush=True)
            write_results(results, output, tiny)
    finally:
        for _, child in loading:
            child.end()
    return all(result.is_well for result in results)


def _run(check: Check, child: Child, seconds: float) -> Result:
    start = time.monotonic()
    code = child.go(seconds)
    took, rows = time.monotonic() - start, child.read_rows()
    if code is None:
        status = f"{STOPPED} after {took:.0f} s"
    elif code:
        status = f"{BROKE}: {child.read_last_line()}"
    elif any(row.get("holds") is False for row in rows):
        status = FAILED
    else:
        status = HELD
    return Result(check, status, took, rows)
