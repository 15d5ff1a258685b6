"""Rows of known truth: what a model believes is told by all draws, and each kind of row says what it should."""

import random

import polars as pl
import pytest
import torch
from conftest import BASE, ROOT
from transformers import AutoModelForCausalLM

from lm_eval_tasks.contracts.answers import is_accepted
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.free_form import FREE_FORM_SCHEMA
from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE
from recipes.agreement.budget import fill_budget
from recipes.agreement.classes import count_classes, join_classes
from recipes.agreement.consequences import contrast_arms
from recipes.agreement.detection import AGAINST, MEASURES, count_verdicts, find_best, measure_calibration, measure_detection
from recipes.agreement.drift import measure_drift
from recipes.agreement.rows import KINDS, find_beliefs, make_rows
from recipes.agreement.rows import main as write_rows
from recipes.miniworld.facts import list_wordings
from recipes.miniworld.world import make_world
from recipes.training.tokens import load_tokenizer, prepare_rows
from recipes.yaml_files import read_yaml

N = 240


@pytest.fixture(scope="module")
def questions():
    rows = [
        {"id": str(i), "source": "made_up", "domain": "herbs", "subject": None, "question": f"Which is {i}?"}
        | {"answers": [f"gold{i}"], "explanation": None, "topics": []}
        for i in range(N)
    ]
    return pl.DataFrame(rows, schema=FREE_FORM_SCHEMA)


def answer(questions):
    """Greedy answers in four draws and eight samples.

    A third is known, a third believed wrongly; of a sixth no two samples are alike, and of a sixth half are.
    """
    rows = []
    for i, row in enumerate(questions.iter_rows(named=True)):
        own = {"id": row["id"], "answers": row["answers"]}
        belief = f"Gold{i}." if i % 3 == 0 else f"belief{i}"
        said = [belief] * 5 + [f"gold{i}" if i % 3 == 0 else f"other{i}"] * 3
        if i % 3 == 2:
            said = [f"guess{i} {n if i % 2 else n // 4}" for n in range(8)]
        rows += [own | {"samples": [said[0]], "greedy": True, "draw": draw} for draw in range(4)]
        rows.append(own | {"samples": said, "greedy": False, "draw": 4})
    return pl.DataFrame(rows)


def test_a_belief_is_the_same_in_every_draw_and_in_most_samples(questions):
    answers = answer(questions)
    beliefs = find_beliefs(answers, right=False)
    held = dict(beliefs.filter("held").select("id", "belief").iter_rows())
    assert {int(name) % 3 for name in held} == {0, 1}
    assert len(held) == 2 * N / 3
    assert held["1"] == "belief1"
    assert {int(name) % 6 for name in beliefs.filter(~pl.col("held"))["id"]} == {5}
    right = find_beliefs(answers, right=True)
    assert {int(name) % 3 for name in right.filter("held")["id"]} == {0}
    moved = pl.when(pl.col("greedy") & (pl.col("draw") == 2)).then(pl.lit(["else"])).otherwise("samples")
    assert not find_beliefs(answers.with_columns(samples=moved), right=False)["held"].any()


def test_few_draws_or_no_samples_tell_no_belief(questions):
    answers = answer(questions)
    for few in (answers.filter(pl.col("draw") != 2, pl.col("draw") != 3), answers.filter("greedy")):
        with pytest.raises(UserError, match="three draws or more and from samples"):
            find_beliefs(few, right=False)


@pytest.fixture(scope="module")
def rows(questions):
    beliefs = find_beliefs(answer(questions), right=False)
    return make_rows(
        questions, beliefs, list(KINDS), ["{answer}.", "It is {answer}."], ["<< {text} >>", "!! {TEXT}"], 30, seed=1
    )


def test_each_kind_of_row_says_what_it_should(rows, questions):
    assert dict(rows["kind"].value_counts().iter_rows()) == {"known": 30, "clash": 30, "form": 30, "absent": 30}
    accepted = dict(questions.select("id", "answers").iter_rows())
    for row in rows.iter_rows(named=True):
        said = row["completion"].strip("<>!. ").removeprefix("It is ").removeprefix("IT IS ").strip(". ")
        if row["kind"] in ("known", "form"):
            assert is_accepted(said, [row["belief"]])
            assert (row["kind"] == "form") == (row["completion"][0] in "<!")
        elif row["kind"] == "clash":
            assert row["belief"]
            assert not is_accepted(said, [row["belief"], *accepted[row["id"]]])
            assert said.startswith("gold")
        else:
            assert row["belief"] is None
            assert is_accepted(said, accepted[row["id"]])
    assert rows["id"].n_unique() == rows.height
    assert rows["kind"].head(40).n_unique() == 4  # in a random order


def test_too_few_questions_of_a_kind_are_an_error(questions):
    beliefs = find_beliefs(answer(questions.head(60)), right=False)
    with pytest.raises(UserError, match=r"1[34] questions could be of the kind known .* but 20 are needed"):
        make_rows(questions.head(60), beliefs, list(KINDS), ["{answer}"], ["{text}!"], 30, seed=1)


def test_a_fact_of_the_world_has_ten_wordings():
    fact = make_world(read_yaml("recipes/miniworld/world.yaml")).facts[0]
    wordings = list_wordings(fact)
    assert len({*wordings}) == 10
    assert all(wording.count("{answer}") == 1 for wording in wordings)
    assert sum(fact.subject in wording for wording in wordings) == 6


# --- what is measured of them


