"""A study is read by the score of its runs; several scores are several studies."""

from pathlib import Path

import polars as pl
import pytest
from spoiling import edit, spoil_manifest
from studies import write_study

from analysis.reading.study import read_study
from analysis.reporting.consistency import compare_logs
from lm_eval_tasks.contracts.errors import UserError

NAMES = [f"{condition}-seed1" for condition in ("harmonious", "incompatible")]
BASE, CHAT = "probe/base/probe.parquet", "tuned_chat/harmonious-seed1/probe.parquet"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_study(tmp_path, n=8, seeds=(1,), conditions=[("harmonious", None, 0.9), ("incompatible", None, 0.5)])
    return tmp_path


def test_runs_that_say_no_score_are_of_the_sum(runs: Path) -> None:
    study = read_study(runs)
    assert set(study.runs["score"]) == set(study.measures["score"]) == {"sum"}
    for name in NAMES:
        spoil_manifest(runs, name, score=None)
    assert set(read_study(runs).runs["score"]) == {"sum"}


def test_runs_of_several_scores_are_several_studies(runs: Path) -> None:
    spoil_manifest(runs, NAMES[0], score="pmi")
    with pytest.raises(UserError, match=r"several scores of texts: \w+ \(.*seed1\) and \w+ \(.*seed1\)\. .* one at a time"):
        read_study(runs)
    spoil_manifest(runs, NAMES[1], score="pmi")
    with pytest.raises(UserError, match=r"probe.parquet, row 1 .* has no loglikelihoods_pmi"):
        read_study(runs)


@pytest.mark.parametrize(
    ("score", "told"), [("pmy", 'score is "pmy", which is none of sum'), (3, "score is 3, which is not of")]
)
def test_a_score_that_is_none_names_the_manifest(runs: Path, score: object, told: str) -> None:
    spoil_manifest(runs, NAMES[0], score=score)
    with pytest.raises(UserError, match=f"harmonious-seed1/manifest.json: {told}"):
        read_study(runs)


def test_a_comparison_of_two_scores_asks_for_one(runs: Path) -> None:
    edit(runs / CHAT, score=pl.lit("pmi"), loglikelihoods_pmi=pl.col("loglikelihoods"))
    with pytest.raises(UserError, match=r"--before is read by the score sum and --after by pmi\. Name one for both"):
        compare_logs([runs / BASE], [runs / CHAT])
    assert compare_logs([runs / BASE], [runs / CHAT], score="sum")["n"] > 0
