"""A made-up study becomes the contract's tables; what is missing is named; what is wrong is refused."""

import re
import shutil
from pathlib import Path

import polars as pl
import pytest
from spoiling import edit, read_manifest_of, spoil_manifest
from studies import KEPT, write_study

from analysis.measures.consistency import compare_probes, join_probes
from analysis.measures.metrics import CONSISTENCY, METRICS
from analysis.reading.runs import find_runs
from analysis.reading.study import RESULT_COLUMNS, read_study, summarise_results
from analysis.reporting.report import write_report
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import MANIFEST
from lm_eval_tasks.contracts.logs.samples import read_probes
from lm_eval_tasks.contracts.manifest import write_manifest


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "runs"
    write_study(folder)
    return folder


@pytest.fixture
def runs(whole: Path, tmp_path: Path) -> Path:
    """A copy of the study that a test may spoil."""
    return shutil.copytree(whole, tmp_path / "runs")


def test_results_follow_the_contract(whole: Path):
    study = read_study(whole)
    results = summarise_results(study.measures)
    assert study.gaps == []
    assert tuple(results.columns) == RESULT_COLUMNS
    base = results.filter(run="")
    assert set(base["condition"]) == {"base"}
    assert base["seed"].null_count() == base.height
    assert set(base["split"]) == {"homo", "id", "ood"}
    assert set(base.filter(phase="base_probe")["metric"]) == {*METRICS} - {*CONSISTENCY}
    assert set(results.filter(phase="tuned_chat")["split"]) == {"homo", "id", "ood", "seen"}
    assert results.filter(condition="mix")["ratio"].unique().to_list() == [0.4]
    assert results.filter(pl.col("condition") != "mix")["ratio"].null_count() > 0
    assert (results["low"] <= results["value"]).all()
    assert (results["value"] <= results["high"]).all()


def test_results_equal_a_recount_from_the_logs(whole: Path):
    results = summarise_results(read_study(whole).measures)
    run = read_manifest_of(whole, "incompatible-seed2")["run"]
    before, after = (read_probes(whole / part) for part in ("probe/base", "tuned_chat/incompatible-seed2"))
    splits = {
        "seen": after.filter(split="train"),
        "homo": after.filter(split="test", source="miniworld_exam"),
        "id": after.filter(split="test", source="miniworld_survey", domain="herbs"),
        "ood": after.filter(pl.col("domain") != "herbs"),
    }
    for split, part in splits.items():
        compared = compare_probes(join_probes(before, part).table)
        rows = {r["metric"]: r for r in results.filter(run=run, phase="tuned_chat", split=split).iter_rows(named=True)}
        assert rows["accuracy"]["n"] == part.height
        assert rows["accuracy"]["value"] == pytest.approx(part["correct"].mean())
        for metric in ("kl_nats", "rank_pearson", "top1_agreement"):
            assert rows[metric]["value"] == pytest.approx(compared[metric].mean(), abs=1e-12)


@pytest.mark.parametrize(
    ("spoil", "gap"),
    [
        (lambda r: [shutil.rmtree(r / p / "mix-0.4-seed1") for p in ("tuned_chat", "tuned_probe")],
         "Mix 0.4, seed 1 (herbs, base) has no samples"),
        (lambda r: shutil.rmtree(r / "tuned_probe/harmonious-seed1"), "was not asked in phase tuned_probe"),
        (lambda r: shutil.rmtree(r / "models/harmonious-seed1"), "of which there is no manifest.json; left out"),
        (lambda r: shutil.rmtree(r / "chat/base"), "The base model was not asked in phase base_chat"),
        (lambda r: [shutil.rmtree(r / "chat/base"), shutil.rmtree(r / "probe/base")], "Base model base has no samples"),
        (lambda r: edit(r / "tuned_chat/harmonious-seed2/probe.parquet", pl.col("split") == "test"), "lacks the split seen"),
        (lambda r: edit(r / "probe/base/probe.parquet", pl.col("id") != "test-0"), "were not asked of the base model before"),
        (lambda r: edit(r / "tuned_chat/harmonious-seed2/probe.parquet", run=pl.lit("")), "carry no run id"),
        (lambda r: edit(r / "chat/base/probe.parquet", model=pl.lit("elsewhere")), "No run was trained from elsewhere"),
    ],
)  # fmt: skip
def test_gaps_are_named(runs: Path, spoil, gap: str):
    spoil(runs)
    study = read_study(runs)
    assert gap in "\n".join(study.gaps)
    assert summarise_results(study.measures).height > 0


def test_what_all_runs_lack_is_said_once(runs: Path):
    shutil.rmtree(runs / "tuned_probe")
    gaps = read_study(runs).gaps
    assert gaps == ["None of the 12 runs was asked in phase tuned_probe (tuned model, few-shot)."]


