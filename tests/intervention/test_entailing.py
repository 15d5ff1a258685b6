"""Answers that entail each other are one group, as the published algorithm in plain Python joins them; no sample is lost."""

import math
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from asked_freely import TOWNS, write_all, write_answers, write_free_set

from intervention.agreeing.evidence import find_agreeing
from intervention.believing import entailing
from intervention.believing.answers import GROUP_SCHEMA, group_answers
from intervention.believing.choices import make_choices
from intervention.believing.entailing import COMPARED, join_entailed, make_entailments, pair_groups, read_entailments
from lm_eval_tasks.contracts.answers import is_accepted, normalise_answer
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.free_form import read_free_form
from lm_eval_tasks.contracts.logs.answers import read_answers
from lm_eval_tasks.contracts.questions import check_questions, hash_questions


class Asked:
    """A question set, logs of what a model answered, and the pairs of its answers."""

    def __init__(self, folder: Path, log: Path, questions: Path) -> None:
        self.questions, self.log, self.folder = read_free_form(questions), log, questions
        self.answers = read_answers([log])
        self.pairs = pair_groups(self.answers, self.questions, questions, [log])

    def group(self, entails: list[float | None]) -> pl.DataFrame:
        same = join_entailed(self.pairs.with_columns(entails=pl.Series(entails, dtype=pl.Float64)))
        return group_answers(self.answers, self.questions, self.folder, [self.log], same)


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    questions = write_free_set(tmp_path / "set")
    return Asked(tmp_path, write_all(tmp_path / "logs", questions), questions)


def find_town(text: str) -> str:
    return next((town for town in TOWNS if town.lower() in text.lower()), text)


def test_groups_are_those_of_the_published_algorithm(asked: Asked) -> None:
    texts = [question.split("\n")[1:3] for question in asked.pairs["question"]]
    towns = [[find_town(line) for line in lines] for lines in texts]
    table = asked.group([float(one == other) for one, other in towns])
    plain = group_answers(asked.answers, asked.questions, asked.folder, [asked.log])
    assert table.schema == GROUP_SCHEMA
    joined = 0
    for row, before in zip(table.iter_rows(named=True), plain.iter_rows(named=True), strict=True):
        gold, accepted = [], before["answers"]
        first = [group for group in before["groups"] if group["text"]][:COMPARED]
        heads = {find_town(accepted[0])}  # gold's
        counts: Counter[str] = Counter()
        for group in before["groups"]:
            town, compared = find_town(group["text"]), group in first
            name = town if compared and group["text"] else group["text"]
            heads |= {name}
            counts[name] += group["count"]
            gold += [name] * (group["gold"] or (compared and town == find_town(accepted[0])))
        assert sorted(counts.values(), reverse=True) == [group["count"] for group in row["groups"]]
        assert sum(group["count"] for group in row["groups"]) == row["samples"] == before["samples"]
        assert row["gold_share"] * row["samples"] == pytest.approx(sum(counts[name] for name in set(gold)))
        assert row["entropy_nats"] == pytest.approx(-sum(n / 16 * math.log(n / 16) for n in counts.values()))
        for group in row["groups"]:
            assert not group["gold"] or is_accepted(group["text"], accepted)
            assert len({normalise_answer(text) for text in group["wordings"]}) == len(group["wordings"])
        joined += len(before["groups"]) - len(row["groups"])
        assert row["several_right"] == before["several_right"]
    assert joined > 10
    made = make_choices(table.with_columns(choices_hash=pl.lit("")), asked.questions)
    check_questions(made.filter(pl.col("split") != "dev"), "choices")


def test_one_direction_or_no_answer_joins_nothing(asked: Asked) -> None:
    plain = group_answers(asked.answers, asked.questions, asked.folder, [asked.log])
    one_way = [float(one < other) for one, other in asked.pairs.select("group", "group_right").iter_rows()]
    assert asked.group(one_way).equals(plain)
    assert asked.group([None] * len(one_way)).equals(plain)
    assert asked.group([0.5] * len(one_way)).equals(plain)


