"""Beliefs come from probes or from the table that was looked at: what is built on either is the same, or an error says why."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from made_up import Study, believe, fill_probes, make_rows, write_table

from intervention.believing.source import Source, read_beliefs, write_beliefs
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import read_questions


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path, make_rows(200))


def write_looked_at(study: Study, threshold: float = 0.5) -> Path:
    file = study.folder / "beliefs.parquet"
    write_beliefs(believe(study.questions, study.inputs.beliefs.probes, threshold).table, file)
    return file


def test_what_was_looked_at_is_what_is_built_on(study: Study) -> None:
    file = write_looked_at(study, 0.6)
    plain = study.build("plain", threshold=0.6)
    looked_at = study.build("looked_at", replace(study.inputs, beliefs=Source(table=file)))
    assert plain.keys() == looked_at.keys()
    assert all(plain[name].equals(looked_at[name]) for name in plain)
    assert set(plain["gold"]["threshold"]) == {0.6}
    manifests = [json.loads((study.folder / name / "manifest.json").read_text()) for name in ("plain", "looked_at")]
    assert manifests[0]["config"] == manifests[1]["config"]
    assert manifests[1]["config"]["threshold"] == 0.6
    assert set(manifests[0]["inputs"]) - set(manifests[1]["inputs"]) == {"probes"}
    assert set(manifests[1]["inputs"]) - set(manifests[0]["inputs"]) == {"beliefs"}


def test_questions_that_were_struck_out_are_not_built_on(study: Study) -> None:
    file = write_looked_at(study)
    table = pl.read_parquet(file)
    wrong = table.filter(pl.col("class") == "wrong")["id"].to_list()
    table.filter(~pl.col("id").is_in(wrong[::2])).write_parquet(file)
    built = study.build(inputs=replace(study.inputs, beliefs=Source(table=file)), conditions=["incompatible"])
    ids = set(built["incompatible"].filter(pl.col("condition") != "general")["id"])
    assert ids == set(wrong[1::2])


def test_rows_come_in_the_question_sets_order(study: Study) -> None:
    file = write_looked_at(study)
    table = pl.read_parquet(file)
    table.sample(fraction=1, shuffle=True, seed=1).write_parquet(file)
    found = read_beliefs(read_questions(study.questions), study.questions, Source(table=file))
    assert found.table.equals(table)
    assert (found.threshold, found.unasked, found.priors) == (0.5, 0, {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop("class"), "has no column 'class', so it is not a belief table of this version. Write it again with"),
        (lambda t: t.head(0), "holds no question"),
        (lambda t: pl.concat([t, t.head(1)]), "occurs more than once"),
        (lambda t: t.with_columns(question_hash=pl.lit("0")), "was asked with another text, choices or answer"),
        (lambda t: t.with_columns(id=pl.lit("x") + pl.col("id")), "beliefs are of questions that .* does not have"),
        (lambda t: t.with_columns(confidence=pl.lit("high")), "a column is not of the type that a belief table has"),
        (lambda t: t.with_columns(threshold=pl.when(pl.col("id") == "train-0").then(0.4).otherwise(0.5)), "several values of"),
        (lambda t: t.with_columns(belief=pl.lit(0)), r"row \d+ .*belief .* does not fit prediction, confidence and rule"),
    ],
)
def test_a_table_that_is_none_is_refused(study: Study, change: Callable, message: str) -> None:
    file = write_looked_at(study)
    change(pl.read_parquet(file)).write_parquet(file)
    with pytest.raises(UserError, match=message):
        study.build(inputs=replace(study.inputs, beliefs=Source(table=file)))


def test_there_is_one_source_and_one_threshold(study: Study) -> None:
    file, probes = write_looked_at(study), study.inputs.beliefs.probes
    for source, message in (
        (Source(), "name the base model's probes .* or the table that `beliefs` wrote"),
        (Source(probes, file), "name the base model's probes"),
        (Source(table=file, threshold=0.4), "--threshold 0.4: the beliefs of .* are of threshold 0.5. Leave out --threshold"),
        (Source(table=study.folder / "none.parquet"), "--beliefs .*none.parquet cannot be read"),
        (Source(probes, threshold=1.5), "--threshold 1.5 is not between 0 and 1"),
    ):
        with pytest.raises(UserError, match=message):
            study.build(inputs=replace(study.inputs, beliefs=source))
    assert study.build(inputs=replace(study.inputs, beliefs=Source(table=file, threshold=0.5)))


def test_a_belief_knows_its_threshold_and_its_models_revision(study: Study) -> None:
    table = read_questions(study.questions)
    probes = fill_probes(table, [[0.45, 0.35, 0.1, 0.1]] * table.height, [0] * table.height)
    log = write_table(study.folder, probes, "flat")
    for threshold, classes in ((0.4, {"right", "wrong"}), (0.5, {"unsure"})):
        found = believe(study.questions, [log], threshold)
        assert set(found.table["threshold"]) == {threshold}
        assert set(found.table["class"]) == classes
        assert found.table["revision"].null_count() == table.height
