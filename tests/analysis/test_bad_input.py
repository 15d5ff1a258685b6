"""What is wrong with a study is refused in one line that names it, or named as a gap; no number is made of it.

Wrong runs, gaps of a study and one seed: test_studies.py too; of single logs: lm_eval_tasks/test_samples.py.
"""

import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from spoiling import cut, edit, edit_manifest, make_log, rephrase, spoil_manifest
from studies import KEPT, write_study

from analysis.measures.metrics import CONSISTENCY, METRICS
from analysis.reading.study import read_study, summarise_results
from analysis.reporting import report
from analysis.reporting.consistency import compare_logs
from analysis.reporting.report import write_report
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import MANIFEST

CHAT = "tuned_chat/harmonious-seed1/probe.parquet"
PROBE = "tuned_probe/harmonious-seed1/probe.parquet"
BASE = "probe/base/probe.parquet"
MODEL = "models/harmonious-seed1"
OTHER = pl.when(pl.col("id") == "test-3").then(pl.lit("What else?")).otherwise("question")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "runs"
    write_study(folder, n=10, conditions=[KEPT[0], KEPT[-1]])
    return folder


@pytest.fixture
def runs(whole: Path, tmp_path: Path) -> Path:
    """A copy of the study that a test may spoil."""
    return shutil.copytree(whole, tmp_path / "runs")


def refuse(runs: Path) -> str:
    """What is said of a study that cannot be reported."""
    with pytest.raises(UserError) as told:
        read_study(runs)
    message = str(told.value)
    assert "\n" not in message
    return message.replace(f"{runs}/", "")


def test_logs_of_another_question_set_name_the_first_question(runs: Path):
    rephrase(runs / CHAT, OTHER)
    assert re.fullmatch(
        r"miniworld_exam/herbs id 'test-3' .*\(question_hash [0-9a-f]{16} and [0-9a-f]{16}\)\. Ask .* same question set\.",
        refuse(runs),
    )
    with pytest.raises(UserError, match="id 'test-3' is not the same question before and after"):
        compare_logs([runs / BASE], [runs / CHAT])


def test_questions_that_the_base_was_not_asked_must_be_the_same_too(runs: Path):
    for phase in ("probe", "chat"):
        edit(runs / phase / "base/probe.parquet", pl.col("id") != "test-3")
    rephrase(runs / CHAT, OTHER)
    assert "miniworld_exam/herbs id 'test-3'" in refuse(runs)


def test_a_log_that_is_there_twice_names_both_files(runs: Path):
    shutil.copytree(runs / "tuned_chat/harmonious-seed1", runs / "tuned_chat/again")
    message = refuse(runs)
    assert message.startswith(f"tuned_chat/again/probe.parquet and {CHAT}: models/harmonious-seed1 was asked")
    assert "more than once (draw 0, order 0). Name one log, or remove the older one." in message


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet"])
def test_a_log_that_is_cut_names_the_file(runs: Path, kind: str):
    log = runs / CHAT if kind == "parquet" else make_log(runs / CHAT, packed=kind.endswith("gz"))
    whole = log.read_bytes()
    cut(log, 0.6)
    told = {"jsonl": r", line \d+ is not a whole line of JSON \(the file ends in the middle of it\)\."}
    told |= {"jsonl.gz": r" is cut or damaged \(.*\)\. Ask again", "parquet": r" is not a parquet file that can be read"}
    assert re.match(re.escape(f"tuned_chat/harmonious-seed1/{log.name}") + told[kind], refuse(runs))
    log.write_bytes(whole)
    assert read_study(runs).gaps == []


def test_a_log_cut_between_two_lines_names_the_run_that_lacks_questions(runs: Path):
    log = make_log(runs / CHAT)
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-4]))
    told = "4 of the 15 questions that another model was asked were not asked of harmonious, seed 1 (herbs, base)"
    assert f"{told} (tuned_chat, ood)." in read_study(runs).gaps


