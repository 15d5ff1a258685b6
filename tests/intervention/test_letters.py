"""The letter prior is found where there is one, and removed."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_up import believe, fill_probes, make_rows, write_set, write_table

from intervention.believing.letters import describe_priors, warn_of_few
from lm_eval_tasks.contracts.questions import read_questions

PRIORS = {3: [0.6, 0.1, 0.3], 4: [0.1, 0.2, 0.3, 0.4], 5: [0.05, 0.5, 0.15, 0.2, 0.1]}


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """70 questions with three choices, 60 with four, 41 with five."""
    rows = [
        row | {"id": f"{n}-{row['id']}"} for n, count in ((3, 70), (4, 60), (5, 41)) for row in make_rows(count, n, choices=n)
    ]
    return write_set(tmp_path / "set", rows)


def think(questions: pl.DataFrame, seed: int = 0) -> list[np.ndarray]:
    """What the model would say of each question's choices if it had no liking for letters."""
    rng = np.random.default_rng(seed)
    return [rng.dirichlet(np.ones(n)) for n in questions["choices"].list.len()]


def ask(questions: Path, order: int, priors: dict[int, list[float]], noise: float = 0, **names: object) -> pl.DataFrame:
    """The probe, in one order of the choices, of a model that likes letters: letter (i - order) mod n shows choice i."""
    table = read_questions(questions)
    thoughts, rng = think(table), np.random.default_rng(order)
    probs = []
    for thought in thoughts:
        n = len(thought)
        weights = [thought[i] * priors[n][(i - order) % n] for i in range(n)] * rng.lognormal(0, noise, n)
        probs.append((weights / weights.sum()).tolist())
    prediction = [int(np.argmax(row)) for row in probs]
    names = {"scoring": "letter", "order": order} | names
    return fill_probes(table, probs, prediction, **names).filter(pl.col("choices").list.len() > order)


def ask_all(folder: Path, questions: Path, *args: object, **names: object) -> list[Path]:
    orders = range(5)
    return [write_table(folder, ask(questions, order, *args, **names), f"probes_{order}") for order in orders]


def test_the_prior_is_recovered_and_removed_exactly(questions: Path, tmp_path: Path) -> None:
    believed = believe(questions, ask_all(tmp_path, questions, PRIORS), 0.5)
    table, priors = believed.table, believed.priors
    assert {n: prior.probs.tolist() for n, prior in priors.items()} == {n: pytest.approx(PRIORS[n]) for n in PRIORS}
    assert {n: (prior.estimated_on, prior.asked) for n, prior in priors.items()} == {3: (4, 70), 4: (3, 60), 5: (3, 41)}
    asked = read_questions(questions)
    for row, thought in zip(table.iter_rows(named=True), think(asked), strict=True):
        assert row["probs_pride"] == pytest.approx(thought.tolist())
        assert row["probs"] != pytest.approx(thought.tolist())  # the mean over orders keeps what the prior did to each of them
        assert row["letter"] == "ABCDE"[row["prediction"]]


def test_draws_are_averaged_after_the_prior_is_removed(questions: Path, tmp_path: Path) -> None:
    one = [ask(questions, order, PRIORS, draw=draw) for order in range(5) for draw in (0, 1)]
    believed = believe(questions, [write_table(tmp_path, pl.concat(one))], 0.5)
    table, priors = believed.table, believed.priors
    assert priors[4].probs == pytest.approx(PRIORS[4])
    for row, thought in zip(table.iter_rows(named=True), think(read_questions(questions)), strict=True):
        assert row["probs_pride"] == pytest.approx(thought.tolist())
        assert (row["orders"], row["draws"], row["asked"]) == (len(thought), 2, 2 * len(thought))


def test_the_seed_decides_which_questions_the_prior_is_estimated_on(questions: Path, tmp_path: Path) -> None:
    logs = ask_all(tmp_path, questions, PRIORS, 0.5)
    first, again, other = (believe(questions, logs, 0.5, seed).priors[4].probs.tolist() for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert first == pytest.approx(PRIORS[4], abs=0.2)


def test_questions_that_no_cyclic_probes_tell_of_have_no_corrected_probabilities(questions: Path, tmp_path: Path) -> None:
    logs = ask_all(tmp_path, questions, PRIORS)
    once = believe(questions, logs[:1]).table
    assert once["probs_pride"].null_count() == once.height
    assert once["letter"].null_count() == 0
    # Choices that are not listed have no letters, even if something turned them.
    cloze = believe(questions, ask_all(tmp_path, questions, PRIORS, scoring="cloze")).table
    assert cloze["probs_pride"].null_count() == cloze["letter"].null_count() == cloze.height
    # Of another domain, asked once, the prior of the same number of choices is removed.
    rows = [row | {"source": "other"} for row in make_rows(20, 9, "engines", choices=4)]
    both = write_set(tmp_path / "both", [*make_rows(60, 4, choices=4), *rows])
    priors = {4: PRIORS[4]}
    parts = [ask(both, order, priors) for order in range(4)]
    parts = [part.filter((pl.col("domain") == "herbs") | (pl.col("order") == 0)) for part in parts]
    believed = believe(both, [write_table(tmp_path, pl.concat(parts), "mixed")], 0.5)
    table, found = believed.table, believed.priors
    assert (found[4].estimated_on, found[4].asked) == (3, 60)
    assert table.group_by("domain").agg(pl.max("orders")).sort("domain")["orders"].to_list() == [1, 4]
    for row, thought in zip(table.iter_rows(named=True), think(read_questions(both)), strict=True):
        assert row["probs_pride"] == pytest.approx(thought.tolist())


def test_a_probability_of_zero_does_not_break_the_prior(questions: Path, tmp_path: Path) -> None:
    tables = [ask(questions, order, PRIORS) for order in range(5)]
    sure = pl.col("probs").list.eval((pl.element() == pl.element().max()).cast(pl.Float64))
    sure = [table.with_columns(probs=sure, confidence=pl.lit(1.0)) for table in tables]
    believed = believe(questions, [write_table(tmp_path, pl.concat(sure))], 0.5)
    table, priors = believed.table, believed.priors
    assert all(np.isfinite(prior.probs).all() for prior in priors.values())
    assert table["probs_pride"].list.sum().to_list() == pytest.approx([1] * table.height)


def test_too_few_questions_are_said(questions: Path, tmp_path: Path) -> None:
    priors = believe(questions, ask_all(tmp_path, questions, PRIORS), 0.5).priors
    assert warn_of_few(priors)[1] == (
        "The letter prior of questions with 4 choices was estimated on 3 of 60 questions, too few to correct by: at least 30 "
        "are wanted, so 600 that are asked in every order."
    )
    assert warn_of_few({4: priors[4]._replace(estimated_on=30, asked=600)}) == []
    shown = describe_priors(priors)
    assert shown.columns == ["choices", "estimated on", "of", *"ABCDE"]
    assert shown["choices"].to_list() == [3, 4, 5]
    assert shown["D"].to_list() == [None, pytest.approx(0.4), pytest.approx(0.2)]
