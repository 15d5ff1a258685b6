"""Sampled answers that say the same are one group, and what follows from the groups is what plain counting gives."""

import math
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from asked_freely import answer_at_random, write_all, write_answers, write_free_set
from statsmodels.stats.proportion import proportion_confint

from intervention.believing.answers import GROUP_SCHEMA, count_strangers, group_answers
from intervention.believing.reliability import describe_answers, describe_left_out, describe_reliability, measure_reliability
from lm_eval_tasks.contracts.answers import is_accepted, normalise_answer
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.free_form import read_free_form
from lm_eval_tasks.contracts.logs.answers import read_answers


def group(questions: Path, *logs: Path) -> pl.DataFrame:
    return group_answers(read_answers(list(logs)), read_free_form(questions), questions, logs)


def test_groups_are_what_plain_counting_gives(tmp_path: Path) -> None:
    questions, logs = write_free_set(tmp_path / "set"), tmp_path / "logs"
    write_all(logs, questions, draws=3)
    table = group(questions, logs)
    assert table.schema == GROUP_SCHEMA
    asked = read_free_form(questions, splits=("train", "test"))
    assert table.select("id", "question_hash").equals(asked.select("id", "question_hash"))
    for row, question in zip(table.iter_rows(named=True), asked.to_dicts(), strict=True):
        draws = [answer_at_random(question, 8, draw) for draw in range(3)]

        def name(text: str, question: dict = question) -> str:
            return "GOLD" if is_accepted(text, question["answers"]) else normalise_answer(text)

        counts = Counter(map(name, chain(*draws)))
        assert {name(group["text"]): group["count"] for group in row["groups"]} == counts
        assert [group["count"] for group in row["groups"]] == sorted(counts.values(), reverse=True)
        for group_ in row["groups"]:
            wordings = Counter(text for text in chain(*draws) if name(text) == name(group_["text"]))
            assert wordings[group_["text"]] == max(wordings.values())
            assert group_["gold"] == (name(group_["text"]) == "GOLD")
            assert group_["share"] == pytest.approx(group_["count"] / 24)
        (first, most), *rest = counts.most_common()
        tied = bool(rest) and rest[0][1] == most
        belief = None if tied or not first else first
        assert row["belief"] == (None if belief is None else row["groups"][0]["text"])
        assert row["class"] == ("unsure" if belief is None else "right" if belief == "GOLD" else "wrong")
        assert (row["samples"], row["draws"], row["temperature"], row["model"]) == (24, 3, 0.7, "base")
        assert row["entropy_nats"] == pytest.approx(-sum(c / 24 * math.log(c / 24) for c in counts.values()))
        for start, count in (("", most), ("gold_", counts["GOLD"])):
            low, high = proportion_confint(count, 24, method="wilson")
            assert row[f"{start}share"] == pytest.approx(count / 24)
            assert (row[f"{start}low"], row[f"{start}high"]) == pytest.approx((low, high))
        every = list(map(name, chain(*draws)))
        assert row["gold_halves"] == pytest.approx([every[i::2].count("GOLD") / 12 for i in (0, 1)])
        largest = []
        for texts in draws:
            of_draw = Counter(map(name, texts)).most_common()
            largest.append(of_draw[0][0] if len(of_draw) == 1 or of_draw[0][1] > of_draw[1][1] else None)
        assert row["agreement"] == (None if tied else pytest.approx(largest.count(first) / 3))
        right = {normalise_answer(text) for text in chain(*draws) if name(text) == "GOLD"}
        assert row["several_right"] == (len(right) > 1)
        greedy = [answer_at_random(question, 1, 10 + draw)[0] for draw in range(3)]
        judged = [name(text) == "GOLD" for text in greedy]
        assert (row["greedy"], row["greedy_right"]) == (greedy, judged)
        degree = "HighlyKnown" if all(judged) else "MaybeKnown" if any(judged) else None
        assert row["knowledge"] == (degree or ("WeaklyKnown" if counts["GOLD"] else "Unknown"))
    for name_ in ("class", "knowledge"):
        assert table[name_].n_unique() >= 3  # the made-up answers are of all kinds


