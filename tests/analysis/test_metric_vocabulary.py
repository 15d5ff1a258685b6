"""A new metric is one entry of the vocabulary: it then stands in every number and table that lists metrics."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from studies import write_study

import analysis
from analysis.measures.metrics import ANSWERED, BOUNDS, CONSISTENCY, CONTRASTED, METRICS, SHARES, SPEARMAN

# The whole of what somebody adds: behind the last entry of `_ALL`.
ENTRY = """    Metric(
        "spread",
        "spread of the choices",
        least=0,
        greatest=1,
        contrasted=True,
        compute=pl.col("probs").list.max() - pl.col("probs").list.min(),
    ),
"""
SCRIPT = """
import sys
from pathlib import Path
from analysis.reading.study import read_study
from analysis.reporting.contents import compute_frames, list_parts, list_tables, list_tables_across
from analysis.reporting.report import QUESTION_COLUMNS
from analysis.showing.tables import write_markdown
study, output = read_study(sys.argv[1]), Path(sys.argv[2])
frames = compute_frames(study).frames
for name in ("results", "summary", "contrasts", "curves"):
    frames[name].write_parquet(output / f"{name}.parquet")
study.measures.select(set(QUESTION_COLUMNS) & set(study.measures.columns)).write_parquet(output / "questions.parquet")
for part in list_parts(study, frames):
    for heading, tables in list_tables(part).items():
        for table in tables:
            (output / f"{table.name}.md").write_text(heading.title + write_markdown(table))
"""


@pytest.fixture(scope="session")
def extended(share_folder: Callable) -> Path:
    """What a copy of the stage with a made-up metric computes and tabulates of a small study."""

    def make(folder: Path) -> None:
        shutil.copytree(Path(analysis.__file__).parent, folder / "analysis", ignore=shutil.ignore_patterns("__pycache__"))
        file = folder / "analysis/measures/metrics.py"
        text, count = re.subn(r"(?m)^\)\n(?=SPEARMAN = )", lambda end: ENTRY + end[0], file.read_text())
        assert count == 1
        file.write_text(text)
        write_study(folder / "runs", n=12, conditions=[("harmonious", None, 0.9), ("incompatible", None, 0.5)])
        (folder / "output").mkdir()
        command = [sys.executable, "-c", SCRIPT, "runs", "output"]  # -c puts the working folder before what is installed
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr

    return share_folder("extended", make) / "output"


def test_a_new_metric_has_its_results_and_contrasts(extended: Path):
    questions = pl.read_parquet(extended / "questions.parquet").filter(phase="tuned_chat", split="homo", condition="harmonious")
    spread = [max(probs) - min(probs) for probs in questions["probs"]]
    assert questions["spread"].to_list() == pytest.approx(spread)
    where = {"phase": "tuned_chat", "split": "homo", "condition": "harmonious", "metric": "spread"}
    assert pl.read_parquet(extended / "results.parquet").filter(**where)["value"].mean() == pytest.approx(np.mean(spread))
    assert pl.read_parquet(extended / "summary.parquet").filter(**where)["value"].item() == pytest.approx(np.mean(spread))
    contrast = pl.read_parquet(extended / "contrasts.parquet").filter(**where).row(0, named=True)
    assert contrast["effect_name"] == "d_z"  # it is no share
    assert contrast["low"] < contrast["difference"] < contrast["high"]
    assert "spread" in set(pl.read_parquet(extended / "curves.parquet")["metric"])


def test_a_new_metric_has_its_tables(extended: Path):
    each, contrasts = ((extended / f"{name}spread-tuned_chat.md").read_text() for name in ("", "contrasts-"))
    assert each.startswith("Each measure**Spread of the choices, tuned model, chat prompt")
    assert "| harmonious |" in each
    assert contrasts.startswith("Conditions against each other**Spread of the choices against incompatible training")


def test_the_vocabulary_names_every_metric_of_the_report_and_of_the_command():
    assert {"accuracy", "confidence", "choice_mass", "kl_nats", "rank_pearson", "top1_agreement"} <= {*METRICS}
    assert {*CONTRASTED} | {*CONSISTENCY} <= {*METRICS}
    assert {*SHARES} <= {*METRICS, *ANSWERED}
    assert not {*METRICS} & {*ANSWERED}
    assert {*BOUNDS} == {*METRICS, *ANSWERED, SPEARMAN.name}
    assert all(least < greatest for least, greatest in BOUNDS.values())
