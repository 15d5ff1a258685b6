"""What models are asked to write about: which questions, which answers, and the file that says so."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from made_up import believe, make_probes, make_rows, write_set, write_table

from intervention.believing.source import Source
from intervention.texts.requests import request_contexts, request_explanations, write_requests
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.requests import REQUEST_SCHEMA, read_requests
from lm_eval_tasks.contracts.questions import read_questions
from lm_eval_tasks.contracts.vocabulary import KEY

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A question set of two domains (`set`), and probes of its train and test questions (`probes.parquet`)."""
    folder = tmp_path_factory.mktemp("requests")
    rows = make_rows(60) + make_rows(20, split="test") + make_rows(30, seed=1, domain="engines")
    write_table(folder, make_probes(write_set(folder / "set", rows)))
    return folder


def find_wrong(study: Path, domain: str) -> pl.DataFrame:
    beliefs = believe(study / "set", [study / "probes.parquet"]).table
    return beliefs.filter(pl.col("class") == "wrong", pl.col("split") == "train", pl.col("domain") == domain)


def test_the_model_is_asked_to_explain_its_own_wrong_beliefs(study: Path) -> None:
    table = request_explanations(study / "set", Source([study / "probes.parquet"]), "herbs")
    wrong = find_wrong(study, "herbs")
    assert 5 < table.height < 60
    assert table.select(KEY).equals(wrong.select(KEY))
    assert table["response"].to_list() == wrong["belief"].to_list()
    assert (table["response"] != table["answer"]).all()
    assert set(table["response_from"]) == {"belief"}
    assert table.schema == REQUEST_SCHEMA


def test_gold_is_explained_of_every_probed_train_question(study: Path) -> None:
    table = request_explanations(study / "set", Source([study / "probes.parquet"]), "engines", answers="gold")
    own = read_questions(study / "set", ["engines"], ["train"])
    assert table.select(own.columns).equals(own)
    assert table["response"].equals(table["answer"], check_names=False)
    assert set(table["response_from"]) == {"gold"}


def test_a_threshold_decides_what_is_a_belief(study: Path) -> None:
    low, high = (
        request_explanations(study / "set", Source([study / "probes.parquet"], threshold=t), "herbs") for t in (0.1, 0.8)
    )
    assert high.height < low.height
    assert high.join(low, on=KEY, how="anti").is_empty()


def test_knowledge_is_asked_for_of_all_train_questions_or_of_those_believed_wrongly(study: Path) -> None:
    table = request_contexts(study / "set", "herbs")
    assert table.height == 60
    assert set(table["split"]) == {"train"}
    assert table["response"].null_count() == table["response_from"].null_count() == 60
    table = request_contexts(study / "set", "herbs", Source([study / "probes.parquet"]))
    assert table.select(KEY).equals(find_wrong(study, "herbs").select(KEY))


def test_what_is_written_reads_back_and_equal_inputs_give_equal_bytes(study: Path, tmp_path: Path) -> None:
    table = request_explanations(study / "set", Source([study / "probes.parquet"]), "herbs")
    for name in ("a", "b"):
        write_requests(table, tmp_path / "made" / f"{name}.parquet")
    assert read_requests(tmp_path / "made" / "a.parquet", "explanation").equals(table)
    assert (tmp_path / "made" / "a.parquet").read_bytes() == (tmp_path / "made" / "b.parquet").read_bytes()
    assert read_requests(tmp_path / "made" / "a.parquet", "context")["response"].null_count() == table.height


def test_the_commands_write_files_that_the_tasks_read_and_say_how_many(study: Path, tmp_path: Path) -> None:
    def run(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "intervention", "requests", *map(str, words)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    inputs = ("--questions", study / "set", "--probes", study / "probes.parquet", "--domain", "herbs")
    for kind, name in (("explain", "explanation"), ("context", "context")):
        done = run(kind, *inputs, "--output", tmp_path / f"{kind}.parquet")
        assert done.returncode == 0, done.stderr
        table = read_requests(tmp_path / f"{kind}.parquet", name)
        assert table.select(KEY).equals(find_wrong(study, "herbs").select(KEY))
        assert f"{kind}.parquet: {table.height} " in done.stdout
        assert f"selfalign_{kind}" in run(kind, "--help").stdout
    done = run("explain", *inputs, "--answers", "mine", "--output", tmp_path / "no.parquet")
    assert done.returncode == 2
    assert done.stderr == "error: --answers mine is neither belief nor gold.\n"
    assert not (tmp_path / "no.parquet").exists()


def test_what_cannot_be_asked_for_is_said_with_its_remedy(study: Path, tmp_path: Path) -> None:
    probes = [study / "probes.parquet"]
    with pytest.raises(UserError, match="has no domain 'annals'; it has engines, herbs"):
        request_contexts(study / "set", "annals")
    with pytest.raises(
        UserError,
        match=r"no wrong belief about the 60 .* of herbs \(by the rule threshold:1.*--belief-rule",
    ):
        request_explanations(study / "set", Source(probes, threshold=1), "herbs")
    with pytest.raises(UserError, match="no wrong belief"):
        request_contexts(study / "set", "herbs", Source(probes, threshold=1))
    tested = write_table(tmp_path, pl.read_parquet(probes[0]).filter(split="test"))
    with pytest.raises(UserError, match=r"no train question of the domain was probed\. Ask them"):
        request_explanations(study / "set", Source([tested]), "herbs")
    others = write_set(tmp_path / "others", make_rows(60, seed=5) + make_rows(20, split="test") + make_rows(30, 1, "engines"))
    with pytest.raises(UserError, match="was asked with another text, choices or answer"):
        request_explanations(others, Source(probes), "herbs")
