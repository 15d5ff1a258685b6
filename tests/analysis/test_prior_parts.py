"""Over a study: a changed letter prior leaves no rest, changed knowledge no prior's part, and what is not given is said."""

import numpy as np
import polars as pl
import pytest
from answers import bound_skewed
from scipy import stats
from test_priors import FAVOURED, UNIFORM, make_cyclic

from analysis.chapters.letter_priors import PRIOR_SCHEMA, compute_prior_parts, tabulate_prior_parts
from analysis.measures.priors import describe_parts
from analysis.reading.letters import read_letterings
from analysis.reading.runs import RUN_SCHEMA
from analysis.reading.sets import find_set
from analysis.showing.tables import write_markdown

BASES = {"base": "base"}
RNG = np.random.default_rng(0)
CONTENT = RNG.dirichlet(np.full(4, 2), 40)
MOVED = {"r1": CONTENT, "r2": CONTENT, "r3": RNG.dirichlet(np.full(4, 2), 40)}  # what each run thinks
PRIORS = {"r1": FAVOURED, "r2": FAVOURED[::-1], "r3": UNIFORM}


@pytest.fixture(scope="module")
def runs() -> pl.DataFrame:
    rows = [("r1", "harmonious", 1), ("r2", "harmonious", 2), ("r3", "incompatible", 1)]
    fixed = ("text", 0.5, "sum", "folder")
    return pl.DataFrame(
        [(r, "base", "d", "s", c, None, seed, *fixed, "base", "") for r, c, seed in rows], RUN_SCHEMA, orient="row"
    )


@pytest.fixture(scope="module")
def probes() -> pl.DataFrame:
    tables = [make_cyclic(CONTENT, UNIFORM, model="base", phase=phase) for phase in ("base_probe", "base_chat")]
    for run, content in MOVED.items():
        tables += [
            make_cyclic(content, PRIORS[run], model=f"models/{run}", run=run, phase=phase)
            for phase in ("tuned_probe", "tuned_chat")
        ]
    table = pl.concat(tables)
    number = pl.col("id").cast(pl.Int64)
    return table.with_columns(split=pl.when(number < 10).then(pl.lit("train")).otherwise(pl.lit("test")))


def divide(
    probes: pl.DataFrame, runs: pl.DataFrame, bases: dict[str, str | None], evaluation_set: pl.Expr
) -> tuple[pl.DataFrame, list[str]]:
    """The parts of a study's divergence, and all that is said of what lacks."""
    letterings, untold = read_letterings(probes, runs, bases)
    parts, notes = compute_prior_parts(letterings, runs, evaluation_set)
    return parts, untold + notes


def pick(parts: pl.DataFrame, **names: object) -> dict[str, dict]:
    return {row["metric"]: row for row in parts.filter(**names).iter_rows(named=True)}


def test_a_changed_prior_leaves_no_rest_and_changed_knowledge_no_prior_part(probes: pl.DataFrame, runs: pl.DataFrame):
    parts, notes = divide(probes, runs, BASES, find_set())
    assert notes == []
    assert parts.schema == PRIOR_SCHEMA
    assert parts.height == 2 * 3 * 2 * 3  # conditions, comparisons, evaluation sets, parts
    letters = pick(parts, condition="harmonious", phase="tuned_chat", phase_before="base_probe", split="homo")
    assert letters["kl_nats"]["value"] > 0.05
    assert letters["prior_part"]["value"] == pytest.approx(letters["kl_nats"]["value"])
    assert letters["rest"]["value"] == pytest.approx(0, abs=1e-12)
    assert {(row["n"], row["seeds"]) for row in letters.values()} == {(30, 2)}
    knowledge = pick(parts, condition="incompatible", phase="tuned_probe", split="seen")
    assert knowledge["kl_nats"]["value"] > 0.1
    assert knowledge["prior_part"]["value"] == pytest.approx(0, abs=1e-12)
    assert knowledge["rest"]["value"] == pytest.approx(knowledge["kl_nats"]["value"])
    assert {(row["n"], row["seeds"]) for row in knowledge.values()} == {(10, 1)}


def test_the_mean_is_that_of_the_seeds_and_its_interval_is_over_questions(probes: pl.DataFrame, runs: pl.DataFrame):
    parts, _ = divide(probes, runs, BASES, find_set())
    row = pick(parts, condition="harmonious", phase="tuned_probe", split="homo")["kl_nats"]
    means = np.zeros(30)
    for prior in (FAVOURED, FAVOURED[::-1]):
        for order in range(4):
            p = np.roll(CONTENT[10:], -order, axis=1)
            means += stats.entropy(p, p * prior / (p * prior).sum(axis=1, keepdims=True), axis=1) / 8
    assert row["value"] == pytest.approx(means.mean())
    low, high = bound_skewed(means)
    assert (row["low"], row["high"]) == pytest.approx((low, high))


