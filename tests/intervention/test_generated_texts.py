"""From the base model's own beliefs to explained and contextualized sets: every text asked through the real lm-eval."""

import json
import sys
from pathlib import Path

import polars as pl
import pytest
from conftest import BASE, run_command

from lm_eval_tasks.contracts.questions import read_questions

pytestmark = pytest.mark.launched

N = 20
INTERVENTION = (sys.executable, "-m", "intervention")


def run(*words: object) -> str:
    done = run_command(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def place(questions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few train questions of the miniature world, probed; the logs of its base model's texts about them."""
    folder = tmp_path_factory.mktemp("generated")
    table = read_questions(questions, ["herbs"])
    keep = pl.concat([table.filter(split="train").head(N), table.filter(split="dev")])
    lines = folder / "few.jsonl"
    keep.drop("question_hash").write_ndjson(lines)
    run(*INTERVENTION, "questions", "jsonl", lines, "--output", folder / "few")
    asked = (
        "--tasks", "selfalign_miniworld_probe", "--log_samples", "--metadata",
        json.dumps({"questions": str(folder / "few"), "splits": ["train"]}), "--output_path", folder / "probe",
    )  # fmt: skip
    ask = (sys.executable, "-m", "lm_eval_tasks", "run")
    model = ("--model", "hf-prefix", "--model_args", f"pretrained={BASE}", "--device", "cpu", "--batch_size", "32")
    run(*ask, *model, *asked)
    inputs = ("--questions", folder / "few", "--probes", folder / "probe", "--domain", "herbs", "--score", "sum")
    run(*INTERVENTION, "requests", "explain", *inputs, "--output", folder / "explain.parquet")
    run(*INTERVENTION, "requests", "context", *inputs, "--output", folder / "context.parquet")
    model = ("--model", "hf", "--model_args", f"pretrained={BASE}", "--device", "cpu", "--batch_size", "32")
    words = []
    for task in ("explain", "context"):
        metadata = json.dumps({"requests": str(folder / f"{task}.parquet")})
        words += [*model, "--tasks", f"selfalign_{task}", "--metadata", metadata, "--gen_kwargs", '{"max_gen_toks": 12}',
                  "--log_samples", "--output_path", folder / task, "then"]  # fmt: skip
    run(*ask, *words[:-1])
    probe = {"questions": str(folder / "few"), "splits": ["train"], "contexts": str(folder / "context")}
    run(*ask, *model, "--tasks", "selfalign_miniworld_probe_context", "--metadata", json.dumps(probe), "--log_samples",
        "--output_path", folder / "moved")  # fmt: skip
    return folder


def test_the_models_own_texts_become_instruction_sets(place: Path) -> None:
    inputs = ("--questions", place / "few", "--probes", place / "probe", "--domain", "herbs", "--score", "sum")
    told = run(
        *INTERVENTION, "build", *inputs, "--conditions", "incompatible,self_aligning,contextualized", "--explanations", "paper",
        "--explanations", place / "explain", "--contexts", place / "context", "--context-probes", place / "moved",
        "--allow-missing", "--size", "3", "--output", place / "sets",
    )  # fmt: skip
    assert "after their context; the context moves the belief to gold in 0." in told
    written = {
        row["doc"]["id"]: row["doc"]["text"]
        for file in (place / "explain").rglob("samples_*.jsonl")
        for row in map(json.loads, file.read_text().splitlines())
    }
    table = pl.read_parquet(place / "sets/herbs_self_aligning/train.parquet")
    assert table.height
    for row in table.iter_rows(named=True):
        assert row["explanation_from"] == "model"
        assert row["completion"][0]["content"].split("\n\n", 1)[1] == written[row["id"]].strip()
    told = pl.read_parquet(place / "sets/herbs_contextualized/train.parquet")
    plain = pl.read_parquet(place / "sets/herbs_incompatible/train.parquet")
    for with_context, without in zip(told["prompt"], plain["prompt"], strict=True):
        assert with_context[0]["content"].endswith(f"\n\n{without[0]['content']}")
    terms = json.loads((place / "sets/manifest.json").read_text())["config"]["terms"]
    assert [term["part"] for term in terms] == ["questions", "explanations", "contexts"]


def test_contexts_cannot_pass_for_explanations(place: Path) -> None:
    done = run_command(
        *INTERVENTION, "build", "--questions", place / "few", "--probes", place / "probe", "--domain", "herbs",
        "--score", "sum",
        "--conditions", "self_aligning", "--explanations", place / "context", "--output", place / "never",
    )  # fmt: skip
    assert done.returncode == 2
    assert "here each is to be 'explanation'" in done.stderr
    assert not (place / "never").exists()
