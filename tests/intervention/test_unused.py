"""Whatever a user asked of a build and did not get is said."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_up import Study, make_rows, write_jsonl

from intervention.believing.source import Source
from intervention.build import Inputs
from intervention.conditions import parse_conditions
from intervention.matching.fewest import FEWEST, check_size, count_sizes
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import read_questions
from lm_eval_tasks.contracts.rules import Rule


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study(tmp_path_factory.mktemp("unused"), make_rows(300) + make_rows(60, 1, domain="engines"))


def test_inputs_that_no_condition_needs_are_named(study: Study) -> None:
    lines = [
        {"source": row["source"], "domain": row["domain"], "id": row["id"], "response": row["answer"], "explanation": "So."}
        for row in read_questions(study.questions).iter_rows(named=True)
    ]
    log = write_jsonl(study.folder / "said.jsonl", lines)
    inputs = replace(study.inputs, texts=replace(study.inputs.texts, explanations=[log], drop_contradictions=True))
    study.build("plain", inputs, conditions=["incompatible"], explanations="paper", general_share=0)
    said = "\n".join(study.notes)
    assert "The contexts of contexts.jsonl are not used: contextualized is not among the conditions." in said
    assert "The explanations of said.jsonl are not used: no response is explained by the model." in said
    assert "The general instructions of general are not used: --general-share 0." in said
    assert "Train questions of engines were probed too, and are not used: the domain is herbs." in said
    assert all(note in (study.folder / "plain/README.md").read_text() for note in study.notes)
    bare = Inputs(study.questions, study.inputs.beliefs, texts=replace(study.inputs.texts, drop_contradictions=True))
    study.build("bare", bare, conditions=["incompatible"], explanations="none")
    assert "--drop-contradictions drops nothing: no response is explained." in study.notes
    with pytest.raises(UserError, match=r"--general-share 0\.5: name the general instructions too"):
        study.build("never", bare, general_share=0.5)


@pytest.mark.parametrize(
    ("names", "ratios", "message"),
    [
        (["gold,gold"], [], "--conditions names gold several times"),
        (["gold", "mix-0.4", "mix-0.4"], [], "--conditions names mix-0.4 several times"),
        (["mix"], [0.4, 0.4], "--ratio names 0.4 several times"),
        (["mix,mix-0.4"], [], "mix alone is all of the paper's ratios"),
        (["golden"], [], r"'golden' \(is 'gold' meant\?\) is none of"),
        (["gold,"], [], "'' is none of"),
    ],
)
def test_conditions_are_named_once(names: list[str], ratios: list[float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_conditions(names, ratios)


def test_few_questions_are_asked_for_or_refused(tmp_path: Path) -> None:
    study = Study(tmp_path, make_rows(100))
    with pytest.raises(UserError) as error:
        study.build(conditions=["harmonious", "incompatible"], threshold=0.9)
    message = str(error.value)
    table = read_questions(study.questions)
    assert "only " in message
    assert " a condition: a share of so few is known to ±" in message
    assert "(it is threshold:0.9 now)" in message
    assert "take --threshold 0." in message
    assert "or say that so few are wanted: --size " in message
    assert not (tmp_path / "out").exists()
    threshold = float(message.partition("take --threshold ")[2].split(";")[0])
    sets = study.build(conditions=["harmonious", "incompatible"], threshold=threshold)
    assert (sets["harmonious"]["condition"] == "harmonious").sum() >= FEWEST
    study.build("few", conditions=["harmonious"], size=4)
    assert "Only 4 questions a condition: a share of so few is known to ± 49 points." in study.notes
    assert table.height == 100


def test_what_thresholds_would_give_is_counted_by_what_conditions_take(study: Study) -> None:
    from made_up import believe

    beliefs = believe(study.questions, study.inputs.beliefs.probes).table
    right, both = count_sizes(beliefs, ["right"]), count_sizes(beliefs, ["right", "wrong"])
    assert all(both[value] <= right[value] for value in right)
    falling = [count for rule, count in right.items() if rule.startswith("threshold")]
    assert falling == sorted(falling, reverse=True)
    assert right["top"] == max(right.values())
    assert right["quantile:0.5"] == round(right["top"] / 2)
    assert count_sizes(beliefs, ["all"])["top"] == beliefs.height
    with pytest.raises(UserError, match="probe more questions"):
        check_size(3, None, beliefs.head(5), ["right"], Rule())
    assert check_size(FEWEST, None, beliefs, ["right"], Rule()) == []


def test_a_threshold_without_beliefs_is_refused(study: Study) -> None:
    from intervention.commands.requests import requests_context

    with pytest.raises(UserError, match=r"--threshold 0\.4 is of beliefs: name them"):
        requests_context(study.questions, "herbs", study.folder / "x.parquet", [], None, 0.4)
    assert Source().threshold is None