def test_no_answer_and_a_tie_are_no_beliefs(tmp_path: Path) -> None:
    questions = write_free_set(tmp_path / "set", train=3)
    said = {"train-0": ["", " ", "Oslo"], "train-1": ["Oslo", "the Oslo", "Rome 1"], "train-2": ["Oslo", "Rome", ""]}
    table = group(questions, write_answers(tmp_path / "samples.jsonl", questions, lambda row: said[row["id"]]))
    assert table["belief"].to_list() == [None, "Oslo", None]
    assert table["class"].to_list() == ["unsure", "wrong", "unsure"]
    assert [groups[0]["text"] for groups in table["groups"].to_list()] == ["", "Oslo", ""]
    assert table["agreement"].null_count() == 3  # one draw cannot agree with others
    assert table["knowledge"].null_count() == 3  # nobody asked for greedy answers
    counted = describe_answers(table).row(0, named=True)
    assert (counted["right"], counted["wrong"], counted["no belief"], counted["accuracy"]) == (0, 1, 2, 0.0)
    assert counted["samples"] == 9


def test_what_cannot_be_grouped_is_refused(tmp_path: Path) -> None:
    questions, other = write_free_set(tmp_path / "set", 9), write_free_set(tmp_path / "other", 12)
    log = write_answers(tmp_path / "samples.jsonl", questions, lambda row: ["Oslo", "Rome"])
    greedy = write_answers(tmp_path / "greedy.jsonl", other, lambda row: ["Oslo"], greedy=True)
    tuned = write_answers(tmp_path / "tuned.jsonl", questions, lambda row: ["Oslo", "Rome"], phase="tuned_probe", run="1")
    second = write_answers(tmp_path / "second.jsonl", questions, lambda row: ["Oslo", "Rome"], model="other")
    for logs, message in (
        ((greedy,), r"greedy\.jsonl: these answers are the likeliest words alone\. Ask selfalign_answer too"),
        ((tuned,), "these are answers of phase 'tuned_probe', but a belief comes from phase 'base_probe'"),
        ((log, second), "answers of 2 models: 'base' and 'other'. Name the logs of one"),
        ((log, greedy), r"3 of 21 answers are of questions that .*set does not have; the first is made_up/herbs id 'train-9'"),
    ):
        with pytest.raises(UserError, match=message):
            group(questions, *logs)
    both = read_answers([log, greedy])
    assert count_strangers(both) == 3


def test_reliability_is_the_corrected_correlation_of_halves() -> None:
    rng = np.random.default_rng(0)
    known = rng.beta(0.5, 0.5, 400)
    halves = rng.binomial(8, known[:, None], (400, 2)) / 8
    r = np.corrcoef(halves.T)[0, 1]
    value, low, high = measure_reliability(halves)
    assert value == pytest.approx(2 * r / (1 + r))
    assert low < value < high < 1
    assert high - low < 0.05
    noise = measure_reliability(rng.binomial(8, 0.5, (400, 2)) / 8)
    assert noise[1] < 0 < noise[2]
    assert np.isnan(measure_reliability(np.full((20, 2), 0.5))).all()
    assert np.isnan(measure_reliability(np.zeros((0, 2)))).all()
    # The interval holds the value of a much larger set in about 95 of 100 sets.
    large = rng.binomial(8, rng.beta(0.5, 0.5, 200_000)[:, None], (200_000, 2)) / 8
    truth = 2 / (1 + 1 / np.corrcoef(large.T)[0, 1])
    held = [low <= truth <= high for _, low, high in (measure_reliability(part) for part in np.split(large[:10_000], 100))]
    assert 0.86 < np.mean(held) <= 1


def test_domains_are_described_with_their_numbers(tmp_path: Path) -> None:
    questions, logs = write_free_set(tmp_path / "set", 30), tmp_path / "logs"
    write_all(logs, questions, splits=("train",))
    table = group(questions, logs)
    counted = describe_answers(table).row(0, named=True)
    classes = Counter(table["class"])
    assert (counted["right"], counted["wrong"], counted["no belief"]) == tuple(classes[c] for c in ("right", "wrong", "unsure"))
    n = counted["right"] + counted["wrong"]
    assert (counted["low"], counted["high"]) == pytest.approx(proportion_confint(counted["right"], n, method="wilson"))
    reliable = describe_reliability(table).row(0, named=True)
    halves = np.array(table["gold_halves"].to_list())
    assert (reliable["questions"], reliable["samples each"]) == (30, 16)
    assert reliable["reliability"] == pytest.approx(measure_reliability(halves)[0])
    left = describe_left_out(table.with_columns(left_out=pl.lit(2), left_out_share=pl.lit(0.25))).row(0, named=True)
    assert (left["groups left out"], left["of all samples"], left["with more than 9 groups"]) == (60, 0.25, 30)