def test_one_run_is_what_the_command_says(probes: pl.DataFrame, runs: pl.DataFrame):
    everything = pl.lit("homo")
    parts, _ = divide(probes, runs.filter(run="r3"), BASES, everything)
    before, after = probes.filter(phase="base_chat"), probes.filter(phase="tuned_chat", run="r3")
    found = describe_parts(before, after)
    for metric, row in pick(parts, phase="tuned_chat", phase_before="base_chat").items():
        assert row["value"] == pytest.approx(found[metric], abs=1e-15)
        assert [row["low"], row["high"]] == pytest.approx(found["intervals"][metric], abs=1e-15)


def test_what_is_not_given_is_said_once(probes: pl.DataFrame, runs: pl.DataFrame):
    for table, told in (
        (probes.with_columns(scoring=pl.lit("cloze")), "every model was scored by cloze, which shows no letters."),
        (probes.filter(order=0), "every model was asked in fewer than all orders of the choices (cyclic)."),
    ):
        parts, notes = divide(table, runs, BASES, find_set())
        assert parts.schema == PRIOR_SCHEMA
        assert parts.height == 0
        assert notes == [f"The letter prior's part of KL is not given: {told}"]
        assert tabulate_prior_parts(parts).rows == []


def test_one_run_without_orders_is_named_and_the_others_are_divided(probes: pl.DataFrame, runs: pl.DataFrame):
    lacks = (pl.col("run") == "r2") & (pl.col("phase") == "tuned_chat") & (pl.col("order") > 0)
    parts, notes = divide(probes.filter(~lacks), runs, BASES, find_set())
    assert notes == [
        "The letter prior's part of KL has gaps where a model was asked in fewer than all orders of the choices (cyclic): "
        "harmonious, seed 2 (d, base) (tuned model, chat prompt)."
    ]
    assert pick(parts, condition="harmonious", phase="tuned_chat", phase_before="base_chat", split="homo")["rest"]["seeds"] == 1
    assert pick(parts, condition="harmonious", phase="tuned_probe", split="homo")["rest"]["seeds"] == 2


def test_an_infinite_divergence_is_left_out_and_counted(probes: pl.DataFrame, runs: pl.DataFrame):
    gone = (pl.col("run") == "r3") & (pl.col("phase") == "tuned_chat") & (pl.col("id") == "20") & (pl.col("order") == 1)
    table = probes.with_columns(probs=pl.when(gone).then(pl.lit([1.0, 0.0, 0.0, 0.0])).otherwise("probs"))
    parts, notes = divide(table, runs, BASES, find_set())
    assert pick(parts, condition="incompatible", phase="tuned_chat", phase_before="base_chat", split="homo")["rest"]["n"] == 29
    assert [note[:76] for note in notes] == [
        "1 questions of incompatible, seed 1 (d, base), chat prompt to chat prompt (h",
        "1 questions of incompatible, seed 1 (d, base), few-shot to chat prompt (homo",
    ]


def test_base_models_without_samples_and_strange_samples_are_passed_over(probes: pl.DataFrame, runs: pl.DataFrame):
    parts, notes = divide(probes.filter(pl.col("run") != ""), runs, {"base": None}, find_set())
    assert (parts.height, notes) == (0, [])
    strange = probes.filter((pl.col("run") != "r3") | (pl.col("order") == 0)).with_columns(
        run=pl.col("run").replace("r3", "r9")
    )
    parts, notes = divide(strange, runs, BASES, find_set())
    assert (set(parts["condition"]), notes) == ({"harmonious"}, [])


def test_the_table_has_a_row_a_comparison_condition_and_split(probes: pl.DataFrame, runs: pl.DataFrame):
    table = tabulate_prior_parts(divide(probes, runs, BASES, find_set())[0])
    assert [row[:3] for row in table.rows][:5] == [
        ["harmonious", "few-shot to few-shot", "HOMO"],
        ["harmonious", "few-shot to few-shot", "seen"],
        ["incompatible", "few-shot to few-shot", "HOMO"],
        ["incompatible", "few-shot to few-shot", "seen"],
        ["harmonious", "chat prompt to chat prompt", "HOMO"],
    ]
    assert all(len(row) == len(table.header) == 8 for row in table.rows)
    assert table.rows[0][5].startswith("0.000 [")
    assert "PriDe" in write_markdown(table)
