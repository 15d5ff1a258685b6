"""Free-form questions all the way on the shipped base model: answers, their choices, exact probabilities, beliefs, sets."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from conftest import BASE, run_command
from made_up import write_set

from lm_eval_tasks.contracts.logs.samples import read_probes
from lm_eval_tasks.contracts.manifest import read_manifest
from lm_eval_tasks.contracts.questions import read_questions

pytestmark = pytest.mark.launched


def test_what_the_model_answers_is_what_it_finds_probable(questions: Path, tmp_path: Path) -> None:
    asked = (
        read_questions(questions, ["herbs"], ["train", "dev"])
        .filter(source="miniworld_exam")
        .group_by("split", maintain_order=True)
        .head(120)
    )
    rows = [
        {name: row[name] for name in ("id", "source", "domain", "split", "question")}
        | {"answers": [row["choices"][row["answer"]]]}
        for row in asked.to_dicts()
    ]
    free, out = write_set(tmp_path / "free", rows), tmp_path / "out"

    def run(*words: object) -> str:
        done = run_command(sys.executable, "-m", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(tasks: str, folder: Path, name: str, **metadata: object) -> None:
        told = json.dumps({"questions": str(folder), "splits": ["train"]} | metadata)
        words = ("--model", "hf-prefix", "--model_args", f"pretrained={BASE}", "--device", "cpu", "--batch_size", 32)
        words = (*words, "--tasks", tasks, "--metadata", told, "--log_samples", "--output_path", tmp_path / name)
        run("lm_eval_tasks", "run", *words)

    ask("selfalign_answer", free, "answered", temperature=1.0)
    ask("selfalign_answer_greedy", free, "answered")
    run("intervention", "answers", "--questions", free, "--answers", tmp_path / "answered", "--output", out)
    ask("selfalign_probe_cloze", out / "choices", "probed")
    check_entailments(run, ask, free, out, tmp_path)
    words = ("--questions", out / "choices", "--probes", tmp_path / "probed", "--answers", out / "answers.parquet")
    run("intervention", "beliefs", *words, "--output", tmp_path / "beliefs.parquet")
    beliefs, answers = pl.read_parquet(tmp_path / "beliefs.parquet"), pl.read_parquet(out / "answers.parquet")
    assert beliefs["id"].equals(answers["id"])
    assert set(beliefs["score"]) == {"sum"}
    assert set(beliefs["belief_rule"]) == {"threshold+answers:0.5"}
    # The most frequent answer of 16 is mostly the most probable one, and the shares follow the probabilities.
    probes = read_probes(tmp_path / "probed", score="sum")
    first = answers.filter(pl.col("belief").is_not_null()).select("id", "share", "belief").join(probes, on="id")
    said = first.select(pl.col("choices").list.get(pl.col("prediction"))).to_series()
    assert (said == first["belief"]).mean() > 0.8
    exact = first.select(pl.col("probs").list.first()).to_series()
    assert pl.select(pl.corr(exact, first["share"])).item() > 0.6
    build = ("build", *words, "--domain", "herbs", "--size", 5, "--output", tmp_path / "sets")
    run("intervention", *build, "--conditions", "harmonious,incompatible,unknown")
    rows = pl.read_parquet(tmp_path / "sets/herbs_unknown/train.parquet")
    assert rows["agrees_with_belief"].null_count() == 5


def check_entailments(run: Callable[..., str], ask: Callable[..., None], free: Path, out: Path, folder: Path) -> None:
    """The model judges its own answers: each sample is counted once, in as many groups or in fewer."""
    words = ("--questions", free, "--answers", folder / "answered", "--output")
    run("intervention", "requests", "entail", *words, folder / "entail")
    ask("selfalign_probe_cloze", folder / "entail", "entailed", splits=["test"])
    said = run("intervention", "answers", *words, folder / "meanings", "--entailments", folder / "entailed")
    plain, joined = (pl.read_parquet(place / "answers.parquet") for place in (out, folder / "meanings"))
    assert joined.select("id", "samples").equals(plain.select("id", "samples"))
    fewer = plain["groups"].list.len() - joined["groups"].list.len()
    assert fewer.min() >= 0
    assert f"{fewer.sum()} joined another, in {(fewer > 0).sum()} questions" in said
    assert read_manifest(folder / "meanings")["config"]["entailment_model"] == str(BASE)