def test_prompts_of_one_kind_must_be_the_same(runs: Path):
    same, other = pl.lit("0" * 16), pl.when(pl.col("id") == "test-3").then(pl.lit("f" * 16)).otherwise(pl.lit("0" * 16))
    edit(runs / "probe/base/probe.parquet", prompt_hash=same)
    edit(runs / "chat/base/probe.parquet", prompt_hash=pl.lit("1" * 16))
    edit(runs / "tuned_probe/mix-0.4-seed1/probe.parquet", prompt_hash=same)
    assert not read_study(runs).gaps
    edit(runs / "tuned_probe/mix-0.4-seed2/probe.parquet", prompt_hash=other)
    with pytest.raises(UserError, match=r"id 'test-3' was asked with one prompt of base .* of .*seed2"):
        read_study(runs)


def test_prompts_of_one_kind_must_begin_alike(runs: Path):
    without, begun = pl.lit(False), pl.lit(True)
    edit(runs / "probe/base/probe.parquet", bos=begun)  # few-shot prompts are not compared with chat prompts
    edit(runs / "chat/base/probe.parquet", bos=without)
    edit(runs / "tuned_chat/mix-0.4-seed1/probe.parquet", bos=without)
    assert not read_study(runs).gaps
    edit(runs / "tuned_chat/mix-0.4-seed2/probe.parquet", bos=begun)
    with pytest.raises(UserError, match=r"of base \(base_chat\) began without .* of .*seed2 \(tuned_chat\) with one"):
        read_study(runs)


def test_one_seed_is_said(tmp_path: Path):
    write_study(tmp_path / "runs", n=12, seeds=(1,), conditions=[KEPT[0], KEPT[-1]])
    assert "Seeds were not varied" in "\n".join(read_study(tmp_path / "runs").gaps)


def test_infinite_kl_is_counted(runs: Path):
    file = runs / "tuned_chat/incompatible-seed1/probe.parquet"
    sharp = (
        pl.col("choices").list.eval(pl.element().rank("ordinal").cast(pl.Float64) == 1).list.eval(pl.element().cast(pl.Float64))
    )
    first = pl.col("choices").list.arg_min().cast(pl.Int64)
    edit(
        file,
        loglikelihoods=pl.lit(None),
        probs=sharp,
        prediction=first,
        confidence=pl.lit(1.0),
        correct=first == pl.col("answer"),
    )
    study = read_study(runs)
    assert "have an infinite KL" in "\n".join(study.gaps)
    kl = summarise_results(study.measures).filter(metric="kl_nats")
    assert kl["value"].is_finite().all()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: shutil.copytree(r / "models/mix-0.4-seed1", r / "models/copy"), "are the same run"),
        (lambda r: (r / "models/new").mkdir() or (shutil.copy(r / "models/mix-0.4-seed1" / MANIFEST, r / "models/new") and
         spoil_manifest(r, "new", weight_decay=1.0)), "were trained on the same condition and seed"),
        (lambda r: spoil_manifest(r, "mix-0.4-seed1", seed=None), "config has no 'seed'"),
        (lambda r: spoil_manifest(r, "incompatible-seed1", seed=2), "were trained on the same condition and seed"),
        (lambda r: spoil_manifest(r, "incompatible-seed1", seed="one"), "not of the contract's types"),
        (lambda r: spoil_manifest(r, "mix-0.4-seed1", source="other"), "trained on miniworld_exam and other"),
        (lambda r: shutil.rmtree(r / "models"), "holds no run that was trained on a condition"),
        (lambda r: [f.unlink() for f in r.rglob("probe.parquet")], "holds no sample log"),
        (lambda r: edit(r / "tuned_chat/mix-0.4-seed1/probe.parquet", scoring=pl.lit("letter")), "scored by letter"),
        (lambda r: edit(r / "probe/base/probe.parquet", scoring=pl.lit("letter")),
         "scored by letter before and by cloze after"),
        (lambda r: (r / "samples_x.jsonl").write_text('{"doc": {"id"'), "line 1"),
        (lambda r: (r / "models/mix-0.4-seed1" / MANIFEST).write_text("{"), "is not a manifest"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(runs: Path, tmp_path: Path, spoil, message: str):
    spoil(runs)
    with pytest.raises(UserError, match=re.escape(message)):
        write_report(runs, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_runs_on_instruction_data_are_of_no_condition_and_passed_over(tmp_path: Path) -> None:
    write_study(tmp_path / "study", n=8, seeds=(1,))
    before = find_runs(tmp_path / "study")[0]
    write_manifest(tmp_path / "study/own", "train", [], {"condition": "instruction_data", "domain": None}, {}, {})
    assert find_runs(tmp_path / "study")[0].equals(before)
