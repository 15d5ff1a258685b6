"""Beliefs by the scores of texts: which one is taken stands in tables and instructions, and tables of another are refused."""

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import run_command
from made_up import Study, make_rows, own, write_table

from intervention.believing.scores import compare_scores
from intervention.believing.source import Source, read_beliefs, write_beliefs
from intervention.texts.logs import read_moves
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.probe_table import SCORED_BY
from lm_eval_tasks.contracts.logs.scores import BINS
from lm_eval_tasks.contracts.questions import read_questions
from lm_eval_tasks.contracts.vocabulary import SCORES


class Texts(Study):
    """A study whose probes hold the log-likelihoods of every score, as of texts."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, make_rows(200))
        rng = np.random.default_rng(0)
        logs = [[math.log(p) for p in row] for row in self.table["probs"]]
        lists = {"sum": logs} | {
            name: (np.array(logs) * share + rng.normal(size=(len(logs), 4))).tolist()
            for name, share in (("per_character", 0.1), ("pmi", 1.0))
        }
        self.table = self.table.with_columns(pl.Series(SCORED_BY[name], values) for name, values in lists.items())
        self.probes = [write_table(folder, self.table, "texts")]
        self.inputs = replace(self.inputs, beliefs=Source(self.probes))

    def believe(self, score: str | None = None, table: Path | None = None) -> pl.DataFrame:
        source = Source([] if table else self.probes, table, score=score)
        return read_beliefs(read_questions(self.questions), self.questions, source).table


@pytest.fixture
def study(tmp_path: Path) -> Texts:
    return Texts(tmp_path)


def softmax(values: list[float]) -> list[float]:
    weights = [math.exp(value) for value in values]
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize("score", SCORES)
def test_beliefs_are_those_of_the_score(study: Texts, score: str) -> None:
    found = study.believe(score)
    for row, logs in zip(found.to_dicts(), study.table[SCORED_BY[score]], strict=True):
        assert row["probs"] == pytest.approx(softmax(logs.to_list()))
        assert row["belief"] == (row["prediction"] if max(softmax(logs.to_list())) > 0.5 else None)
        assert row["prediction"] == logs.arg_max()
    assert set(found["score"]) == {score}


def test_every_row_of_a_set_says_the_score(study: Texts) -> None:
    inputs = replace(study.inputs, beliefs=Source(study.probes, score="pmi"))
    sets = study.build("by-pmi", inputs, conditions=["harmonious", "self_aligning"], size=20)
    assert all(set(rows["score"]) == {"pmi"} for rows in sets.values())
    sure = dict(study.believe("pmi").select("id", "confidence").iter_rows())
    for rows in map(own, sets.values()):
        assert rows["confidence"].to_list() == [sure[id_] for id_ in rows["id"]]


def test_a_belief_table_keeps_its_score(study: Texts) -> None:
    file = study.folder / "beliefs.parquet"
    write_beliefs(study.believe("per_character"), file)
    for score in (None, "per_character"):
        assert study.believe(score, file).equals(study.believe("per_character"))
    with pytest.raises(
        UserError, match=r"--score pmi: the beliefs of .* are of the score per_character\. Leave out --score, or"
    ):
        study.believe("pmi", file)


def test_a_belief_table_that_says_no_score_is_of_the_sum(study: Texts) -> None:
    file = study.folder / "beliefs.parquet"
    study.believe("sum").drop("score").write_parquet(file)
    assert study.believe(None, file).equals(study.believe("sum"))
    with pytest.raises(UserError, match="are of the score sum"):
        study.believe("pmi", file)


def test_probes_without_the_score_are_refused(study: Texts) -> None:
    study.probes = [write_table(study.folder, study.table.drop(SCORED_BY["pmi"]), "fewer")]
    with pytest.raises(UserError, match=r"fewer.parquet, row 1 \(made_up/herbs id 'train-0'\) has no loglikelihoods_pmi"):
        study.believe("pmi")


def test_contexts_move_beliefs_of_the_same_score(study: Texts) -> None:
    probes = [write_table(study.folder, study.table.with_columns(phase=pl.lit("base_context")), "told")]
    questions = read_questions(study.questions)
    for score in SCORES:
        beliefs, moves = study.believe(score), read_moves(probes, questions, score=score)
        assert moves["context_confidence"].to_list() == pytest.approx(beliefs["confidence"].to_list())
        assert moves["moved"].to_list() == (beliefs["class"] == "right").to_list()


def test_scores_are_compared_by_a_plain_count(study: Texts) -> None:
    rows = {row["score"]: row for row in compare_scores(study.probes).iter_rows(named=True)}
    assert [*rows] == [*SCORES]
    answers = study.table["answer"].to_list()
    for score, row in rows.items():
        probs = [softmax(logs.to_list()) for logs in study.table[SCORED_BY[score]]]
        right = [p.index(max(p)) == answer for p, answer in zip(probs, answers, strict=True)]
        bins: dict[int, list[float]] = {}
        for p, is_right in zip(probs, right, strict=True):
            bins.setdefault(math.ceil(max(p) * BINS), []).append(is_right - max(p))
        square = [sum((q - (i == answer)) ** 2 for i, q in enumerate(p)) for p, answer in zip(probs, answers, strict=True)]
        n = len(answers)
        assert row["questions"] == n
        assert row["accuracy"] == pytest.approx(sum(right) / n)
        assert row["confidence"] == pytest.approx(sum(map(max, probs)) / n)
        assert row["ece"] == pytest.approx(sum(abs(sum(values)) for values in bins.values()) / n)
        assert row["brier"] == pytest.approx(sum(square) / n)


@pytest.mark.parametrize(
    "change", [lambda t: t.with_columns(scoring=pl.lit("letter")), lambda t: t.drop(SCORED_BY["per_character"])]
)
def test_nothing_is_compared_where_there_is_one_score(study: Texts, change: Callable) -> None:
    assert compare_scores([write_table(study.folder, change(study.table), "one")]).is_empty()


def test_the_commands_take_a_score(study: Texts) -> None:
    file = study.folder / "beliefs.parquet"
    inputs = ("--questions", study.questions, "--probes", *study.probes, "--score", "pmi")
    done = run_command(sys.executable, "-m", "intervention", "beliefs", *inputs, "--output", file)
    assert done.returncode == 0, done.stderr
    assert "All answers by each score of texts (here: pmi)" in done.stdout
    assert set(pl.read_parquet(file)["score"]) == {"pmi"}
    words = ("--questions", study.questions, "--domain", "herbs", "--output", study.folder / "context.parquet")
    done = run_command(sys.executable, "-m", "intervention", "requests", "context", *words, "--score", "pmi")
    assert done.returncode == 2
    assert "--score pmi is of beliefs: name them with --probes or --beliefs, or leave it out." in done.stderr
