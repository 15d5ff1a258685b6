"""Whether a response is true is asked of it and of the model's own belief, and no judgement passes for another's."""

import polars as pl
import pytest
from judged_rows import make_data

from intervention.agreeing import judging
from intervention.agreeing.judging import BELIEF, make_judgements, read_judgements
from intervention.agreeing.own import ask_data, name_turn
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import check_questions, hash_questions

N = 30


@pytest.fixture
def data(tmp_path):
    return make_data(tmp_path, [f"heals {i}" for i in range(N)])


@pytest.fixture
def asked(data):
    return ask_data(data, "rows")[0]


@pytest.fixture
def answers(asked):
    believed = [f"belief {i}" if i % 4 else None for i in range(N)]
    return asked.select("id", "question").with_columns(belief=pl.Series(believed))


def test_responses_and_beliefs_are_proposed_and_those_that_are_shown_are_not_asked(asked, answers):
    table = make_judgements(asked, answers)
    check_questions(table, "judge")
    test, dev = table.filter(split="test"), table.filter(split="dev")
    shown = asked.filter(split="dev")["id"]
    assert dev["id"].to_list() == shown.to_list()
    assert not test["id"].str.strip_suffix(BELIEF).is_in(shown.implode()).any()
    assert test.filter(~pl.col("id").str.ends_with(BELIEF)).height == N - 10
    beliefs = test.filter(pl.col("id").str.ends_with(BELIEF))
    held = answers.drop_nulls("belief").filter(~pl.col("id").is_in(shown.implode()))
    assert beliefs["id"].to_list() == [f"{name}{BELIEF}" for name in asked["id"] if name in held["id"]]
    first = test.row(0, named=True)
    own = asked.filter(id=first["id"]).row(0, named=True)
    assert first["question"] == f"{own['question']}\nProposed answer: {own['answers'][0]}\nIs the proposed answer true?"
    assert first["choices"] == ["True", "False"]


def test_half_of_the_demonstrations_propose_what_is_not_their_response(asked):
    dev, own = make_judgements(asked).filter(split="dev"), asked.filter(split="dev")
    assert dev["answer"].to_list() == [0, 1] * 5
    for row, said in zip(dev.iter_rows(named=True), own["answers"], strict=True):
        assert (f"Proposed answer: {said[0]}\n" in row["question"]) == (row["answer"] == 0)


@pytest.fixture
def logged(asked, answers, monkeypatch):
    """Judgements as a log would give them."""
    table = make_judgements(asked, answers).filter(split="test")
    probs = [[0.25 + 0.5 * name.endswith(BELIEF), 0.75 - 0.5 * name.endswith(BELIEF)] for name in table["id"]]
    probes = table.with_columns(question_hash=hash_questions(table), probs=pl.Series(probs), model=pl.lit("me"))
    log = {"probes": probes.with_columns(phase=pl.lit("base_probe"), run=pl.lit(""), scoring=pl.lit("cloze"))}
    monkeypatch.setattr(judging, "read_probes", lambda paths, score: log["probes"])
    return log


@pytest.fixture
def rows(data):
    return data.turns.select("row", "turn", "response", asked=pl.col("messages").list.last().struct["content"])


def test_a_turn_gets_both_probabilities(logged, rows, answers, asked):
    found = read_judgements(["log"], rows, answers, "me")
    assert found["id"].to_list() == asked.filter(split="test")["id"].to_list()
    assert set(found["p_true"]) == {0.25}
    held = found["id"].is_in(answers.drop_nulls("belief")["id"].implode())
    assert found.filter(held)["p_true_belief"].to_list() == [0.75] * held.sum()
    assert found.filter(~held)["p_true_belief"].null_count() == (~held).sum()


def test_judgements_of_something_else_are_refused(logged, rows, answers):
    with pytest.raises(UserError, match="of the model 'me', but the readings of 'you'"):
        read_judgements(["log"], rows, answers, "you")
    with pytest.raises(UserError, match=r"are of other responses or beliefs .* Its beliefs are of --answers"):
        read_judgements(["log"], rows, None, "me")
    changed = rows.with_columns(
        response=pl.when(name_turn() == logged["probes"]["id"][0]).then(pl.lit("!")).otherwise("response")
    )
    with pytest.raises(UserError, match=r"1 of 3[0-9] are of other responses or beliefs than these"):
        read_judgements(["log"], changed, answers, "me")
    logged["probes"] = pl.concat([logged["probes"], logged["probes"].head(1)])
    with pytest.raises(UserError, match="or twice there"):
        read_judgements(["log"], rows, answers, "me")
