"""What counts as a belief is what the data was built by: runs say their threshold, and all that is told of beliefs takes it."""

from pathlib import Path

import polars as pl
import pytest
from spoiling import edit, read_manifest_of, spoil_manifest
from studies import write_study
from test_explorer import EMPTY

from analysis.chapters.chapter import Part
from analysis.chapters.classes import compute_classes, tabulate_classes
from analysis.chapters.transitions import CHAPTER, compute_transitions, tabulate_transitions
from analysis.reading.study import read_study
from analysis.reporting.consistency import compare_logs, write_comparison
from analysis.reporting.explorer import list_moved
from analysis.reporting.page import render, write_page
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.probe_table import write_probes
from lm_eval_tasks.contracts.vocabulary import THRESHOLD

CONDITIONS = [("harmonious", None, 0.93), ("incompatible", None, 0.5)]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A study whose data took a prediction for a belief above 0.7."""
    write_study(tmp_path / "runs", n=12, conditions=CONDITIONS, threshold=0.7)
    return tmp_path / "runs"


def test_states_captions_and_notes_take_the_threshold_of_the_runs(runs: Path):
    study = read_study(runs)
    assert study.gaps == []
    assert set(study.runs["threshold"]) == set(study.measures["threshold"]) == {0.7}
    transitions, classes = compute_transitions(study.measures), compute_classes(study.measures)
    asked = study.measures.filter(phase="tuned_chat", split="homo", condition="harmonious", seed=1)
    unsure = (asked["probs_before"].list.max() <= 0.7).sum()
    assert unsure > (asked["probs_before"].list.max() <= THRESHOLD).sum()
    found = transitions.filter(phase="tuned_chat", split="homo", condition="harmonious", before="unsure")
    assert set(found["n"]) == {unsure}
    assert set(transitions["threshold"]) == set(classes["threshold"]) == {0.7}
    assert "has a probability above 0.7; unsure" in tabulate_transitions(transitions).note
    assert "right or wrong with a probability above 0.7, else unsure" in tabulate_classes(classes).note
    sketch = CHAPTER.figures(Part("base", "herbs", "", {"transitions": transitions}))[0]
    assert "(no choice above 0.7)" in sketch.caption
    assert "above a confidence of 0.7;" in write_page(dict(EMPTY), *list_moved(study.measures))


def test_older_manifests_do_not_say_it_and_the_report_says_so(tmp_path: Path):
    write_study(tmp_path / "runs", n=12, conditions=CONDITIONS, threshold=None)
    study = read_study(tmp_path / "runs")
    told = f"does not say above which confidence a prediction counts as a belief; {THRESHOLD:g} is taken."
    assert study.gaps == [f"The manifest.json of all 4 runs {told}"]
    assert set(study.measures["threshold"]) == {THRESHOLD}
    adopt(tmp_path / "runs", "harmonious-seed1", threshold=THRESHOLD)
    gaps = read_study(tmp_path / "runs").gaps
    assert f"The manifest.json of harmonious, seed 2 (herbs, base) {told}" in gaps
    assert len([gap for gap in gaps if told in gap]) == 3
    context = EMPTY | {"gaps": gaps}
    assert gaps[0] in render("report.md.jinja", context)


def adopt(runs: Path, name: str, **config: object) -> None:
    """Other settings of a run, whose samples follow it."""
    spoil_manifest(runs, name, **config)
    run = read_manifest_of(runs, name)["run"]
    for phase in ("tuned_chat", "tuned_probe"):
        edit(runs / phase / name / "probe.parquet", run=pl.lit(run))


def test_one_part_has_one_threshold_and_another_part_may_have_another(runs: Path):
    adopt(runs, "harmonious-seed1", threshold=0.5)
    with pytest.raises(UserError, match=r"domain 'herbs' whose data took .* above a confidence of 0\.5 and 0\.7\. Report them"):
        read_study(runs)
    for name in ("harmonious-seed1", "incompatible-seed1"):
        adopt(runs, name, threshold=0.5, domain="engines", source="miniworld_survey")
    measures = read_study(runs).measures
    assert set(measures.group_by("domain", "threshold").len().select("domain", "threshold").rows()) == {
        ("engines", 0.5),
        ("herbs", 0.7),
    }
    assert "above a confidence of 0.5 or 0.7;" in write_page(dict(EMPTY), *list_moved(measures))


@pytest.mark.parametrize(
    ("threshold", "told"),
    [
        ("half", 'threshold is "half", which is not of the contract'),
        (True, "threshold is true, which is not of the contract"),
        (1.5, r"threshold is 1\.5, which is not from 0 to 1"),
    ],
)
def test_a_threshold_is_a_number_from_0_to_1(runs: Path, threshold: object, told: str):
    spoil_manifest(runs, "harmonious-seed1", threshold=threshold)
    with pytest.raises(UserError, match=told):
        read_study(runs)


def test_the_command_takes_it_from_the_tuned_models_manifest(runs: Path):
    before, after = runs / "probe/base/probe.parquet", runs / "tuned_chat/harmonious-seed1/probe.parquet"
    report = compare_logs([before], [after])
    assert (report["threshold"], report["threshold_known"]) == (THRESHOLD, False)  # the model's folder is not found
    assert "confidence of 0.5 (the project's own, as no manifest says another)" in write_comparison(report)
    table = pl.read_parquet(after)
    write_probes(table.with_columns(model=pl.lit(str(runs / "models/harmonious-seed1"))), after)
    known = compare_logs([before], [after])
    assert (known["threshold"], known["threshold_known"]) == (0.7, True)
    assert known["by_belief"]["unsure"]["n"] > report["by_belief"]["unsure"]["n"]
    assert "confidence of 0.7 (as --after was trained by)" in write_comparison(known)
    spoil_manifest(runs, "harmonious-seed1", threshold="half")
    run = read_manifest_of(runs, "harmonious-seed1")["run"]
    edit(after, run=pl.lit(run))
    with pytest.raises(UserError, match='threshold is "half", which is no number'):
        compare_logs([before], [after])
