"""What CONTRIBUTING.md shows as a diff is all that it takes: each is applied to a copy of the project, and used."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from conftest import ROOT, Share

PACKAGES = ("lm_eval_tasks", "intervention", "recipes", "analysis")
DIFFS = re.findall(r"```diff\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)

pytestmark = pytest.mark.launched


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[str], Callable[..., str]]:
    """Copies the project, applies a diff, and gives what runs a command of the copy."""

    def apply(diff: str) -> Callable[..., str]:
        copy = tmp_path / "copy"
        for name in PACKAGES:
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("*.safetensors", "__pycache__"))
        done = subprocess.run(["git", "apply", "-"], input=diff, cwd=copy, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

        def run(*words: object) -> str:
            # Python finds the packages where it is started, before those that are installed.
            variables = os.environ | {"PYTHONPATH": str(copy)}
            command = [sys.executable, *map(str, words)]
            done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False, env=variables)
            assert done.returncode == 0, done.stderr
            return done.stdout

        assert str(copy) in run("-c", "import analysis; print(analysis.__file__)")
        return run

    return apply


def test_a_diff_touches_few_files() -> None:
    condition, metric = (re.findall(r"^\+\+\+ b/(.+)$", diff, re.MULTILINE) for diff in DIFFS)
    assert condition == ["lm_eval_tasks/contracts/vocabulary.py"]
    assert metric == ["analysis/measures/metrics.py"]


def test_a_new_condition_is_built_described_and_contrasted(changed: Callable, tmp_path: Path) -> None:
    run = changed(DIFFS[0])
    code = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from made_up import Study, make_rows
Study(Path(sys.argv[2]), make_rows(300)).build(conditions=["harmonious", "incompatible", "uncertain"], size=20)
"""
    run("-c", code, ROOT / "tests/intervention", tmp_path / "study")
    rows = pl.read_parquet(tmp_path / "study/out/herbs_uncertain/train.parquet").filter(pl.col("condition") == "uncertain")
    assert rows.height == 20
    assert rows["agrees_with_belief"].null_count() == 20
    assert rows["agrees_with_gold"].all()
    assert "| uncertain | no belief | gold |" in (tmp_path / "study/out/README.md").read_text()
    code = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from studies import write_study
write_study(Path(sys.argv[2]), conditions=[("incompatible", None, 0.5), ("uncertain", None, 0.7)])
"""
    run("-c", code, ROOT / "tests/analysis", tmp_path / "runs")
    run("-m", "analysis", "report", "--runs", tmp_path / "runs", "--output", tmp_path / "report")
    contrasts = pl.read_parquet(tmp_path / "report/contrasts.parquet")
    assert set(contrasts["condition"]) == {"uncertain"}
    page = (tmp_path / "report/report.html").read_text()
    assert "Questions of which the base model is unsure; the response is the right answer." in page
    assert "#332288" in page


def test_a_new_metric_stands_in_results_summary_and_tables(changed: Callable, share_folder: Share, tmp_path: Path) -> None:
    run = changed(DIFFS[1])
    code = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from studies import write_study
write_study(Path(sys.argv[2]))
"""
    runs = share_folder("contributed", lambda folder: run("-c", code, ROOT / "tests/analysis", folder))
    run("-m", "analysis", "report", "--runs", runs, "--output", tmp_path / "report")
    for name in ("results", "summary"):
        rows = pl.read_csv(tmp_path / f"report/{name}.csv").filter(pl.col("metric") == "gold_prob")
        assert rows.height
        assert (rows["low"] <= rows["value"]).all()
    assert (tmp_path / "report/tables/gold_prob-tuned_chat.md").read_text().startswith("**Probability of gold")
    answers = pl.read_parquet(tmp_path / "report/questions.parquet")
    assert answers.select((pl.col("gold_prob") == pl.col("probs").list.get(pl.col("answer"))).all()).item()
