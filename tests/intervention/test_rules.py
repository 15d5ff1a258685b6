"""Belief rules: which predictions count, by which rule a set is built, and how many questions each rule would give."""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from conftest import run_command
from made_up import Study, make_probes, make_rows, own, write_table

from intervention.believing.source import Source, read_beliefs, write_beliefs
from intervention.believing.thresholds import count_conditions
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import read_questions
from lm_eval_tasks.contracts.rules import Rule, apply_rule, read_rule


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path, make_rows(300))


def make_draws(study: Study) -> list[Path]:
    """The same questions asked with four draws of demonstrations, whose answers often differ."""
    tables = [make_probes(study.questions, draw=draw, seed=draw) for draw in range(4)]
    return [write_table(study.folder, pl.concat(tables), "draws")]


def test_each_rule_counts_what_it_says() -> None:
    asked = pl.DataFrame(
        {
            "prediction": [0, 0, 0, 1, 1, 1],
            "answer": [0, 0, 0, 0, 0, 0],
            "confidence": [0.9, 0.6, 0.4, 0.8, 0.45, 0.3],
            "agreement": [1.0, 0.75, 0.5, 1.0, 0.5, 0.75],
            "asked": [4] * 6,
            "domain": ["herbs"] * 6,
            "split": ["train"] * 6,
        }
    )
    held = {
        "threshold:0.5": [0, 1, 3],
        "top": [0, 1, 2, 3, 4, 5],
        "agreement:0.75": [0, 1, 3, 5],
        "agreement:1": [0, 3],
        "quantile:0.34": [0, 3],
        "quantile:0.67": [0, 1, 3, 4],
    }
    for text, rows in held.items():
        found = apply_rule(asked, read_rule(text))
        assert found["belief"].is_not_null().arg_true().to_list() == rows, text
        assert set(found["belief_rule"]) == {text}
        assert found["class"].to_list() == ["unsure" if i not in rows else "right" if i < 3 else "wrong" for i in range(6)]
    assert set(apply_rule(asked, read_rule("top"))["threshold"]) == {0.0}
    with pytest.raises(UserError, match="asked once, so that nothing can agree"):
        apply_rule(asked.with_columns(asked=1), read_rule("agreement"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("topp", "is none of threshold, top"),
        ("agreement:x", "not a number"),
        ("top:0.5", "has no level"),
        ("quantile:2", "0 and 1"),
    ],
)
def test_what_is_no_rule_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_rule(text)


def test_a_set_is_built_by_a_rule_and_says_so_in_every_row(study: Study) -> None:
    table = read_beliefs(read_questions(study.questions), study.questions, Source(make_draws(study))).table
    for rule in (Rule("top", None), Rule("agreement", 0.5), Rule("quantile", 0.5)):
        inputs = replace(study.inputs, beliefs=Source(make_draws(study), rule=rule))
        sets = study.build(f"by-{rule.name}", inputs, conditions=["harmonious", "incompatible", "self_aligning"])
        counted = apply_rule(table.drop("belief", "class"), rule)
        classes = Counter(counted["class"])
        assert own(sets["harmonious"]).height == min(classes["right"], classes["wrong"])
        believed = dict(counted.filter(pl.col("belief").is_not_null()).select("id", "belief").iter_rows())
        assert set(own(sets["self_aligning"])["id"]) <= set(believed)
        for rows in sets.values():
            assert set(rows["belief_rule"]) == {str(rule)}
            assert set(rows["threshold"]) == {0.0}
        assert rule.sentence in (study.folder / f"by-{rule.name}/README.md").read_text()


def test_a_table_of_beliefs_keeps_its_rule(study: Study, tmp_path: Path) -> None:
    source = Source(make_draws(study), rule=read_rule("quantile:0.5"))
    found = read_beliefs(read_questions(study.questions), study.questions, source)
    # A part of the table: the most confident of what is left are others, and the beliefs stay.
    write_beliefs(found.table.head(200), tmp_path / "beliefs.parquet")
    again = read_beliefs(read_questions(study.questions), study.questions, Source(table=tmp_path / "beliefs.parquet"))
    assert again.table.equals(found.table.head(200))
    assert again.rule == read_rule("quantile:0.5")
    other = found.table.with_columns(belief=pl.col("belief") * 0 + (pl.col("prediction") + 1) % 2)
    write_beliefs(other, tmp_path / "other.parquet")
    with pytest.raises(UserError, match="does not fit prediction, confidence and rule"):
        read_beliefs(read_questions(study.questions), study.questions, Source(table=tmp_path / "other.parquet"))
    with pytest.raises(UserError, match=r"--belief-rule top: the beliefs of .* are of quantile 0.5\. Leave out --belief-rule"):
        read_beliefs(
            read_questions(study.questions), study.questions, Source(table=tmp_path / "beliefs.parquet", rule=read_rule("top"))
        )
    with pytest.raises(UserError, match=r"--threshold 0.4 is no level of --belief-rule top"):
        read_beliefs(
            read_questions(study.questions), study.questions, Source(make_draws(study), threshold=0.4, rule=read_rule("top"))
        )


def test_questions_a_condition_are_counted_by_rule(study: Study) -> None:
    table = read_beliefs(read_questions(study.questions), study.questions, Source(make_draws(study))).table
    counts = {row["rule"]: row for row in count_conditions(table).iter_rows(named=True)}
    for rule, row in counts.items():
        classes = Counter(apply_rule(table, read_rule(rule))["class"])
        assert (row["right"], row["wrong"], row["unsure"]) == (classes["right"], classes["wrong"], classes["unsure"])
        assert row["a condition"] == min(classes["right"], classes["wrong"])
    assert counts["top"]["unsure"] == 0
    assert {"agreement:0.5", "agreement:1"} <= set(counts)
    once = read_beliefs(read_questions(study.questions), study.questions, study.inputs.beliefs).table
    assert not [rule for rule in count_conditions(once)["rule"] if rule.startswith("agreement")]


def test_the_commands_take_a_rule(study: Study) -> None:
    (probes,) = make_draws(study)
    inputs = ("--questions", study.questions, "--probes", probes, "--belief-rule", "agreement:0.5")
    done = run_command(sys.executable, "-m", "intervention", "beliefs", *inputs, "--output", study.folder / "b.parquet")
    assert done.returncode == 0, done.stderr
    assert "Train questions a condition, by belief rule" in done.stdout
    build = (sys.executable, "-m", "intervention", "build", *inputs, "--domain", "herbs", "--output", study.folder / "sets")
    done = run_command(*build, "--conditions", "harmonious,incompatible")
    assert done.returncode == 0, done.stderr
    assert set(pl.read_parquet(study.folder / "sets/herbs_harmonious/train.parquet")["belief_rule"]) == {"agreement:0.5"}
    done = run_command(*build, "--belief-rule", "agreement:1", "--threshold", "0.9")
    assert done.returncode == 2
    assert "--threshold 0.9 is no level of --belief-rule agreement:1" in done.stderr