def test_answers_that_mean_gold_count_as_gold_though_gold_was_never_sampled(tmp_path: Path) -> None:
    questions = write_free_set(tmp_path / "set", train=3)
    said = ["It must be there"] * 5 + ["over there"] * 3
    asked = Asked(tmp_path, write_answers(tmp_path / "samples.jsonl", questions, lambda row: said), questions)
    assert asked.pairs.height == 3 * 6  # two groups and gold, in both directions
    table = asked.group([1.0] * 18)
    for row in table.iter_rows(named=True):
        assert row["groups"] == [
            {"text": row["answers"][0], "wordings": ["It must be there", "over there"], "count": 8, "share": 1.0, "gold": True}
        ]
        assert (row["class"], row["gold_share"], row["entropy_nats"], row["several_right"]) == ("right", 1.0, 0.0, False)


def test_a_group_that_resembles_two_joins_the_larger(tmp_path: Path) -> None:
    questions = write_free_set(tmp_path / "set", train=1)
    said = ["red"] * 4 + ["blue"] * 3 + ["purple"] * 2
    asked = Asked(tmp_path, write_answers(tmp_path / "samples.jsonl", questions, lambda row: said), questions)
    entails = [float("purple" in pair and True not in kinds) for *pair, kinds in asked.pairs.select(
        "group", "group_right", pl.concat_list("gold", "gold_right")).iter_rows()]  # fmt: skip
    groups = asked.group(entails)["groups"][0]
    assert [(group["text"], group["count"]) for group in groups] == [("red", 6), ("blue", 3)]


def test_the_questions_show_both_answers_and_ask_nothing_that_is_shown(asked: Asked) -> None:
    table = make_entailments(asked.pairs, read_free_form(asked.folder, splits=["dev"]))
    check_questions(table, "entail")
    test, dev = table.filter(split="test"), table.filter(split="dev")
    assert (test.height, dev["answer"].to_list()) == (asked.pairs.height, [0, 1, 0, 1, 0])
    one, other = test["question"][0].split("\n")[1:3]
    back = test.filter(id=test["id"][0].rsplit("/", 2)[0] + "/1/0")["question"][0].split("\n")[1:3]
    assert back == [f"One answer: {other.partition(': ')[2]}", f"Another answer: {one.partition(': ')[2]}"]
    for row in dev.iter_rows(named=True):
        first, second = (line.partition(": ")[2] for line in row["question"].split("\n")[1:3])
        assert (find_town(first) == find_town(second)) == (row["answer"] == 0)


def test_what_cannot_be_asked_or_is_of_other_answers_is_refused(asked: Asked, tmp_path: Path, monkeypatch) -> None:
    dev = read_free_form(asked.folder, splits=["dev"])
    with pytest.raises(UserError, match="nothing to ask"):
        make_entailments(asked.pairs.head(0), dev)
    alike = dev.with_columns(answers=pl.lit(["Rome"]))
    with pytest.raises(UserError, match="The dev questions of herbs have one answer, 'Rome'"):
        make_entailments(asked.pairs, alike)
    logged = asked.pairs.with_columns(
        question_hash=hash_questions(asked.pairs), probs=pl.lit([0.9, 0.1]), model=pl.lit("judge"), run=pl.lit(""),
        split=pl.lit("test"), scoring=pl.lit("cloze"),
    )  # fmt: skip
    log = {"probes": logged.head(5)}
    monkeypatch.setattr(entailing, "read_probes", lambda paths, score: log["probes"])
    found, judge = read_entailments([Path("log")], asked.pairs)
    assert (found["entails"].drop_nulls().to_list(), judge) == ([0.9] * 5, "judge")
    log["probes"] = pl.concat([logged.head(5), logged.head(1)])
    with pytest.raises(UserError, match=r"2 of 6 are of other answers than these, or twice there"):
        read_entailments([Path("log")], asked.pairs)
    log["probes"] = logged.with_columns(question_hash=pl.lit("0"))
    with pytest.raises(UserError, match="Ask these answers"):
        read_entailments([Path("log")], asked.pairs)
    log["probes"] = logged.with_columns(model=pl.Series(["a"] + ["b"] * (logged.height - 1)))
    with pytest.raises(UserError, match="2 models"):
        read_entailments([Path("log")], asked.pairs)


def test_a_response_agrees_with_any_wording_of_a_group() -> None:
    groups = [
        {"text": "red", "wordings": ["red", "crimson"], "share": 0.75},
        {"text": "blue", "wordings": ["blue"], "share": 0.25},
    ]
    assert find_agreeing("The bloom is crimson.", groups) == (0.75, 0.25)
