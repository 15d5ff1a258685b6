"""Consistency equals a plain loop over questions with scipy, and joins by question alone."""

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from analysis.measures.consistency import add_spearman, average_presentations, compare_probes, join_probes
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.probe_table import PROBE_SCHEMA
from lm_eval_tasks.contracts.questions import hash_questions

REFERENCE = Path(__file__).parents[2] / "../shared/reference/released_groups"


def make_table(probs: list[list[float]], logs: list[list[float] | None] | None = None, **names: object) -> pl.DataFrame:
    """A probe table of made-up questions with these probabilities."""
    n = len(probs)
    columns = {
        "id": [str(i) for i in range(n)],
        "question": [f"question {i}" for i in range(n)],
        "choices": [[f"choice {j}" for j in range(len(row))] for row in probs],
        "probs": probs,
        "loglikelihoods": logs or [None] * n,
        "prediction": [int(np.argmax(row)) for row in probs],
        "confidence": [max(row) for row in probs],
    }
    fixed = {"source": "s", "domain": "d", "answer": 0, "correct": True, "model": "m", "run": "", "phase": "base_probe"}
    fixed |= {"scoring": "letter", "draw": 0, "order": 0, "split": "test", "question_hash": "", "task": "t"} | names
    table = pl.DataFrame(columns | {key: [value] * n for key, value in fixed.items()}, strict=False)
    nulls = {name: pl.lit(None) for name in PROBE_SCHEMA if name not in table.columns}
    table = table.with_columns(**nulls).select(pl.col(name).cast(kind) for name, kind in PROBE_SCHEMA.items())
    return table.with_columns(hash_questions(table))


def compare_plainly(before: list[float], after: list[float]) -> tuple[float, float, float, bool]:
    """KL, the paper's rank correlation and Spearman's of one question."""
    kl = float(stats.entropy(before, after))
    x, y = stats.rankdata(before, method="dense"), stats.rankdata(after, method="dense")
    if len(set(x)) == 1 or len(set(y)) == 1:
        return kl, 0.0, 0.0, True
    return kl, float(stats.pearsonr(x, y).statistic), float(stats.spearmanr(before, after).statistic), False


def check_against_plain(before: list[list[float]], after: list[list[float]]) -> pl.DataFrame:
    compared = add_spearman(compare_probes(join_probes(make_table(before), make_table(after)).table))
    compared = compared.sort(pl.col("id").cast(int))
    for row, p, q in zip(compared.iter_rows(named=True), before, after, strict=True):
        kl, rank, spearman, undefined = compare_plainly(p, q)
        assert row["kl_nats"] == pytest.approx(kl, abs=1e-12, rel=1e-12)
        assert row["rank_pearson"] == pytest.approx(rank, abs=1e-12)
        assert row["spearman"] == pytest.approx(spearman, abs=1e-12)
        assert row["rank_undefined"] is undefined
        assert row["top1_agreement"] == (np.argmax(p) == np.argmax(q))
    return compared


def test_random_distributions_of_mixed_length_equal_a_plain_loop():
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 11, 500)
    before, after = ([rng.dirichlet(np.full(k, 0.3)).tolist() for k in lengths] for _ in range(2))
    check_against_plain(before, after)


def test_distributions_with_many_ties_equal_a_plain_loop():
    rng = np.random.default_rng(2)
    lengths = rng.integers(2, 8, 300)
    before, after = ([(w / w.sum()).tolist() for k in lengths for w in [rng.integers(1, 4, k)]] for _ in range(2))
    compared = check_against_plain(before, after)
    assert compared["rank_undefined"].sum() > 5
    assert (compared["rank_pearson"] - compared["spearman"]).abs().max() > 0.05  # ties make the two differ


def test_degenerate_distributions_equal_a_plain_loop():
    rows = [[1.0, 0.0], [0.5, 0.5], [0.25] * 4, [0.4, 0.4, 0.2], [0.0, 0.0, 1.0], [1e-300, 1 - 1e-300, 0.0], [0.2, 0.3, 0.5]]
    pairs = [(p, q) for p in rows for q in rows if len(p) == len(q)]
    compared = check_against_plain([p for p, _ in pairs], [q for _, q in pairs])
    assert compared["kl_nats"].is_infinite().sum() == 7
    assert compared["rank_undefined"].sum() == 4


def test_kl_is_finite_where_only_the_floats_ran_out():
    before = make_table([[0.5, 0.5]], [[-1.0, -1.0]])
    after = make_table([[1.0, 0.0]], [[-1.0, -901.0]])
    compared = compare_probes(join_probes(before, after).table)
    assert compared["kl_nats"][0] == pytest.approx(0.5 * np.log(0.5) + 0.5 * (np.log(0.5) + 900), rel=1e-12)


def test_real_released_probes_equal_a_plain_loop():
    if not REFERENCE.is_dir():
        pytest.skip(f"{REFERENCE} is not here: the paper's released groups are not shipped")

    def read_probs(model: str) -> dict[str, list[float]]:
        rows = {}
        for name in ("consistent-correct-exp-sample", "inconsistent-golden-exp"):
            with gzip.open(REFERENCE / model / "engineering" / f"{name}.jsonl.gz", "rt") as stream:
                for line in stream:
                    row = json.loads(line)
                    rows[row["id"]] = row["probs"]
        return rows

    before, after = read_probs("mistral-7b"), read_probs("llama-2-7b")
    shared = sorted(before.keys() & after.keys())
    assert len(shared) > 100
    check_against_plain([before[i] for i in shared], [after[i] for i in shared])


def test_join_goes_by_question_and_counts_the_rest():
    rng = np.random.default_rng(1)
    table = make_table(rng.dirichlet(np.ones(4), 10).tolist())
    joined = join_probes(table[:8], table[3:].reverse())
    assert joined.table.height == 5
    assert (joined.only_before, joined.only_after) == (3, 2)
    assert compare_probes(joined.table)["kl_nats"].max() == 0


def test_join_names_the_first_question_that_differs():
    before = make_table([[0.5, 0.5]] * 3)
    after = before.with_columns(question_hash=pl.when(pl.col("id") == "1").then(pl.lit("other")).otherwise("question_hash"))
    with pytest.raises(UserError, match="s/d id '1' is not the same question"):
        join_probes(before, after)


def test_join_refuses_two_ways_of_scoring():
    before = make_table([[0.5, 0.5]])
    with pytest.raises(UserError, match="scored by letter before and by cloze after"):
        join_probes(before, before.with_columns(scoring=pl.lit("cloze")))


def test_presentations_are_averaged_choice_by_choice():
    one, two = make_table([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]), make_table([[0.3, 0.7], [0.4, 0.6], [0.5, 0.5]], order=1)
    averaged = average_presentations(pl.concat([two, one])).sort("id")
    np.testing.assert_allclose(averaged["probs"].to_list(), [[0.6, 0.4], [0.3, 0.7], [0.5, 0.5]], atol=1e-15)
    np.testing.assert_allclose(np.exp(averaged["loglikelihoods"].to_list()), averaged["probs"].to_list(), atol=1e-15)
    assert averaged.columns == one.columns
    assert averaged["prediction"].to_list() == [0, 1, 0]
    assert averaged["correct"].to_list() == [True, False, True]


def test_presentations_of_another_question_are_refused():
    one, two = make_table([[0.9, 0.1]]), make_table([[0.9, 0.1]], order=1).with_columns(question_hash=pl.lit("x"))
    with pytest.raises(UserError, match="in 2 wordings"):
        average_presentations(pl.concat([one, two]))
