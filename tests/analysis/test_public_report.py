"""A report can be shown to others: base models are named without the paths they lie at."""

from pathlib import Path

import polars as pl
import pytest
import studies
from private import HOME, find_private

from analysis.reading.study import name_models
from analysis.reporting.report import write_report


def test_a_report_names_no_path_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(studies, "BASE_MODEL", f"{HOME}/models/llama")
    studies.write_study(tmp_path / "runs", n=24, seeds=(1,), conditions=studies.KEPT[:1] + studies.KEPT[-1:])
    write_report(tmp_path / "runs", tmp_path / "report")
    files = [file for file in (tmp_path / "report").rglob("*") if file.suffix in (".html", ".md", ".tex", ".csv")]
    assert len(files) > 20
    assert find_private({file.name: file.read_text() for file in files}) == []
    assert pl.read_parquet(tmp_path / "report/results.parquet")["model"].unique().to_list() == ["llama"]
    assert "llama" in (tmp_path / "report/report.html").read_text()


def test_two_base_models_of_one_name_stay_two():
    names = name_models([f"{HOME}/a/llama", f"{HOME}/b/llama", "meta-llama/llama"])
    assert sorted(names.values()) == ["llama (1)", "llama (2)", "meta-llama/llama"]
