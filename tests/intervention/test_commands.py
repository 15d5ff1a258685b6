"""The commands as a user types them: from lines of JSON to instruction sets, and one message where it cannot be."""

import ast
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from made_up import make_probes, make_rows, write_jsonl, write_log

ROOT = Path(__file__).parents[2]


def run(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "intervention", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a question set and a sample log, made by the commands."""
    folder = tmp_path_factory.mktemp("commands")
    done = run("questions", "jsonl", write_jsonl(folder / "q.jsonl", make_rows(150)), "--output", folder / "set")
    assert done.returncode == 0, done.stderr
    assert "| herbs  | made_up | train | 150 " in done.stdout
    (folder / "logs" / "base").mkdir(parents=True)
    write_log(folder / "logs" / "base" / "samples_a.jsonl", make_probes(folder / "set"))
    return folder


def test_from_questions_to_instruction_sets(place: Path) -> None:
    inputs = ("--questions", place / "set", "--probes", place / "logs")
    done = run("beliefs", *inputs, "--output", place / "beliefs.parquet")
    assert done.returncode == 0, done.stderr
    assert "150 questions (0 in" in done.stdout
    sizes = pl.read_parquet(place / "beliefs.parquet")["class"].value_counts()
    done = run(
        "build",
        *inputs,
        "--domain",
        "herbs",
        "--conditions",
        "harmonious,mix",
        "--ratio",
        0.2,
        "--ratio",
        0.4,
        "--output",
        place / "out",
    )
    assert done.returncode == 0, done.stderr
    size = sizes.filter(pl.col("class").is_in(["right", "wrong"]))["count"].min()
    assert f"| mix-0.2    | {size} " in done.stdout
    assert {path.name for path in (place / "out").iterdir()} == {
        "README.md", "manifest.json", "herbs_harmonious", "herbs_mix-0.2", "herbs_mix-0.4",
    }  # fmt: skip


BUILD = "build --domain herbs --output {place}/new --probes {place}"
BAD = [
    ("questions jsonl {place}/none.jsonl --output {place}/new", "none.jsonl is not a file"),
    ("questions jsonl {place}/q.jsonl --output {place}/q.jsonl", "is a file, but a folder is to be written there"),
    ("questions jsonl {place}/q.jsonl --output {place}/q.jsonl/x", "cannot write in"),
    (BUILD + "/logs --questions {place}/logs", "is not a data set folder"),
    (BUILD + "/set --questions {place}/set", "holds no sample log"),
    (BUILD + "/logs --questions {place}/set --size 1000", "--size 1000: of the train questions there are"),
    ("beliefs --questions {place}/set --probes {place}/logs --output {place}/set", "cannot write"),
    ("released --input {place} --output {place}/new", "holds no released group"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_an_error_is_one_line_and_leaves_nothing(place: Path, words: str, message: str) -> None:
    before = sorted(place.rglob("*"))
    done = run(*words.format(place=place).split())
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert sorted(place.rglob("*")) == before


FULL = [
    "questions jsonl {place}/q.jsonl --output {place}/new",
    "beliefs --questions {place}/set --probes {place}/logs --output {place}/new.parquet",
    BUILD + "/logs --questions {place}/set",
]


@pytest.mark.parametrize("words", FULL)
def test_a_full_disk_leaves_nothing_half_written(place: Path, words: str) -> None:
    """No file may grow beyond 2 kB, which fails as a full disk does: in the middle of a write."""
    before = sorted(place.rglob("*"))
    done = run(*words.format(place=place).split(), preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000)))
    assert done.returncode == 2, done.stderr
    assert "Check the space" in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(place.rglob("*")) == before


def test_no_example_of_a_help_text_has_lost_the_end_of_a_line() -> None:
    """A backslash that stands alone before a line's end joins two lines of a docstring."""
    files = [file for name in ("lm_eval_tasks", "intervention", "recipes", "analysis") for file in (ROOT / name).rglob("*.py")]
    parts = (node for file in files for node in ast.walk(ast.parse(file.read_text())))
    texts = [ast.get_docstring(node, clean=False) or "" for node in parts if isinstance(node, (ast.FunctionDef, ast.Module))]
    examples = [text for text in texts if "Example:" in text]
    assert len(examples) > 20
    assert not [line for text in examples for line in text.splitlines() if re.search(r"\S {4,}--", line)]


@pytest.mark.parametrize("command", [["questions", "jsonl"], ["beliefs"], ["build"], ["released"]])
def test_help_teaches_with_an_example(command: list[str]) -> None:
    done = run(*command, "--help")
    assert done.returncode == 0
    assert f"Example:\n    python -m intervention {' '.join(command)} " in done.stdout