def test_probabilities_that_do_not_sum_to_1_name_file_and_question(runs: Path):
    more = pl.col("probs").list.eval(pl.element() * 1.2)
    edit(runs / CHAT, probs=pl.when(pl.col("id") == "test-3").then(more).otherwise("probs"))
    message = refuse(runs)
    assert re.match(rf"{CHAT}, row \d+ \(id 'test-3'\): probs .* do not sum to 1; ask this question again", message)
    edit(runs / CHAT, probs=pl.col("probs").list.eval(pl.element() / pl.element().sum()))
    log = make_log(runs / CHAT, packed=True)
    lines = gzip.decompress(log.read_bytes()).decode().splitlines(keepends=True)
    sample = json.loads(lines[4])
    sample["doc"]["probs"][0] += 0.1
    log.write_bytes(gzip.compress("".join([*lines[:4], json.dumps(sample) + "\n", *lines[5:]]).encode()))
    assert "do not sum to 1" in refuse(runs)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda r: edit_manifest(r / MODEL, config=None), "config has no 'domain'"),
        (lambda r: edit_manifest(r / MODEL, config=["domain"]), "config has no 'domain'"),
        (lambda r: edit_manifest(r / MODEL, run=5), "run is 5"),
        (lambda r: edit_manifest(r / MODEL, run=None), "run is null"),
        (lambda r: edit_manifest(r / MODEL, inputs=None), "inputs is null"),
        (lambda r: edit_manifest(r / MODEL, versions=["polars"]), "versions is ["),
        (lambda r: spoil_manifest(r, "harmonious-seed1", ratio="half"), 'ratio is "half"'),
        (lambda r: spoil_manifest(r, "harmonious-seed1", seed=1.5), "seed is 1.5"),
        (lambda r: spoil_manifest(r, "harmonious-seed1", seed=True), "seed is true"),
        (lambda r: spoil_manifest(r, "harmonious-seed1", condition=3), "condition is 3"),
        (lambda r: (r / MODEL / MANIFEST).write_text("[]"), "is not a manifest"),
        (lambda r: (r / MODEL / MANIFEST).write_bytes(b"\xff\xfe{"), "is not a manifest"),
        (lambda r: (r / MODEL / MANIFEST).write_text('{"run": "x", "stage": "train"}'), "is not a manifest"),
    ],
)
def test_a_manifest_that_is_broken_or_lacks_a_key_is_named(runs: Path, spoil: Callable[[Path], object], told: str):
    spoil(runs)
    message = refuse(runs)
    assert message.startswith(f"{MODEL}/{MANIFEST}")
    assert told in message
    assert re.search(r"(Train it again|Train it with recipes/sft\.py|Make the run again)\.$", message)


def test_a_model_scored_in_two_ways_is_refused(runs: Path):
    letter = pl.when(pl.col("id") == "test-3").then(pl.lit("letter")).otherwise("scoring")
    edit(runs / PROBE, scoring=letter)
    message = refuse(runs)
    assert "models/harmonious-seed1 was scored by cloze and by letter in phase tuned_probe. Report one way" in message


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_computed(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(report, "compute_frames", lambda study: pytest.fail("computed"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write in .*file: .*\. Name an output that can be written\.") as told:
        write_report(whole, tmp_path / "file/report")
    assert "\n" not in str(told.value)
    with pytest.raises(UserError, match=r"runs holds files that no command of selfalign wrote"):
        write_report(whole, whole)


def test_no_question_in_both_is_refused_or_named(runs: Path):
    edit(runs / BASE, id="other " + pl.col("id"))
    with pytest.raises(
        UserError, match=r"no question is in both: --before has 40 questions, --after 32, .* same question set\.$"
    ):
        compare_logs([runs / BASE], [runs / CHAT])
    study = read_study(runs)
    told = "10 questions of harmonious, seed 1 (herbs, base) (tuned_chat, homo) were not asked"
    assert any(told in gap for gap in study.gaps)
    results = summarise_results(study.measures)
    assert set(results.filter(phase="tuned_chat")["metric"]) == {*METRICS} - {*CONSISTENCY}


def test_samples_of_a_split_that_is_not_evaluated_are_named(runs: Path):
    edit(runs / PROBE, split=pl.lit("dev"))
    edit(runs / CHAT, split=pl.when(pl.col("id") == "test-3").then(pl.lit("dev")).otherwise("split"))
    gaps = read_study(runs).gaps
    for n, phase in ((30, "tuned_probe"), (5, "tuned_chat")):
        told = f"{n} samples of harmonious, seed 1 (herbs, base) ({phase}) are of split dev and of none of the evaluation's"
        assert f"{told}; left out." in gaps


def test_two_models_that_may_be_the_base_are_both_named(runs: Path):
    edit(runs / BASE, model=pl.lit("a/base"))
    edit(runs / "chat/base/probe.parquet", model=pl.lit("b/base"))
    gaps = read_study(runs).gaps
    assert any("Base model base may be a/base or b/base" in gap for gap in gaps)


def test_one_seed_and_runs_asked_only_of_other_domains_become_a_report_that_says_so(tmp_path: Path):
    write_study(tmp_path / "runs", n=10, seeds=(1,), conditions=[KEPT[0], KEPT[-1]])
    for file in (tmp_path / "runs").glob("tuned_*/*/probe.parquet"):
        edit(file, pl.col("domain") != "herbs")
    write_report(tmp_path / "runs", tmp_path / "report")
    for name in ("report.md", "report.html"):
        text = (tmp_path / "report" / name).read_text().replace("\\", "")
        assert "Seeds were not varied (one only): all intervals are over questions" in text
        assert "All 2 runs (tuned_chat) lack the split seen, homo, id." in text
        assert "All 2 runs (tuned_probe) lack the split homo, id." in text
    summary = pl.read_parquet(tmp_path / "report/summary.parquet").filter(pl.col("condition") != "base")
    assert set(summary["split"]) == {"ood"}
    assert (summary["low"] - summary["low_questions"]).abs().max() < 1e-9
    contrasts = pl.read_parquet(tmp_path / "report/contrasts.parquet")
    assert set(contrasts["split"]) == {"ood"}
    assert not any("seeds" in method or "crossed" in method for method in [*summary["method"], *contrasts["method"]])
