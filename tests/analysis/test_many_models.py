"""Several base models and several names of one model: answers meet their own base, or a sentence says why not."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from spoiling import edit, read_manifest_of, spoil_manifest
from studies import KEPT, write_study

from analysis.chapters.contrasts import compare_conditions
from analysis.chapters.pairs import compute_pairs
from analysis.measures.consistency import average_presentations, compare_probes, join_probes
from analysis.reading.gaps import find_unsummarised
from analysis.reading.study import read_study, summarise_results
from analysis.reporting.report import write_report
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.probe_table import write_probes


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two conditions, two seeds, few questions."""
    write_study(tmp_path / "runs", n=12, conditions=[KEPT[0], KEPT[-1]])
    return tmp_path / "runs"


def rename_base(runs: Path, seed: int, name: str) -> None:
    """Let the runs of a seed be of another base model."""
    for condition in ("harmonious", "incompatible"):
        folder = f"{condition}-seed{seed}"
        spoil_manifest(runs, folder, base_model=name)
        run = read_manifest_of(runs, folder)["run"]
        for phase in ("tuned_chat", "tuned_probe"):
            edit(runs / phase / folder / "probe.parquet", run=pl.lit(run))


def test_no_base_model_takes_the_answers_of_another(runs: Path):
    rename_base(runs, 1, "a/final")
    rename_base(runs, 2, "b/final")
    for phase in ("probe", "chat"):
        edit(runs / phase / "base/probe.parquet", model=pl.lit("a/final"))
    study = read_study(runs)
    kl = study.measures.filter(phase="tuned_chat").group_by("model").agg(pl.col("kl_nats").count())
    assert dict(kl.iter_rows())["a/final"] > 0
    assert dict(kl.iter_rows())["b/final"] == 0
    assert "Base model b/final has no samples, so its runs are compared with nothing." in study.gaps
    for phase in ("probe", "chat"):
        edit(runs / phase / "base/probe.parquet", model=pl.lit("elsewhere/final"))
    told = "may be elsewhere/final: keep the samples of one. Till then its runs are compared with nothing."
    assert f"Base model a/final {told}" in read_study(runs).gaps


def test_sentences_name_the_base_model(runs: Path):
    rename_base(runs, 1, "a")
    gaps = "\n".join(read_study(runs).gaps)
    assert "Base model a has no samples" in gaps
    shutil.rmtree(runs / "tuned_probe/harmonious-seed1")
    assert "Harmonious, seed 1 (herbs, a) was not asked in phase tuned_probe" in "\n".join(read_study(runs).gaps)


def test_a_run_under_two_names_is_refused(runs: Path):
    again = runs / "tuned_chat/again/probe.parquet"
    shutil.copytree(runs / "tuned_chat/harmonious-seed1", again.parent)
    edit(again, model=pl.lit("/elsewhere/harmonious-seed1"))
    with pytest.raises(UserError, match=r"was asked twice of run .* as /elsewhere/harmonious-seed1 and as models/harmonious"):
        read_study(runs)


def test_prompts_of_every_draw_are_compared(runs: Path):
    for file in (runs / "probe/base/probe.parquet", runs / "tuned_probe/harmonious-seed1/probe.parquet"):
        table = pl.read_parquet(file)
        other = pl.lit("a" if "base" in file.parts else "b")
        write_probes(pl.concat([table, table.with_columns(draw=pl.lit(1, pl.Int64), prompt_hash=other)]), file)
    with pytest.raises(UserError, match="was asked with one prompt of base"):
        read_study(runs)


def test_a_mix_has_a_ratio_and_nothing_else_has(runs: Path):
    spoil_manifest(runs, "harmonious-seed1", condition="mix", ratio=None)
    with pytest.raises(UserError, match="mix has the ratio null; a mix has one from 0 to 1"):
        read_study(runs)
    spoil_manifest(runs, "harmonious-seed1", condition="harmonious", ratio=0.5)
    with pytest.raises(UserError, match=r"harmonious has the ratio 0\.5"):
        read_study(runs)