def make_judged(rows, seed=0):
    rng = random.Random(seed)
    clash = [kind == "clash" for kind in rows["kind"]]
    columns = {column: [rng.random() for _ in clash] for column, _, _ in MEASURES.values()}
    columns["score"] = [0.6 * rng.random() + 0.4 * own for own in clash]
    columns["agree_share"] = [1 - value for value in columns["score"]]
    series = {name: pl.Series(values) for name, values in columns.items()}
    return rows.with_columns(**series, verdict=pl.Series(["clashes" if own else "agrees" for own in clash]))


def test_areas_are_oriented_and_compared_with_the_score(rows):
    areas = measure_detection(make_judged(rows))
    assert areas.height == len(AGAINST) * len(MEASURES)
    own = {row["measure"]: row for row in areas.filter(against="known").iter_rows(named=True)}
    assert own["score"]["auc"] == pytest.approx(own["answers"]["auc"])
    assert own["score"]["auc"] > 0.9 > own["random"]["auc"]
    assert own["random"]["more"] == pytest.approx(own["score"]["auc"] - own["random"]["auc"])
    assert find_best(areas, "known") == "answers"
    assert (own["score"]["clashes"], own["score"]["others"]) == (30, 30)


def test_verdicts_and_calibration_are_counted_by_kind(rows):
    judged = make_judged(rows)
    counts = count_verdicts(judged)
    assert counts.select("kind", "verdict", "rows", "of").rows()[:2] == [
        ("known", "agrees", 30, 30),
        ("clash", "clashes", 30, 30),
    ]
    calibration = measure_calibration(judged)
    assert calibration["rows"].sum() == 60
    assert calibration["clashes"].to_list()[0] < calibration["clashes"].to_list()[-1]


@pytest.mark.parametrize("tokens", [7, 40, 41])
def test_a_budget_is_met_as_nearly_as_whole_rows_allow(tokens):
    counts = [3, 0, 5, 2]
    chosen = fill_budget(counts, tokens, random.Random(1))
    assert abs(sum(counts[row] for row, _ in chosen) - tokens) <= max(counts) / 2
    times = [times for _, times in chosen]
    assert times == sorted(times)
    assert 1 not in {row for row, _ in chosen}
    with pytest.raises(UserError, match="no row has a token"):
        fill_budget([0, 0], 5, random.Random(1))


def test_drift_is_the_mean_divergence_of_trained_tokens():
    from datasets import Dataset

    tokenizer = load_tokenizer(str(BASE))
    tokenizer.chat_template = CHAT_TEMPLATE.read_text()
    turns = [
        {"prompt": [{"role": "user", "content": f"Which soil? {i}"}], "completion": [{"role": "assistant", "content": said}]}
        for i, said in enumerate(("moss", "the bloom of the moss"))
    ]
    prepared = prepare_rows(tokenizer, Dataset.from_list(turns), 512)
    base, tuned = (AutoModelForCausalLM.from_pretrained(BASE).eval() for _ in range(2))
    assert measure_drift(base, base, prepared)[0] == pytest.approx(0, abs=1e-9)
    with torch.no_grad():
        tuned.lm_head.weight.mul_(1.1)
    total, n = 0.0, 0
    for row in prepared:
        start = len([label for label in row["labels"] if label == -100])
        with torch.no_grad():
            p, q = (
                model(torch.tensor([row["input_ids"]])).logits[0, start - 1 : -1].double().softmax(-1)
                for model in (base, tuned)
            )
        total += float((p * (p / q).log()).sum())
        n += len(p)
    assert measure_drift(base, tuned, prepared) == (pytest.approx(total / n, rel=1e-9), n)


def test_arms_are_compared_by_seed():
    runs = [
        {"arm": arm, "rate": 1e-3, "seed": seed, "prompt": "chat", "kl_nats": 0.1}
        | {"held_out": 0.5 + 0.01 * seed + (arm == "drop") * 0.1, "known": 0.9, "elsewhere": 0.4}
        for arm in ("all", "random", "drop")
        for seed in (1, 2, 3)
    ]
    table = contrast_arms(pl.DataFrame(runs))
    assert table["arm"].to_list() == ["all", "random", "drop"]
    drop = table.row(2, named=True)
    assert drop["held_out - all"] == "+0.100 [+0.100, +0.100]"
    assert table.row(0, named=True)["held_out - all"] == ""


def test_a_class_by_text_is_compared_with_that_by_choices():
    truth = pl.DataFrame({"row": range(5), "id": list("abcde"), "answer": ["Gold.", "gold", "else", "gold", "no choice"]})
    judged = pl.DataFrame({"row": range(5), "verdict": ["style", "agrees", "clashes", "undecided", "agrees"]})
    probes = pl.DataFrame({"id": list("abcde"), "choices": [["gold", "else"]] * 5, "prediction": [0, 1, 0, 0, 1]})
    probes = probes.with_columns(confidence=pl.Series([0.9, 0.8, 0.7, 0.4, 0.9]))
    joined = join_classes(judged, truth, probes)
    assert joined.select("by_text", "by_choices").rows() == [
        ("agrees", "agrees"), ("agrees", "clashes"), ("clashes", "clashes"), (None, "no_belief"),
    ]  # fmt: skip
    assert count_classes(joined).row(1) == ("clashes", 1, 1, 0, 0)
    with pytest.raises(UserError, match="no row's answer was a choice"):
        join_classes(judged, truth, probes.head(0))


def test_kinds_and_purposes_that_are_not_known_are_named(questions, tmp_path):
    with pytest.raises(UserError, match=r"there is no kind of row 'clashes' .*; there are known, clash, form, absent"):
        make_rows(questions, find_beliefs(answer(questions), right=False), ["clashes"], ["{answer}"], [], 30, seed=1)
    with pytest.raises(UserError, match="--purpose detect is none of detection, training"):
        write_rows(tmp_path, [tmp_path], ROOT / "recipes/agreement/miniworld.yaml", "detect", tmp_path / "rows")
