"""A divergence by a letter prior alone is all the prior's part; what else moved is the rest; without orders there is none."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats
from test_consistency import make_table

from analysis.measures.priors import (
    describe_parts,
    divide_kl,
    divide_letters,
    estimate_prior,
    keep_cyclic,
    list_letters,
    read_letters,
)
from analysis.reporting.consistency import compare_logs, write_comparison
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.probe_table import write_probes

UNIFORM, FAVOURED = np.full(4, 0.25), np.array([0.4, 0.3, 0.2, 0.1])


def make_cyclic(content: np.ndarray, prior: np.ndarray, draws: int = 1, **names: object) -> pl.DataFrame:
    """Probes of a model that thinks `content` (n, C) of the choices and favours letters by `prior` (C,), in all orders."""
    choices = content.shape[1]
    tables = []
    for draw in range(draws):
        for order in range(choices):
            shown = content[:, (np.arange(choices) + order) % choices] * prior
            probs = np.roll(shown / shown.sum(axis=1, keepdims=True), order, axis=1)
            tables.append(make_table(probs.tolist(), order=order, draw=draw, **names))
    return pl.concat(tables).with_columns(correct=pl.col("prediction") == pl.col("answer"))


def test_hand_values():
    p, q = np.array([[0.5, 0.5]]), np.array([[0.8, 0.2]])
    before, after = np.array([0.5, 0.5]), np.array([0.8, 0.2])
    kl = 0.5 * np.log(0.5 / 0.8) + 0.5 * np.log(0.5 / 0.2)
    assert divide_kl(np.log(p), np.log(q), before, after)[0] == pytest.approx([kl, kl, 0])
    # q' ~ (0.8 * 1, 0.2 * 3) = (4/7, 3/7)
    rest = 0.5 * np.log(0.5 / (4 / 7)) + 0.5 * np.log(0.5 / (3 / 7))
    assert divide_kl(np.log(p), np.log(q), np.array([0.25, 0.75]), before)[0] == pytest.approx([kl, kl - rest, rest])
    # The prior moved the other way: without it, q is further from p.
    parts = divide_kl(np.log(p), np.log(q), after, before)[0]
    assert parts[1] < 0
    assert parts[1] + parts[2] == pytest.approx(kl)


def test_equal_priors_have_no_part():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(4), (2, 50))
    parts = divide_kl(np.log(p), np.log(q), FAVOURED, FAVOURED)
    np.testing.assert_allclose(parts[:, 0], stats.entropy(p, q, axis=1))
    np.testing.assert_allclose(parts[:, 1], 0, atol=1e-12)


def test_a_pair_that_differs_by_a_known_letter_prior_leaves_no_rest():
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(4), 50)
    q = p * FAVOURED
    parts = divide_kl(np.log(p), np.log(q / q.sum(axis=1, keepdims=True)), UNIFORM, FAVOURED)
    assert parts[:, 0].min() > 0
    np.testing.assert_allclose(parts[:, 2], 0, atol=1e-12)


def test_an_impossible_choice_has_an_infinite_divergence_and_no_part():
    with np.errstate(divide="ignore"):
        kl, part, rest = divide_kl(np.log([[0.5, 0.5]]), np.log([[1.0, 0.0]]), *np.full((2, 2), 0.5))[0]
    assert (kl, rest) == (np.inf, np.inf)
    assert np.isnan(part)


def test_letters_are_read_as_shown_and_draws_averaged():
    table = make_cyclic(np.array([[0.7, 0.2, 0.1]]), np.array([0.5, 0.3, 0.2]))
    asked, logs = list_letters(pl.concat([table.reverse(), table.with_columns(draw=pl.lit(1, pl.Int64))]))
    assert asked["order"].to_list() == [0, 1, 2]
    for order, row in enumerate(np.exp(logs)):
        shown = np.array([0.7, 0.2, 0.1])[[order, (order + 1) % 3, (order + 2) % 3]] * [0.5, 0.3, 0.2]
        np.testing.assert_allclose(row, shown / shown.sum())


def test_a_letter_prior_is_found_and_explains_everything_where_the_model_knows_nothing():
    content = np.full((40, 4), 0.25)
    found = describe_parts(make_cyclic(content, UNIFORM), make_cyclic(content, FAVOURED, draws=2))
    assert found["priors"][4]["after"] == pytest.approx(FAVOURED)
    assert found["priors"][4]["before"] == pytest.approx(UNIFORM)
    assert (found["n"], found["notes"]) == (40, [])
    assert found["kl_nats"] == pytest.approx(stats.entropy(UNIFORM, FAVOURED))
    assert found["rest"] == pytest.approx(0, abs=1e-12)
    low, high = found["intervals"]["prior_part"]
    assert [low, high] == pytest.approx([found["kl_nats"]] * 2)


def test_a_letter_prior_explains_everything_whatever_the_model_knows():
    content = np.random.default_rng(2).dirichlet(np.full(4, 0.5), 300)
    logs = list_letters(make_cyclic(content, FAVOURED))[1]
    np.testing.assert_allclose(estimate_prior(logs), FAVOURED, atol=1e-12)
    found = describe_parts(make_cyclic(content, UNIFORM), make_cyclic(content, FAVOURED))
    assert found["kl_nats"] > 0.05
    assert found["rest"] == pytest.approx(0, abs=1e-12)


def test_an_answer_that_rounds_to_nothing_leaves_a_prior():
    content = np.tile([[1.0, 0.0], [0.0, 1.0]], (20, 1))
    prior = estimate_prior(list_letters(make_cyclic(content, np.array([0.6, 0.4])))[1])
    assert prior == pytest.approx([0.5, 0.5])


def test_beliefs_that_moved_are_the_rest_and_the_parts_add_up():
    rng = np.random.default_rng(2)
    before, after = rng.dirichlet(np.full(4, 2), (2, 300))
    moved = describe_parts(make_cyclic(before, UNIFORM), make_cyclic(after, UNIFORM))
    assert moved["kl_nats"] > 0.1
    assert moved["prior_part"] == pytest.approx(0, abs=1e-12)
    both = describe_parts(make_cyclic(before, UNIFORM), make_cyclic(after, FAVOURED))
    assert both["prior_part"] > 0.01
    assert both["rest"] == pytest.approx(moved["kl_nats"])
    sides = [read_letters(make_cyclic(*side))[0] for side in ((before, UNIFORM), (after, FAVOURED))]
    table = divide_letters(*sides)
    np.testing.assert_allclose(table["prior_part"] + table["rest"], table["kl_nats"], atol=1e-12)


def test_what_has_no_letter_prior_says_why():
    content = np.random.default_rng(3).dirichlet(np.ones(4), 40)
    cyclic = make_cyclic(content, UNIFORM)
    for table, told in (
        (cyclic.with_columns(scoring=pl.lit("cloze")), "was scored by cloze"),
        (cyclic.filter(order=0), "was asked in fewer than all orders"),
        (cyclic[:40].with_columns(order=pl.lit(None, pl.Int64)), "has averages over the orders"),
        (make_cyclic(content[:20], UNIFORM), "was asked 20 questions with 4 choices in every order, and a prior wants 30"),
    ):
        found = describe_parts(cyclic, table)
        assert (found["n"], found["kl_nats"], found["intervals"]) == (0, None, {})
        assert told in found["notes"][0]
        assert found["notes"][0].startswith("No letter prior: --after ")


def test_questions_that_lack_an_order_are_left_out_and_counted():
    cyclic = make_cyclic(np.random.default_rng(3).dirichlet(np.ones(4), 40), UNIFORM)
    some = cyclic.filter((pl.col("id") != "7") | (pl.col("order") != 2))
    assert keep_cyclic(some)["id"].n_unique() == 39
    found = describe_parts(some, cyclic)
    assert found["n"] == 39
    assert found["notes"] == ["Letter prior: --before was asked 1 of 40 questions in fewer than all orders (cyclic)."]


def test_another_question_by_the_same_name_is_refused():
    cyclic = make_cyclic(np.random.default_rng(3).dirichlet(np.ones(4), 40), UNIFORM)
    other = cyclic.with_columns(question_hash=pl.when(id="3").then(pl.lit("x")).otherwise("question_hash"))
    with pytest.raises(UserError, match="s/d id '3' is not the same question before and after"):
        describe_parts(cyclic, other)


def test_the_command_gives_the_part_or_says_why_not(tmp_path: Path):
    content = np.random.default_rng(4).dirichlet(np.ones(4), 40)
    files = {}
    for name, prior in (("before", UNIFORM), ("after", FAVOURED)):
        files[name] = tmp_path / f"{name}.parquet"
        write_probes(make_cyclic(content, prior), files[name])
    report = compare_logs([files["before"]], [files["after"]])
    assert report["letter_prior"]["n"] == 40
    assert report["letter_prior"]["prior_part"] > report["letter_prior"]["rest"]
    assert "letter prior" in write_comparison(report)
    json.dumps(report, allow_nan=False)
    write_probes(make_cyclic(content, UNIFORM).filter(order=0), files["before"])
    write_probes(make_cyclic(content, FAVOURED).filter(order=0), files["after"])
    assert "asked in fewer than all orders" in write_comparison(compare_logs([files["before"]], [files["after"]]))
