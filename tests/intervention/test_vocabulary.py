"""Conditions are what their entries in the vocabulary say, those of this project and any other."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from made_up import Study, make_rows, own, says

from lm_eval_tasks.contracts import vocabulary
from lm_eval_tasks.contracts.style import COLOURS, MARKERS
from lm_eval_tasks.contracts.vocabulary import ANSWERS, CLASSES, CONDITIONS, QUESTIONS, REFERENCE, Condition


def test_every_condition_has_a_look_and_words_of_its_own() -> None:
    for value in ("colour", "marker", "sentence", "label", "config"):
        assert len({getattr(condition, value) for condition in CONDITIONS.values()}) == len(CONDITIONS)
    assert {name: condition.name for name, condition in CONDITIONS.items()} == {name: name for name in CONDITIONS}
    assert set(COLOURS) == set(MARKERS) == set(CONDITIONS)
    assert set(CLASSES) < set(QUESTIONS)
    assert {condition.answers for condition in CONDITIONS.values()} == set(ANSWERS)
    headlines = [condition for condition in CONDITIONS.values() if condition.headline is not None]
    assert all(condition.deeds and condition is not REFERENCE for condition in headlines)
    assert sorted(condition.headline for condition in headlines) == [1, 2, 3]


def test_sentences_say_what_is_asked_and_what_is_answered() -> None:
    assert CONDITIONS["self_aligning"].sentence == (
        "questions that the base model answers wrongly; the response is the model's own answer"
    )
    assert CONDITIONS["contextualized"].sentence == (
        "questions that the base model answers wrongly, with the needed knowledge in the prompt; the response is the right "
        "answer"
    )


@pytest.mark.parametrize(
    ("questions", "answers"),
    [("unsure", "gold"), ("right", "other"), ("right", "belief"), ("all", "other"), ("unsure", "other")],
)
def test_a_condition_that_was_not_there_is_built_as_its_entry_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, questions: str, answers: str
) -> None:
    new = Condition("new_one", "#123456", "p", questions, answers)
    monkeypatch.setitem(vocabulary.CONDITIONS, "new_one", new)
    study = Study(tmp_path, make_rows(300))
    sets = study.build(conditions=["incompatible", "new_one"], size=20)
    assert list(sets) == ["incompatible", "new_one"]
    probes = {row["id"]: row for row in study.table.iter_rows(named=True)}
    rows = own(sets["new_one"])
    assert rows.height == 20
    for row, said in zip(rows.iter_rows(named=True), says(rows, "completion"), strict=True):
        response = said.partition("\n\n")[0]
        probe = probes[row["id"]]
        sure = probe["confidence"] > 0.5
        kind = "unsure" if not sure else "right" if probe["correct"] else "wrong"
        assert questions in (kind, "all")
        gold, belief = probe["choices"][probe["answer"]], probe["choices"][probe["prediction"]] if sure else None
        assert {"gold": response == gold, "belief": response == belief, "other": response not in (gold, belief)}[answers]
    card = (tmp_path / "out/README.md").read_text()
    assert f"| new_one | {QUESTIONS[questions][0]} | {ANSWERS[answers][0]} |" in card


def test_a_mix_is_a_condition_with_a_ratio() -> None:
    mix = vocabulary.make_mix(0.25)
    assert (mix.config, mix.label, mix.on_curve, mix.correct) == ("mix-0.25", "mix 0.25", True, False)
    assert replace(mix, ratio=None) == CONDITIONS["mix"]


def test_beliefs_are_asked_only_where_there_are_some() -> None:
    for questions, answers in (("unsure", "belief"), ("all", "mix"), ("all", "belief")):
        with pytest.raises(ValueError, match="has no belief to answer with"):
            Condition("new_one", "#123456", "p", questions, answers)


def test_general_rows_carry_the_threshold_of_the_set(tmp_path: Path) -> None:
    sets = Study(tmp_path, make_rows(200)).build(size=10, threshold=0.4)
    for table in sets.values():
        assert table["threshold"].to_list() == [0.4] * table.height
        assert table.filter(pl.col("condition") == "general").height == 10
