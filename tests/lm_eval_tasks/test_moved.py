"""Names of the version before work for one version, with a warning that says where they are now."""

import importlib
import subprocess
import sys

import pytest
from lm_eval.tasks import TaskManager
from pack import make_questions, write_questions

from lm_eval_tasks import metrics, moved
from lm_eval_tasks.contracts import prompts
from lm_eval_tasks.contracts.logs import samples


def test_every_old_module_gives_the_names_of_the_new_one() -> None:
    for old, homes in moved.MODULES.items():
        module = importlib.import_module(old)
        for home in homes:
            new = importlib.import_module(home)
            for name in (name for name in vars(new) if not name.startswith("_") and callable(getattr(new, name))):
                with pytest.warns(FutureWarning, match=rf"{old}.{name} is now lm_eval_tasks\."):
                    assert getattr(module, name) is not None


def test_every_old_name_is_the_thing_that_has_a_new_one() -> None:
    for old, new in moved.NAMES.items():
        (old_home, old_name), (home, name) = old.rsplit(".", 1), new.rsplit(".", 1)
        with pytest.warns(FutureWarning, match=rf"{old} is now {new}\."):
            assert getattr(importlib.import_module(old_home), old_name) is getattr(importlib.import_module(home), name)


def test_a_name_of_then_is_the_thing_of_now() -> None:
    with pytest.warns(FutureWarning, match="is now lm_eval_tasks.contracts.logs.samples.read_probes. The old name goes with"):
        from lm_eval_tasks.samples import read_probes
    assert read_probes is samples.read_probes
    with pytest.warns(FutureWarning, match="is now lm_eval_tasks.metrics.log_rotated_probe"):
        assert metrics.log_turned_probe is metrics.log_rotated_probe
    with pytest.raises(AttributeError, match=r"module 'lm_eval_tasks\.samples' has no attribute 'no_such'"):
        importlib.import_module("lm_eval_tasks.samples").no_such  # noqa: B018
    with pytest.raises(AttributeError, match=r"'lm_eval_tasks\.metrics' has no attribute 'no_such'"):
        metrics.no_such  # noqa: B018
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("lm_eval_tasks.no_such")


def test_a_users_yaml_of_then_is_asked(tmp_path) -> None:
    write_questions(tmp_path / "questions", {"herbs": {"dev": make_questions(5, 4, "dev"), "test": make_questions(3, 4, "t")}})
    template = f"{prompts.CHAT_TEMPLATE.parent}/_probe_letter.yaml"
    (tmp_path / "own.yaml").write_text(
        f"task: own\ninclude: {template}\ndoc_to_text: !function lm_eval_tasks.prompts.write_cloze_question\n"
    )
    manager = TaskManager(
        include_path=str(tmp_path), include_defaults=False, metadata={"questions": str(tmp_path / "questions")}
    )
    with pytest.warns(FutureWarning, match="lm_eval_tasks.prompts.write_cloze_question is now lm_eval_tasks.contracts.prompts"):
        task = manager.load(["own"])["tasks"]["own"]
    row = task.dataset["test"][0]
    assert task.doc_to_text(row) == prompts.write_cloze_question(row)


def test_the_warning_is_seen_by_whoever_runs_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from lm_eval_tasks.prompts import LETTERS"], capture_output=True, text=True, check=True
    )
    assert "FutureWarning: lm_eval_tasks.prompts.LETTERS is now lm_eval_tasks.contracts.prompts.LETTERS" in done.stderr