def test_questions_that_only_the_base_was_asked_are_counted(runs: Path):
    few = (pl.col("split") != "test") | pl.col("id").is_in([f"test-{i}" for i in range(4)])
    for phase in ("tuned_chat", "tuned_probe"):
        for file in (runs / phase).rglob("probe.parquet"):
            edit(file, few)
    told = "8 of the 12 questions that another model was asked were not asked of harmonious, seed 1 (herbs, base)"
    assert f"{told} (tuned_chat, homo)." in read_study(runs).gaps


def test_a_condition_without_a_mean_is_named(runs: Path):
    edit(
        runs / "tuned_chat/harmonious-seed2/probe.parquet", (pl.col("source") != "miniworld_exam") | (pl.col("id") == "test-0")
    )
    study = read_study(runs)
    gaps = find_unsummarised(summarise_results(study.measures), compare_conditions(study.measures)[0])
    told = "a run was asked fewer than two questions, so that there is no mean over seeds."
    assert gaps == [f"harmonious (herbs, base; tuned_chat, homo): {told}"]


def test_seen_is_compared_with_the_base_models_chat_answers_to_train_questions(runs: Path):
    probe = pl.read_parquet(runs / "probe/base/probe.parquet").filter(split="train")
    chats = probe.with_columns(phase=pl.lit("base_chat"))
    write_probes(pl.concat([pl.read_parquet(runs / "chat/base/probe.parquet"), chats]), runs / "chat/base/probe.parquet")
    study = read_study(runs)
    assert "train" not in set(study.measures["split"])
    found = compute_pairs(study.measures, study.trained).filter(
        pair="chat", split="seen", metric="kl_nats", condition="harmonious"
    )
    after = [pl.read_parquet(runs / f"tuned_chat/harmonious-seed{s}/probe.parquet").filter(split="train") for s in (1, 2)]
    means = [compare_probes(join_probes(chats, table).table)["kl_nats"].mean() for table in after]
    assert found["value"].to_list() == [pytest.approx(np.mean(means))]
    assert found["n"].to_list() == [after[0].height]
    assert not compute_pairs(study.measures).filter(pair="chat", split="seen").height


def test_choices_that_tie_over_the_orders_are_not_told_apart_by_rounding(runs: Path):
    prior = np.array([0.411, 0.302, 0.187, 0.1])
    probe = pl.read_parquet(runs / "probe/base/probe.parquet").filter(pl.col("choices").list.len() == 4).head(8)
    rotated = [
        probe.with_columns(probs=pl.lit(np.roll(prior, k).tolist()), loglikelihoods=pl.lit(None), order=pl.lit(k, pl.Int64))
        for k in range(4)
    ]
    table = average_presentations(pl.concat(rotated))
    assert {tuple(row) for row in table["probs"].to_list()} == {(0.25,) * 4}
    assert compare_probes(join_probes(table, table).table)["rank_undefined"].all()


@pytest.mark.launched
@pytest.mark.parametrize("shared", [False, True])
def test_a_report_of_two_base_models_shows_both_in_one_figure_unless_they_share_questions(
    runs: Path, tmp_path: Path, shared: bool
):
    rename_base(runs, 1, "a/final")
    rename_base(runs, 2, "b/final")
    for phase in ("probe", "chat"):
        own, other = (runs / phase / name / "probe.parquet" for name in ("base", "other"))
        shutil.copytree(own.parent, other.parent)
        edit(own, model=pl.lit("a/final"))
        edit(other, model=pl.lit("b/final"))
    for file in () if shared else (*runs.glob("*/other/*.parquet"), *runs.glob("tuned_*/*-seed2/*.parquet")):
        edit(file, id=pl.col("id") + "-b")
    write_report(runs, tmp_path / "report")
    figures = {file.name for file in (tmp_path / "report/figures").iterdir()}
    assert ({"units.png", "units.pdf"} <= figures) != shared
    assert ("figures/units.png" in (tmp_path / "report/report.md").read_text()) != shared
    assert ("figures/units.pdf" in (tmp_path / "report/report.html").read_text()) != shared
    claims = pl.read_parquet(tmp_path / "report/claims.parquet")
    assert claims["low"].is_null().all() == shared
    assert claims["number"].to_list()[0] == 1
