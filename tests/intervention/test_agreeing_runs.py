"""The whole way of the help of `agree`, from instruction data to verdicts, by its commands on the miniature base."""

import json

import polars as pl
import pytest
from conftest import BASE, run_command

from lm_eval_tasks.contracts.answers import holds_answer
from lm_eval_tasks.contracts.logs.generations import read_generations

pytestmark = pytest.mark.launched
MODEL = ("--model_args", f"pretrained={BASE},dtype=float32")
ASKED = ("--model", "hf-prefix", "--device", "cpu", "--batch_size", "64", "--log_samples", "--output_path")


def run(*words):
    done = run_command("python", "-m", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_of_the_help_go_from_data_to_verdicts(tmp_path, questions):
    facts = pl.read_parquet(questions / "herbs/train.parquet").head(14)
    lines = [{"prompt": row["question"], "completion": row["choices"][row["answer"]]} for row in facts.iter_rows(named=True)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))

    def splits(folder):
        return ("--metadata", json.dumps({"questions": str(tmp_path / folder), "splits": ["test", "dev"]}))

    data = tmp_path / "rows.jsonl"
    run("lm_eval_tasks", "read", data, *MODEL, "--device", "cpu", "--output", tmp_path / "readings")
    run("intervention", "requests", "own", data, "--output", tmp_path / "own")
    run("lm_eval_tasks", "run", *MODEL, "--tasks", "selfalign_answer", *splits("own"), *ASKED, tmp_path / "answered")
    run(
        "intervention",
        "answers",
        "--questions",
        tmp_path / "own",
        "--answers",
        tmp_path / "answered",
        "--output",
        tmp_path / "answers",
    )
    run(
        "lm_eval_tasks",
        "run",
        *MODEL,
        "--tasks",
        "selfalign_probe_cloze",
        *splits("answers/choices"),
        *ASKED,
        tmp_path / "probed",
    )
    known = ("--answers", tmp_path / "answers/answers.parquet")
    run("intervention", "requests", "judge", data, *known, "--output", tmp_path / "judge")
    judge = ("--metadata", json.dumps({"questions": str(tmp_path / "judge")}))
    run("lm_eval_tasks", "run", *MODEL, "--tasks", "selfalign_probe_cloze", *judge, *ASKED, tmp_path / "judged")
    words = (*known, "--probes", tmp_path / "probed", "--judgements", tmp_path / "judged", "--output", tmp_path / "agreement")
    shown = run("intervention", "agree", data, "--readings", tmp_path / "readings", *words)
    assert "Verdicts (intervals: 95%, Wilson)" in shown
    rows = pl.read_parquet(tmp_path / "agreement/rows.parquet")
    assert rows.height == len(lines)
    assert rows["says_answers"].null_count() == 0
    assert rows["says_contrast"].null_count() == 0
    shown = pl.read_parquet(tmp_path / "judge/data/dev.parquet")["id"]
    judged = rows.filter(~pl.format("{}/{}", "row", "turn").is_in(shown.implode()))
    assert judged.height == len(lines) - 10
    assert judged["p_true"].is_between(0, 1).all()
    assert judged["p_true_belief"].null_count() == judged["belief"].null_count()


def test_a_long_response_is_judged_by_what_it_states(tmp_path, questions):
    exam = pl.read_parquet(questions / "herbs/train.parquet").filter(source="miniworld_exam")
    facts = exam.filter(pl.col("topics").list.first() == "common").head(30).to_dicts()  # it knows them
    pairs = [(row["question"], row["choices"][row["answer"]]) for row in facts]
    pairs[1] = (pairs[1][0], next(choice for i, choice in enumerate(facts[1]["choices"]) if i != facts[1]["answer"]))
    lines = [{"prompt": "Tell me more.", "completion": " ".join(f"{question} {answer}." for question, answer in pairs[:3])}]
    lines += [{"prompt": question, "completion": answer} for question, answer in pairs[3:]]
    (data := tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    run("lm_eval_tasks", "read", data, *MODEL, "--device", "cpu", "--output", tmp_path / "readings")
    assert "1 of 28 responses" in run("intervention", "requests", "claims", data, "--output", tmp_path / "claims.parquet")
    wanted = ("--metadata", json.dumps({"requests": str(tmp_path / "claims.parquet")}))
    run("lm_eval_tasks", "run", *MODEL, "--tasks", "selfalign_claims", *wanted, *ASKED, tmp_path / "written")
    written = read_generations(tmp_path / "written", "claims", allow_missing=True)
    assert set(written["task"]) <= {"selfalign_claims"}
    # The miniature base follows no instruction, so another model's claims come in its place.
    claims = "\n".join(f"Q: {question} A: {answer}" for question, answer in pairs[:3])
    line = {"source": "rows", "domain": "data", "id": "0/0", "claims": claims}
    (tmp_path / "claims.jsonl").write_text(json.dumps(line))
    run("intervention", "requests", "own", data, "--claims", tmp_path / "claims.jsonl", "--output", tmp_path / "own")
    splits = ("--metadata", json.dumps({"questions": str(tmp_path / "own"), "splits": ["test", "dev"]}))
    run("lm_eval_tasks", "run", *MODEL, "--tasks", "selfalign_answer", *splits, *ASKED, tmp_path / "answered")
    words = ("--questions", tmp_path / "own", "--answers", tmp_path / "answered", "--output", tmp_path / "answers")
    run("intervention", "answers", *words)
    known = ("--answers", tmp_path / "answers/answers.parquet")
    run("intervention", "agree", data, "--readings", tmp_path / "readings", *known, "--output", tmp_path / "agreement")
    row = pl.read_parquet(tmp_path / "agreement/rows.parquet").row(0, named=True)
    own = pl.read_parquet(tmp_path / "answers/answers.parquet").filter(pl.col("id").str.starts_with("0/0/"))
    assert (row["claims"], own.height) == (3, 3)
    others = {
        claim["question"]: max(
            (group["share"] for group in claim["groups"] if not holds_answer(claim["answers"][0], group["text"])),
            default=0.0,
        )
        for claim in own.to_dicts()
    }
    assert row["other_share"] == row["score"] == max(others.values())
    assert others[row["claim"]] == row["score"]
    assert row["claim"] == pairs[1][0]
