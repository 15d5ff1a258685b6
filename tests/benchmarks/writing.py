"""`python tests/benchmarks/writing.py`: how fast beliefs and instruction sets are written, and how that grows.

Each stage is the command itself, in a process of its own: its seconds, its processor seconds and its peak memory are what the
system counted for that process. Questions and probes are made up.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import polars as pl
import typer
import yaml
from tabulate import tabulate

from lm_eval_tasks.contracts.logs.averages import write_lists
from lm_eval_tasks.contracts.logs.probe_table import complete_probes, write_probes
from lm_eval_tasks.contracts.manifest import write_manifest
from lm_eval_tasks.contracts.questions import QUESTION_SCHEMA, hash_questions

DOMAIN = "herbs"
CHOICES = 4
ROWS_PER_GROUP = 100_000


class Taken(NamedTuple):
    """What a process took."""

    seconds: float
    processor: float  # seconds, of all its threads
    peak: int  # bytes


def make_questions(n: int) -> pl.DataFrame:
    """`n` questions with the lengths of MedMCQA's: about 100 characters, choices of 20, explanations of 200."""
    number = pl.int_range(n).cast(pl.String)
    filler = "which of those that grow beside the river, and are dried in the shade before the first frost, brings it? "
    rng = np.random.default_rng(0)
    return pl.select(
        id="q" + number,
        source=pl.lit("made_up"),
        domain=pl.lit(DOMAIN),
        subject=pl.lit(None),
        question=pl.lit("Of herb ") + number + ": " + filler,
        choices=pl.concat_list(pl.lit(f"{word} that comes with ") + number for word in ("sleep", "luck", "rain", "gold")),
        answer=pl.Series(rng.integers(CHOICES, size=n)),
        explanation=pl.lit("Herb ") + number + " is known for it; " + filler + filler,
        topics=pl.lit(None),
    ).cast(dict(QUESTION_SCHEMA))


def write_questions(folder: Path, table: pl.DataFrame) -> None:
    """A question set whose questions are all train questions."""
    file = folder / DOMAIN / "train.parquet"
    file.parent.mkdir(parents=True)
    table.write_parquet(file, row_group_size=ROWS_PER_GROUP)
    splits = [{"split": "train", "path": f"{DOMAIN}/train.parquet"}]
    header = yaml.safe_dump({"configs": [{"config_name": DOMAIN, "data_files": splits}]})
    (folder / "README.md").write_text(f"---\n{header}---\n\nMade up.\n")
    write_manifest(folder, "questions", [], {"terms": []}, {}, {})


def make_probes(questions: pl.DataFrame, asked: int, vary: str) -> pl.DataFrame:
    """What a made-up model says the `asked`th time: it is right about half the questions, and surer of some than of others.

    Args:
        questions: the questions, with `question_hash`.
        asked: which draw of demonstrations, or which order of the choices.
        vary: `draw` or `order`.
    """
    n = questions.height
    fixed, own = np.random.default_rng(1), np.random.default_rng(asked + 2)
    logits = fixed.normal(scale=1.5, size=(n, CHOICES)) + own.normal(scale=0.3, size=(n, CHOICES))
    logits[np.arange(n), questions["answer"].to_numpy()] += 1
    weights = np.exp(logits)
    probs = weights / weights.sum(axis=1, keepdims=True)
    lengths = np.full(n, CHOICES)
    names = {"model": "made up", "run": "", "phase": "base_probe", "scoring": "letter", "task": "made_up", "split": "train"}
    table = questions.with_columns(
        *(pl.lit(value).alias(name) for name, value in names.items()),
        *(pl.lit(asked if name == vary else 0).alias(name) for name in ("draw", "order")),
        write_lists("probs", probs, lengths),
        write_lists("loglikelihoods", np.log(probs), lengths),
        choice_mass=pl.lit(1.0),
        prediction=pl.Series(probs.argmax(axis=1)),
        confidence=pl.Series(probs.max(axis=1)),
    )
    return complete_probes(table.with_columns(correct=pl.col("prediction") == pl.col("answer")), "made up")


def write_inputs(folder: Path, n: int, tables: int, vary: str) -> None:
    """A question set and `tables` probe tables of its `n` questions."""
    questions = make_questions(n)
    write_questions(folder / "questions", questions)
    questions = questions.with_columns(hash_questions(questions))
    (folder / "probes").mkdir()
    for asked in range(tables):
        write_probes(make_probes(questions, asked, vary), folder / "probes" / f"probes_{asked}.parquet")


def run_stage(command: list[str]) -> Taken:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed.
    """
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen([sys.executable, *command], stdout=told, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        told.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{told.read()}")
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return Taken(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


def list_stages(folder: Path) -> dict[str, list[str]]:
    """The command line of each stage. The build writes all conditions that need no further log, and no general instructions."""
    inputs = ["--questions", str(folder / "questions"), "--probes", str(folder / "probes")]
    start = ["-m", "intervention"]
    build = ["--domain", DOMAIN, "--general-share", "0", "--output", str(folder / "instructions")]
    return {
        "beliefs": [*start, "beliefs", *inputs, "--output", str(folder / "beliefs.parquet")],
        "build": [*start, "build", *inputs, *build],
    }


def measure_size(n: int, tables: int, vary: str, scratch: Path | None = None) -> dict[str, Taken]:
    """What each stage takes for `n` questions; the files are removed."""
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        folder = Path(name)
        here = "import sys; sys.path[:0] = [sys.argv[1]]; from writing import *; write_inputs(Path(sys.argv[2]), {}, {}, {!r})"
        run_stage(["-c", here.format(n, tables, vary), str(Path(__file__).parent), name])
        return {stage: run_stage(command) for stage, command in list_stages(folder).items()}


def describe_growth(found: dict[int, dict[str, Taken]]) -> list[dict[str, object]]:
    """One row a size and stage; growth: processor seconds against the smaller size, divided by what linear growth gives."""
    rows = []
    before: tuple[int, dict[str, Taken]] | None = None
    for n, stages in found.items():
        both = Taken(
            *(sum(values) for values in list(zip(*stages.values(), strict=True))[:2]), max(t.peak for t in stages.values())
        )
        stages = {**stages, "both": both}
        for stage, taken in stages.items():
            growth = taken.processor / before[1][stage].processor / (n / before[0]) if before else None
            rows.append(
                {"questions": f"{n:,}", "stage": stage, "seconds": taken.seconds, "processor seconds": taken.processor}
                | {"questions a second": f"{n / taken.seconds:,.0f}", "peak GB": taken.peak / 1e9, "of linear growth": growth}
            )
        before = n, stages
    return rows


def main(
    sizes: Annotated[list[int], typer.Argument(help="Numbers of questions.")] = [10_000, 100_000, 1_000_000],  # noqa: B006
    tables: Annotated[int, typer.Option(help="Probe tables of each question.")] = 4,
    vary: Annotated[str, typer.Option(help="What differs between them: draw or order.")] = "draw",
    scratch: Annotated[Path | None, typer.Option(help="A folder for the files (5 GB for a million questions).")] = None,
) -> None:
    """Write beliefs and instruction sets of made-up questions, and print what each size takes."""
    print(f"# Writing: {tables} probe tables ({vary}s), {os.cpu_count()} processors\n", flush=True)
    rows = describe_growth({n: measure_size(n, tables, vary, scratch) for n in sorted(sizes)})
    print(tabulate(rows, headers="keys", floatfmt=".3g", tablefmt="github"))


if __name__ == "__main__":
    typer.run(main)
