"""Before and after are read by one score: from the base model's log through instructions and a run to the report."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from pack import ask_twice, write_layout

from analysis.reading.study import Study, read_study
from analysis.reporting.consistency import compare_logs, write_comparison
from analysis.reporting.provenance import count_study
from intervention.believing.source import Source
from intervention.build import Inputs, Plan, build_instructions
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.probe_table import SCORED_BY
from lm_eval_tasks.contracts.logs.samples import read_probes
from lm_eval_tasks.contracts.manifest import read_manifest, write_manifest
from lm_eval_tasks.contracts.rules import read_rule
from lm_eval_tasks.contracts.vocabulary import SCORES
from recipes.training.arguments import RecipeArguments
from recipes.training.rows import describe_rows, read_rows


def softmax(values: list[float]) -> list[float]:
    weights = [math.exp(value) for value in values]
    return [weight / sum(weights) for weight in weights]


def write_run(folder: Path, logs: Path, score: str) -> None:
    """What a study by a score leaves: the base model's log, the set that is built on it, a run of it, and its answers.

    The run is not trained: what it says is the base model's own answer in the chat prompt.
    """
    asked = read_probes(logs / "probe", score="sum")
    questions = write_layout(folder / "set", {"annals": {"train": asked.select("id", "source", *asked.columns[2:9])}})
    inputs = Inputs(questions, Source([logs / "probe"], rule=read_rule("top"), score=score))
    build_instructions(inputs, Plan("annals", ["incompatible"], size=8), folder / "instructions")
    rows = read_rows(RecipeArguments(str(folder / "instructions"), dataset_config="annals_incompatible"))
    config = describe_rows(rows) | {"seed": 1, "base_model": asked["model"][0]}
    run = write_manifest(folder / "runs/model", "train", ["sft.py"], config, {}, {"seed": 1})
    for name in ("probe", "chat"):
        (log,) = (logs / name).rglob("samples_*.jsonl")
        samples = [json.loads(line) for line in log.open()]
        if name == "chat":
            for sample in samples:
                sample["doc"] |= {"phase": "tuned_chat", "run": run, "model": str(folder / "runs/model")}
        (folder / "runs" / f"samples_{name}_1.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))


@pytest.fixture(scope="module", params=SCORES)
def made(
    request: pytest.FixtureRequest, questions: Path, share_folder: Callable, tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    logs = share_folder("lm_eval_tasks_probe_and_chat", lambda folder: ask_twice(folder, questions))
    folder = tmp_path_factory.mktemp(request.param)
    write_run(folder, logs, request.param)
    return SimpleNamespace(folder=folder, score=request.param, logs=logs, study=read_study(folder / "runs"))


def list_by_hand(made: SimpleNamespace, name: str) -> dict[str, list[float]]:
    """Each question's probabilities, in the order of its own choices, from the numbers in the log."""
    found = {}
    (log,) = (made.logs / name).rglob("samples_*.jsonl")
    for doc in (json.loads(line)["doc"] for line in log.open()):
        shown = softmax(doc[SCORED_BY[made.score]])
        found[doc["id"]] = [shown[(i - doc["order"]) % len(shown)] for i in range(len(shown))]
    return found


def test_base_and_run_are_of_the_score_that_the_run_was_built_by(made: SimpleNamespace) -> None:
    study: Study = made.study
    before, after = list_by_hand(made, "probe"), list_by_hand(made, "chat")
    assert set(study.runs["score"]) == {made.score}
    for phase, own in (("base_probe", before), ("tuned_chat", after)):
        rows = study.measures.filter(phase=phase).to_dicts()
        assert len(rows) == 40
        for row in rows:
            assert row["probs"] == pytest.approx(own[row["id"]], abs=1e-12)
            assert row["confidence"] == pytest.approx(max(own[row["id"]]))
            assert row["prediction"] == own[row["id"]].index(max(own[row["id"]]))
            assert row["accuracy"] == (row["prediction"] == row["answer"])
    for row in study.measures.filter(phase="tuned_chat").to_dicts():
        kl = sum(p * math.log(p / q) for p, q in zip(before[row["id"]], after[row["id"]], strict=True))
        assert row["kl_nats"] == pytest.approx(kl, abs=1e-9)


def test_instructions_and_run_say_the_score(made: SimpleNamespace) -> None:
    rows = pl.read_parquet(made.folder / "instructions/annals_incompatible/train.parquet")
    assert set(rows["score"]) == {made.score}
    sure = {id_: max(probs) for id_, probs in list_by_hand(made, "probe").items()}
    assert rows["confidence"].to_list() == pytest.approx([sure[id_] for id_ in rows["id"]])
    assert read_manifest(made.folder / "instructions")["config"]["score"] == made.score
    assert read_manifest(made.folder / "runs/model")["config"]["score"] == made.score
    card = (made.folder / "instructions/README.md").read_text()
    assert f"--score {made.score}" in card
    assert f"is made of\n{SCORES[made.score][1]}." in card


def test_the_comparison_and_the_report_say_by_which_score(made: SimpleNamespace) -> None:
    sides = [[made.folder / "runs" / f"samples_{name}_1.jsonl"] for name in ("probe", "chat")]
    compared = compare_logs(*sides)  # by the manifest of the run
    kl = made.study.measures.filter(phase="tuned_chat")["kl_nats"].mean()
    assert compared["kl_nats"] == pytest.approx(kl)
    assert compared["before"]["score"] == compared["after"]["score"] == made.score
    model, domain = made.study.runs.select("model", "domain").row(0)
    for text in (write_comparison(compared), count_study(made.study, model, domain)["varied"]):
        assert f"a probability is made of {SCORES[made.score][1]}, before and after alike." in text
    other = compare_logs(*sides, score="pmi")
    assert (other["kl_nats"] == pytest.approx(kl)) == (made.score == "pmi")
    with pytest.raises(UserError, match="--score 'x' is none of sum"):
        compare_logs(*sides, score="x")
