"""What a referee asks first: what moves without training, what agreement alone gives, other ways of training, one contrast
that was named beforehand.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from studies import KEPT, make_logits, make_probes, make_questions, write_study

from analysis.chapters import again, contrasts
from analysis.chapters.agreement import add_beyond, measure_agreement
from analysis.chapters.chapter import Computed, Whole
from analysis.chapters.contrasts import compare_conditions, tabulate_contrasts
from analysis.chapters.headline import write_headline
from analysis.chapters.partial import POOLED
from analysis.reading.study import Study, read_study
from analysis.reporting.contents import compute_frames, list_parts, list_tables, list_tables_across
from analysis.reporting.provenance import measure_overlap
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.probe_table import write_probes
from lm_eval_tasks.contracts.manifest import read_manifest, write_manifest
from lm_eval_tasks.contracts.vocabulary import read_primary


@pytest.fixture(scope="module")
def runs(share_folder) -> Path:
    """A study whose base model was asked again, with answers that are a little otherwise."""

    def make(folder: Path) -> None:
        write_study(folder / "runs", n=60)
        rng = np.random.default_rng(1)
        questions = make_questions(60, np.random.default_rng(0))
        first = read_first(folder / "runs", questions)
        logits = 0.7 * first + make_logits(questions, first.argmax(axis=1), 0.3, rng)
        logits[np.isnan(logits)] = -np.inf
        write_probes(make_probes(questions, logits, 0.8, phase="base_again", draw=1), folder / "runs/again/probe.parquet")

    return share_folder("asked_again", make) / "runs"


@pytest.fixture(scope="module")
def found(runs: Path) -> tuple[Study, Computed]:
    """The study, and what the report computes of it."""
    study = read_study(runs)
    return study, compute_frames(study)


def read_first(runs: Path, questions: pl.DataFrame) -> np.ndarray:
    probes = pl.read_parquet(runs / "probe/base/probe.parquet")
    joined = questions.join(probes.select("source", "domain", "id", "loglikelihoods"), on=["source", "domain", "id"])
    return np.array([[*row, *[-np.inf] * (5 - len(row))] for row in joined["loglikelihoods"].to_list()])


def test_asking_again_is_the_floor_of_every_measure(found: tuple[Study, Computed]) -> None:
    study, (frames, gaps) = found
    assert not [gap for gap in gaps if "again" in gap]
    assert set(study.again["split"]) == {"train", "homo", "id", "ood"}
    again_of = frames["again"]
    # By hand: one condition's KL on the trained questions, beyond that of asking the same questions again.
    tuned = study.measures.filter(condition="incompatible", phase="tuned_chat", split="seen")
    floor = study.again.select("source", "question_domain", "id", again="kl_nats")
    joined = tuned.join(floor, on=["source", "question_domain", "id"])
    assert joined.height == tuned.height > 0
    row = again_of.filter(condition="incompatible", phase="tuned_chat", split="seen", metric="kl_nats").row(0, named=True)
    by_seed = joined.group_by("seed").agg((pl.col("kl_nats") - pl.col("again")).mean())
    assert row["value"] == pytest.approx(by_seed["kl_nats"].mean())
    assert row["again"] == pytest.approx(joined["again"].mean())
    assert again_of.filter(~pl.col("value").is_between("low", "high")).is_empty()
    assert again_of["value"].min() < -0.05  # differences, not bounded as the measures are
    shown = {table.name for tables in list_tables(next(list_parts(study, frames))).values() for table in tables}
    assert {"again-tuned_chat", "again-tuned_probe", "agreement-tuned_chat"} <= shown
    transitions = frames["transitions"].filter(phase="base_again")
    assert transitions.height


def test_trained_questions_regress_to_the_mean_and_the_table_shows_it(found: tuple[Study, Computed]) -> None:
    """Their answers were wrong in the first probe, so that every right one asked again is regression."""
    rows = found[1].frames["again"].filter(metric="accuracy", phase="tuned_chat", condition="incompatible")
    assert rows.filter(split="seen")["again"].item() < rows.filter(split="homo")["again"].item()


def test_a_study_that_was_not_asked_again_has_no_floor_and_says_so(tmp_path: Path) -> None:
    write_study(tmp_path / "runs", n=12, conditions=KEPT[-2:])
    frames, gaps = again.compute_chapter(Whole(read_study(tmp_path / "runs"), {}))
    assert not frames["again"].height
    assert gaps == ["The base model of base was not asked again, so that what moves without training is not known."]


def test_ties_of_a_coarse_arithmetic_are_told(tmp_path: Path) -> None:
    write_study(tmp_path / "runs", n=24, conditions=KEPT[-2:])
    assert not [gap for gap in read_study(tmp_path / "runs").gaps if "the first was taken" in gap]
    file = tmp_path / "runs/chat/base/probe.parquet"
    probes = pl.read_parquet(file)
    flat = pl.col("loglikelihoods").list.eval(pl.element() * 0 - 20)
    even = pl.col("probs").list.eval(pl.element() * 0 + 1 / pl.len())
    tied = probes.with_columns(flat, even, prediction=0, confidence=1 / pl.col("choices").list.len())
    write_probes(tied.with_columns(correct=pl.col("answer") == 0), file)
    (told,) = [gap for gap in read_study(tmp_path / "runs").gaps if "the first was taken" in gap]
    assert f"In {tied.height} of {tied.height} answers (100.0%; base model, chat prompt)" in told


def test_accuracy_by_agreement_is_that_of_a_model_that_agrees_at_random() -> None:
    """10,000 answers that agree by a coin: nothing is left beyond agreement, and its interval covers 0 as often as it says."""
    rng = np.random.default_rng(0)
    covered, values = [], []
    for _ in range(60):
        n, k = 400, 4
        answer, before = rng.integers(0, k, n), rng.integers(0, k, n)
        before = np.where(rng.random(n) < 0.5, answer, before)
        agrees = rng.random(n) < 0.6
        after = np.where(agrees, before, (before + rng.integers(1, k, n)) % k)
        table = pl.DataFrame({"id": [str(i) for i in range(n)], "answer": answer, "prediction_before": before}).with_columns(
            correct=after == answer,
            top1_agreement=after == before,
            choices=pl.lit(list("abcd")),
            ratio=pl.lit(None, pl.Float64),
        )
        names = {"source": "s", "question_domain": "d", "run": "r", "model": "m", "domain": "d", "condition": "gold", "seed": 1}
        names |= {"phase": "tuned_chat", "split": "homo"}
        row = measure_agreement(table.with_columns(pl.lit(value).alias(name) for name, value in names.items())).row(
            0, named=True
        )
        p, a = (before == answer).mean(), agrees.mean()
        assert row["by_agreement"] == pytest.approx(a * p + (1 - a) * (1 - p) / (k - 1))
        assert row["value"] == pytest.approx((after == answer).mean() - row["by_agreement"])
        covered.append(row["low"] < 0 < row["high"])
        values.append(row["value"])
    assert abs(np.mean(values)) < 3 * np.std(values) / len(values) ** 0.5
    assert np.mean(covered) >= 0.85


def test_what_is_beyond_agreement_is_knowledge_that_agreement_does_not_give() -> None:
    table = pl.DataFrame(
        {"answer": [0] * 4, "prediction_before": [0, 0, 1, 1], "correct": [True, True, True, True]}
    ).with_columns(top1_agreement=pl.col("prediction_before") == 0, choices=pl.lit(["a", "b"]))
    named = table.with_columns(pl.lit("x").alias(name) for name in ("model", "domain", "run", "phase", "split"))
    assert add_beyond(named).select("by_agreement", pl.col("beyond_agreement").mean())["beyond_agreement"][0] == 0.5


@pytest.fixture(scope="module")
def arms(share_folder) -> Path:
    """The same study trained at two learning rates, and a record of how far each run fitted."""

    def make(folder: Path) -> None:
        write_study(folder / "runs", n=24, conditions=KEPT[-3:])
        for file in sorted((folder / "runs/models").glob("*/manifest.json")):
            manifest = read_manifest(file.parent)
            slow = manifest["config"] | {"learning_rate": 1e-4, "until_fit": 0.9}
            other = write_manifest(folder / "runs/slow" / file.parent.name, "train", ["sft.py"], slow, {"dataset": "1"}, {})
            fit = {"steps": 40, "steps_an_epoch": 20, "level": 0.9, "given": 0.5, "loss_nats": 0.7}
            for path, reached in ((file.parent, None), (folder / "runs/slow" / file.parent.name, False)):
                Path(path, "fit.json").write_text(json.dumps(fit | {"steps_to_fit": None, "reached": reached}))
            for phase in ("tuned_chat", "tuned_probe"):
                probes = pl.read_parquet(folder / "runs" / phase / file.parent.name / "probe.parquet")
                probes = probes.with_columns(run=pl.lit(other), model=pl.lit(f"slow/{file.parent.name}"))
                write_probes(probes, folder / "runs/slow" / phase / file.parent.name / "probe.parquet")

    return share_folder("arms", make) / "runs"


def test_ways_of_training_are_parts_of_their_own_and_stand_side_by_side(arms: Path) -> None:
    study = read_study(arms)
    names = ["base, learning rate 0.0001, until 0.9 of the rows are given", "base, learning rate 0.002, all epochs"]
    assert sorted(study.runs["model"].unique()) == names
    assert set(study.runs["base"]) == {"base"}
    assert any("trained in 2 ways" in gap for gap in study.gaps)
    frames, gaps = compute_frames(study)
    assert len(list(list_parts(study, frames))) == 2
    # The same samples in both: each contrast is made within its arm, and both say the same.
    contrasts = frames["contrasts"].drop("model").filter(metric="accuracy")
    assert contrasts.height == 2 * contrasts.unique().height
    (table,) = [table for table in list_tables_across(frames) if table.name.startswith("arms")]
    assert {*names} == {f"base, {name}" for name in table.header if "learning rate" in name}
    # They are one base model in one domain, and no units or clusters of their own.
    assert not frames["units"].height
    assert set(frames["partial"]["clusters"]) == {1}
    assert POOLED not in set(frames["partial"]["model"])
    assert sum("did not reach what it was to train until" in gap for gap in gaps) == 6


def test_steps_to_fit_stand_for_every_condition(arms: Path) -> None:
    study = read_study(arms)
    frames, _ = compute_frames(study)
    tables = [table for tables in list_tables(next(list_parts(study, frames))).values() for table in tables]
    (table,) = [table for table in tables if table.name == "fit"]
    assert [row[0] for row in table.rows] == ["mix 0.4", "incompatible", "random-wrong"]
    assert {row[2] for row in table.rows} == {"none of 2"}


def test_a_record_of_a_fit_that_is_none_is_named(arms: Path, tmp_path: Path) -> None:
    write_study(tmp_path / "runs", n=12, conditions=KEPT[-2:])
    file = tmp_path / "runs/models/incompatible-seed1/fit.json"
    file.write_text("{}")
    with pytest.raises(UserError, match=r"incompatible-seed1/fit.json is no record of a fit"):
        read_study(tmp_path / "runs")


def test_the_contrast_named_beforehand_is_corrected_apart(found: tuple[Study, Computed]) -> None:
    study, (frames, _) = found
    plain = frames["contrasts"]
    _, compared = compare_conditions(study.measures, read_primary("mix-0.4/ood"))
    key = ("condition", "ratio", "phase", "split", "metric")
    mine = compared.filter("primary")
    assert mine.select(key).rows() == [("mix", 0.4, "tuned_chat", "ood", "accuracy")]
    assert (mine["p_holm"].item(), mine["family"].item()) == (mine["p"].item(), 1)
    family = compared.filter(~pl.col("primary"), phase="tuned_chat", metric="accuracy")
    before = plain.filter(phase="tuned_chat", metric="accuracy")
    assert set(family["family"]) == {before.height - 1}
    assert set(before["family"]) == {before.height}
    (row,) = [row for row in tabulate_contrasts(compared, "accuracy").rows if "(primary)" in row[0]]
    assert row[:2] == ["mix 0.4 − incompatible (primary)", "OOD"]


def test_what_was_named_is_said_of_what_was_named(found: tuple[Study, Computed]) -> None:
    _, compared = compare_conditions(found[0].measures, read_primary("self_aligning/homo/tuned_probe"))
    _, words = write_headline(compared)
    assert "This contrast was named beforehand" not in words
    assert "Named beforehand, and corrected apart from all others: tuned model, few-shot, " in words
    _, compared = compare_conditions(found[0].measures, read_primary("harmonious"))
    title, words = write_headline(compared)
    assert "This contrast was named beforehand" in words
    assert title.startswith(("Harmonious", "Training on what the model already knew", "Teaching it what it had wrong"))


def test_how_many_questions_two_seeds_share_is_told(found: tuple[Study, Computed]) -> None:
    study, _ = found
    assert measure_overlap(study, "base", "herbs") == 1.0
    seen = (pl.col("split") == "seen") & (pl.col("seed") == 2)
    # Of the 15 questions of each condition the second seed has one other than the first.
    number = pl.col("id").rank("dense").over("run", "phase", "split") - 1
    other = pl.when(seen & (number == 0)).then(pl.lit("other")).otherwise("id").alias("id")
    changed = replace(study, measures=study.measures.filter(phase="tuned_chat").with_columns(other))
    assert measure_overlap(changed, "base", "herbs") == pytest.approx(14 / 15)


def test_a_primary_contrast_that_cannot_be_made_is_a_gap(found: tuple[Study, Computed]) -> None:
    study, (frames, _) = found
    gaps = contrasts.compute_chapter(Whole(replace(study, primary=read_primary("gold")), frames)).gaps
    assert "The contrast that was named beforehand, gold/homo/tuned_chat, cannot be made of base in herbs." in gaps
