"""The reporting benchmark's study is one that the project reads. No test looks at a clock."""

import subprocess
from pathlib import Path

import polars as pl
import pytest
import reporting

from analysis.reading.study import read_study
from lm_eval_tasks.contracts.logs.samples import read_probes


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    reporting.write_study(folder, questions=64, domains=2)
    return folder


def test_the_made_up_study_is_a_whole_one(study: Path):
    read = read_study(study)
    assert read.runs.height == 2 * len(reporting.RATIOS)
    kl = read.measures.filter(phase="tuned_chat").group_by("ratio", "condition").agg(pl.col("kl_nats").mean(), pl.len())
    assert kl["len"].to_list() == [128] * len(reporting.RATIOS)
    assert kl.filter(ratio=0.8)["kl_nats"][0] < kl.filter(ratio=0.05)["kl_nats"][0]
    assert set(read.measures["split"]) == {"homo", "id", "ood"}


def test_both_sides_read_the_same_logs(study: Path, monkeypatch: pytest.MonkeyPatch):
    files = reporting.choose_logs(study, 1)
    assert len(files) == 1 + 2 * len(reporting.RATIOS)
    assert reporting.choose_logs(study, 1e-9) == files[:1]
    assert reporting.parse_lines(files) == read_probes(files).height == 64 * len(files)
    clock = iter([0.0, 4.0, 4.0, 6.0])
    monkeypatch.setattr(reporting.time, "perf_counter", lambda: next(clock))
    plain, reader = reporting.measure_reading(files)
    size = sum(file.stat().st_size for file in files) / 1e6
    assert (plain["seconds"], plain["times"]) == (4, 1)
    assert (reader["seconds"], reader["times"], reader["MB a second"]) == (2, 2, size / 2)


@pytest.mark.slow
def test_the_report_is_written_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reporting, "RATIOS", (0.0, 1.0))
    reporting.write_study(tmp_path / "study", questions=32, domains=1)
    report = ("-m", "analysis", "report", "--runs", str(tmp_path / "study"), "--output", str(tmp_path / "report"))
    seconds, memory = reporting.measure_command(*report)
    assert (tmp_path / "report/report.html").is_file()
    assert seconds > 0
    assert 0.1 < memory < 8
    assert reporting.measure_command("-c", reporting.TABLES, str(tmp_path / "study"))[1] > 0.1
    with pytest.raises(subprocess.CalledProcessError):
        reporting.measure_command("-c", reporting.TABLES, str(tmp_path / "elsewhere"))
