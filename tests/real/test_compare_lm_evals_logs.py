"""Logs of lm-eval's own tasks, made here with real models, compared: what lm-eval and statsmodels make of the same samples."""

import gzip
import json
import sys
from pathlib import Path

import lm_eval
import numpy as np
import polars as pl
import pytest
import yaml
from conftest import run_command
from scipy.special import rel_entr, softmax
from statsmodels.stats.contingency_tables import mcnemar

from .test_mmlu_as_lm_eval import write_bank

pytestmark = pytest.mark.launched

TASKS = Path(lm_eval.__file__).parent / "tasks"
EACH = 16
SUBJECTS = ("abstract_algebra", "management")
METRICS = {"arc_easy": "acc", "mmlu_abstract_algebra": "acc", "mmlu_management": "acc", "triviaqa": "exact_match"}


def read_rows(file: Path) -> list[dict]:
    with gzip.open(file, "rt") as lines:
        return [json.loads(line) for _, line in zip(range(EACH), lines, strict=False)]


def write_tasks(banks: Path, folder: Path) -> None:
    """lm-eval's own tasks, their questions from files in the layout of the Hub's data sets."""
    arc = [
        {
            "question": row["question"],
            "choices": {"text": row["choices"], "label": list("ABCDE")[: len(row["choices"])]},
            "answerKey": "ABCDE"[row["answer"]],
        }
        for row in read_rows(banks / "arc_easy/test.jsonl.gz")
    ]
    facts = [
        {"question": row["question"].rstrip("?"), "answer": {"aliases": row["answers"]}}
        for row in read_rows(banks / "entity_questions/P36.jsonl.gz")
    ]
    write_bank(banks / "mmlu", folder / "mmlu", SUBJECTS, EACH)
    own = {"arc_easy": ("arc/arc_easy.yaml", arc, "test"), "triviaqa": ("triviaqa/default.yaml", facts, "validation")}
    for name, (file, rows, split) in own.items():
        pl.DataFrame(rows).write_parquet(folder / f"{name}.parquet")
        data = {"dataset_path": "parquet", "dataset_name": None, "training_split": None}
        data |= {"dataset_kwargs": {"data_files": {split: str(folder / f"{name}.parquet")}}}
        data |= {"validation_split": "validation"} if split == "validation" else {"validation_split": None}
        write_task(folder, name, file, data)
    for name in SUBJECTS:
        write_task(folder, f"mmlu_{name}", f"mmlu/default/mmlu_{name}.yaml", {"dataset_path": str(folder / "mmlu")})


def write_task(folder: Path, name: str, file: str, changes: dict) -> None:
    (folder / f"own_{name}.yaml").write_text(yaml.safe_dump({"task": f"own_{name}", "include": str(TASKS / file)} | changes))


@pytest.fixture
def logs(banks, smollm, gemma, tmp_path):
    """The logs of both models, each below its name."""
    (tmp_path / "tasks").mkdir()
    write_tasks(banks, tmp_path / "tasks")
    for model in (smollm, gemma):
        done = run_command(
            *("lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32", "--device", "cpu"),
            *(
                "--include_path",
                tmp_path / "tasks",
                "--tasks",
                ",".join(f"own_{name}" for name in METRICS),
                "--batch_size",
                "8",
            ),
            *("--log_samples", "--output_path", tmp_path / model.name, "--gen_kwargs", "max_gen_toks=12"),
        )
        assert done.returncode == 0, done.stderr
    return tmp_path / smollm.name, tmp_path / gemma.name


def test_two_real_models_are_compared_on_lm_evals_own_tasks(logs):
    done = run_command(sys.executable, "-m", "analysis", "compare", *logs, "--json")
    assert done.returncode == 0, done.stderr
    tables = json.loads(done.stdout)["filters"]
    results, samples = [read_results(folder) for folder in logs], [read_samples(folder) for folder in logs]
    for name, metric in METRICS.items():
        filtered = "remove_whitespace" if metric == "exact_match" else "none"
        (row,) = (row for row in tables[filtered][metric] if row["task"] == f"own_{name}")
        told = [side[f"own_{name}"][f"{metric},{filtered}"] for side in results]
        assert (row["n"], row["first"], row["second"]) == (EACH, *map(pytest.approx, told))
        one, other = (np.array([side[name, i][metric] for i in range(EACH)]) == 1 for side in samples)
        table = [[(one & other).sum(), (~one & other).sum()], [(one & ~other).sum(), (~one & ~other).sum()]]
        assert (row["gained"], row["lost"]) == (table[0][1], table[1][0])
        assert row["p"] == pytest.approx(mcnemar(table, exact=True).pvalue)
        if metric == "acc":
            (moved,) = (row for row in tables["none"]["choices"] if row["task"] == f"own_{name}")
            p, q = (np.array([read_choices(side[name, i]) for i in range(EACH)]) for side in samples)
            assert moved["same_choice"] == (p.argmax(1) == q.argmax(1)).mean()
            assert moved["kl_nats"] == pytest.approx(rel_entr(softmax(p, 1), softmax(q, 1)).sum(1).mean())


def read_results(folder: Path) -> dict:
    (file,) = folder.rglob("results_*.json")
    return json.loads(file.read_text())["results"]


def read_samples(folder: Path) -> dict[tuple[str, int], dict]:
    """The samples by task and number."""
    rows = {}
    for file in folder.rglob("samples_*.jsonl"):
        name = file.name.removeprefix("samples_own_").rpartition("_")[0]
        rows |= {(name, row["doc_id"]): row for row in map(json.loads, file.read_text().splitlines())}
    return rows


def read_choices(row: dict) -> list[float]:
    """The log-likelihood of each choice, nats."""
    return [float(answer[0]) for answer in row["filtered_resps"]]
