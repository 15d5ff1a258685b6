"""What a real model writes about questions of a real bank is knowledge and explanations, ended where they end."""

import json

import polars as pl
import pytest
from conftest import run_command

from intervention.texts.requests import request_contexts, write_requests
from lm_eval_tasks.contracts.logs.generations import read_all, repeats_itself
from lm_eval_tasks.contracts.prompts import FENCE

pytestmark = pytest.mark.launched
ASKED = 6


def run(*words: object) -> str:
    done = run_command("python", "-m", *map(str, words))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def asked(banks, tmp_path):
    """A folder with a question set (`questions`) and requests of both kinds; explanations are asked of gold."""
    rows = pl.read_ndjson(banks / "arc_easy/train.jsonl.gz").head(ASKED)
    rows.write_ndjson(tmp_path / "arc_easy.jsonl")
    words = ["--splits", f"train={ASKED}", "--set", "domain=science", "--output", tmp_path / "questions"]
    run("intervention", "questions", "jsonl", tmp_path / "arc_easy.jsonl", *words)
    table = request_contexts(tmp_path / "questions", "science")
    write_requests(table, tmp_path / "context.parquet")
    explained = table.with_columns(response="answer", response_from=pl.lit("gold"))
    write_requests(explained, tmp_path / "explain.parquet")
    return tmp_path


@pytest.mark.parametrize(("task", "kind"), [("context", "context"), ("explain", "explanation")])
def test_texts_of_a_real_model_are_read_whole_and_audited(smollm, asked, task, kind):
    words = ["--model", "hf", "--model_args", f"pretrained={smollm},dtype=bfloat16", "--device", "cpu", "--batch_size", ASKED]
    words += ["--tasks", f"selfalign_{task}", "--metadata", json.dumps({"requests": str(asked / f"{task}.parquet")})]
    words += ["--gen_kwargs", "temperature=0,max_gen_toks=80", "--log_samples", "--output_path", asked / task]
    run("lm_eval_tasks", "run", *words)
    found, table = read_all(asked / task)
    assert (found, table.height) == (kind, ASKED)
    for text, finished in table.select("text", "finished").rows():
        assert len(text.split()) > 5
        assert FENCE not in text
        assert "# " not in text
        assert not repeats_itself(text)
        assert finished or text.endswith((".", "!", "?"))
    assert table["finished"].null_count() == 0
    told = run("intervention", "requests", "audit", asked / task, "--questions", asked / "questions")
    assert f"{ASKED} texts ({kind})" in told
    assert "nothing but a choice" in told.partition("Not found:")[2]
