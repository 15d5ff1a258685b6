"""What lm-eval's result file beside a sample log tells of its run."""

import json
from pathlib import Path

import pytest

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.results import find_results, find_revision

COMMITS = ("0a" * 20, "1b" * 20)


def write_run(folder: Path, date: str, commit: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"results_{date}.json").write_text(json.dumps({"config": {"model_sha": commit}}))
    return folder / f"samples_selfalign_probe_{date}.jsonl"


def test_the_commit_of_the_model_is_read_from_the_result_file_of_the_same_run(tmp_path: Path) -> None:
    log = write_run(tmp_path, "2026-11-01T10-00-00.000001", COMMITS[0])
    write_run(tmp_path, "2026-11-01T11-00-00.000001", COMMITS[1])
    assert find_revision([log]) == COMMITS[0]
    assert [file.name for file, _ in find_results(log)] == ["results_2026-11-01T10-00-00.000001.json"]


def test_a_local_model_or_no_result_file_has_no_commit(tmp_path: Path) -> None:
    local = write_run(tmp_path, "2026-11-01T10-00-00.000001", "")
    (tmp_path / "results_2026-11-02T10-00-00.000001.json").write_text("{cut")
    broken = tmp_path / "samples_selfalign_probe_2026-11-02T10-00-00.000001.jsonl"
    assert find_revision([local, broken, tmp_path / "probes.parquet"]) is None


def test_two_revisions_of_one_model_are_two_models(tmp_path: Path) -> None:
    logs = [write_run(tmp_path / commit[:2], "2026-11-01T10-00-00.000001", commit) for commit in COMMITS]
    with pytest.raises(UserError, match=f"two revisions of the model, {COMMITS[0]} and {COMMITS[1]}"):
        find_revision(logs)
