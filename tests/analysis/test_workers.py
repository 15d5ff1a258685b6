"""Work beside the main process is done once, its errors are its own, and without processes it is done here."""

import gc
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from analysis.reporting import workers
from analysis.reporting.workers import Task, Workers, relax_garbage
from lm_eval_tasks.contracts.errors import UserError


def finish(tasks: list[Task]) -> list[object]:
    for task in reversed(tasks):
        task.help()
    return [task.get() for task in tasks]


@pytest.mark.parametrize("count", [1, 3])
def test_work_is_done_in_order_however_many_processors_there_are(count: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "count_processors", lambda: count)
    with Workers("pickle") as pool:
        assert finish([pool.submit(divmod, number, 3) for number in range(20)]) == [divmod(number, 3) for number in range(20)]
        assert {*finish([pool.submit(os.getpid) for _ in range(20)])} <= {os.getpid(), *(p.pid for p in pool._processes)}
        processes = pool._processes
    assert len(processes) == count - 1
    assert all(process.poll() is not None for process in processes)


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_is_the_work_s_own(count: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "count_processors", lambda: count)
    with Workers("pickle") as pool, pytest.raises(ZeroDivisionError, match="by zero"):
        finish([pool.submit(divmod, 1, 0)])
    with Workers("pickle") as pool, pytest.raises(UserError, match="does not exist"):
        from lm_eval_tasks.contracts.logs.samples import find_logs

        finish([pool.submit(find_logs, "/nowhere")])


def test_what_a_process_that_ended_had_begun_is_done_here(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "count_processors", lambda: 2)
    with Workers("no_such_module") as pool:
        assert finish([pool.submit(divmod, number, 3) for number in range(5)]) == [divmod(number, 3) for number in range(5)]


def test_where_no_process_can_be_started_all_is_done_here(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "count_processors", lambda: 2)
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with Workers("pickle") as pool:
        assert finish([pool.submit(os.getpid)]) == [os.getpid()]


def test_what_is_dropped_is_not_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(workers, "count_processors", lambda: 2)
    with Workers("pickle") as pool:
        tasks = [pool.submit(time.sleep, 0.5), *(pool.submit(os.mkdir, tmp_path / str(number)) for number in range(20))]
        for task in reversed(tasks):
            task.drop()
        assert tasks[0].future.done()
    assert not [*tmp_path.iterdir()]


def test_a_script_without_a_main_guard_is_not_run_again(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "from analysis.reporting import workers\n"
        "workers.count_processors = lambda: 2\n"
        "print('run')\n"
        "with workers.Workers('pickle') as pool:\n"
        "    task = pool.submit(divmod, 7, 3)\n"
        "    print(task.future.result())\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["run", "(2, 1)"]


def test_a_process_that_only_plots_imports_no_statistics():
    script = (
        "import sys, analysis.reporting.plotting; "
        "print({'scipy.stats', 'scipy.optimize', 'statsmodels', 'pandas'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_garbage_is_collected_as_before_after_all():
    before = gc.get_threshold()
    with pytest.raises(KeyError), relax_garbage():
        assert gc.get_threshold() != before
        raise KeyError
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
