"""`python tests/benchmarks/reporting.py`: how fast logs are read, and what the report of a large study takes, and the demo's.

The study is made up, in lm-eval's own form: a base model asked few-shot, and runs of every ratio in every domain asked in the
chat prompt, of as many questions as MMLU has, with prompts as long as MMLU's. The plain side of reading parses each line with
the standard library's json, and does no more with it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer
from scipy.special import log_softmax
from tabulate import tabulate

from lm_eval_tasks.contracts.logs.samples import read_probes
from lm_eval_tasks.contracts.manifest import write_manifest
from lm_eval_tasks.contracts.questions import QUESTION_SCHEMA, hash_questions

DOMAINS = ("medicine", "history", "engineering", "jurisprudence")
RATIOS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
ENDS = {0.0: "incompatible", 1.0: "self_aligning"}
CHOICES = 4
# All numbers and tables of a report, without its figures and its page.
TABLES = """
import sys
from analysis.reporting.contents import compute_frames, list_parts, list_tables, list_tables_across
from analysis.showing.latex import write_latex
from analysis.reading.study import read_study
from analysis.showing.tables import write_markdown
study = read_study(sys.argv[1])
frames = compute_frames(study).frames
sections = [tables for part in list_parts(study, frames) for tables in list_tables(part).values()]
for table in sum(sections, list_tables_across(frames)):
    write_markdown(table), write_latex(table)
"""
PLAIN = "json, line by line"
DEMO = Path("runs/miniworld")
REPORT = ("-m", "analysis", "report", "--runs")
SHOT = 700  # characters of a question with its choices, as MMLU's are on average


def make_questions(count: int) -> pl.DataFrame:
    """Made-up questions: of each trained domain 300 of its own source, or fewer, and MMLU's, half of them of other domains."""
    own = min(300, count // 16)
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        domain = DOMAINS[i % len(DOMAINS)] if i < own * len(DOMAINS) or i % 2 else "other"
        source = "exams" if i < own * len(DOMAINS) else "mmlu"
        text = f"Question {i} " + "".join(rng.choice(list("abcdefghij      "), SHOT // 2))
        choices = [f"{letter} " + "".join(rng.choice(list("abcdefghij  "), SHOT // 12)) for letter in "uvwx"]
        rows.append((str(i), source, domain, f"{domain} {i % 14}", text, choices, i % CHOICES, None, []))
    table = pl.DataFrame(rows, schema=QUESTION_SCHEMA, orient="row")
    return table.with_columns(hash_questions(table), split=pl.lit("test"), order=0, draw=0, scoring=pl.lit("letter"))


def write_log(questions: pl.DataFrame, logits: np.ndarray, shots: int, file: Path, **names: str) -> None:
    """A log as lm-eval writes it, with the prompt of every choice.

    Args:
        questions: as `make_questions` gives them.
        logits: (n, CHOICES).
        shots: demonstrations in a prompt.
        file: the log.
        names: `model`, `run`, `phase` and `task` of all samples.
    """
    logs = log_softmax(logits, axis=1)
    prediction = logs.argmax(axis=1)
    lists = {name: pl.Series(values.tolist()) for name, values in (("loglikelihoods", logs), ("probs", np.exp(logs)))}
    probed = questions.with_columns(
        **lists,
        choice_mass=pl.lit(1.0),
        prediction=pl.Series(prediction),
        confidence=pl.Series(np.exp(logs).max(axis=1)),
        correct=pl.Series(prediction == questions["answer"].to_numpy()),
        **{name: pl.lit(value) for name, value in names.items()},
    )
    prompt = pl.concat_str(pl.lit("d" * SHOT * shots), "question", pl.col("choices").list.join("\n"))
    request = pl.struct(arg_0=prompt, arg_1=pl.lit(" A"))
    table = probed.select(
        doc_id=pl.int_range(pl.len()),
        doc=pl.struct(pl.all()),
        arguments=pl.struct(request.alias(f"gen_args_{i}") for i in range(CHOICES)),
        prompt_hash=prompt.hash().cast(pl.String),
        acc=pl.col("correct").cast(pl.Float64),
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    table.write_ndjson(file)


def write_study(folder: Path, questions: int, domains: int, shots: int = 5) -> None:
    """The base model's log, and a log and a manifest for every ratio in `domains` domains."""
    rng = np.random.default_rng(1)
    asked = make_questions(questions)
    before = rng.normal(scale=2, size=(questions, CHOICES))
    base = {"model": "base", "run": "", "phase": "base_probe", "task": "probe"}
    write_log(asked, before, shots, folder / "base/samples_probe_1.jsonl", **base)
    for domain in DOMAINS[:domains]:
        for ratio in RATIOS:
            place = folder / f"{domain}-{ratio}"
            config = {"domain": domain, "source": "exams", "condition": ENDS.get(ratio, "mix"), "seed": 1, "base_model": "base"}
            config |= {"ratio": None if ratio in ENDS else ratio, "response_format": "letter"}
            run = write_manifest(place, "train", ["sft.py"], config, {}, {})
            after = before * ratio + rng.normal(scale=1.5, size=before.shape)
            names = {"model": place.name, "run": run, "phase": "tuned_chat", "task": "chat"}
            write_log(asked, after, 0, place / "samples_chat_1.jsonl", **names)


def parse_lines(files: list[Path]) -> int:
    """The plain way to read: the standard library's parser on every line. Returns how many samples there are."""
    count = 0
    for file in files:
        with file.open("rb") as lines:
            count += sum("doc" in json.loads(line) for line in lines)
    return count


def measure_reading(files: list[Path]) -> list[dict[str, Any]]:
    """A row a side: seconds, and megabytes a second."""
    size = sum(file.stat().st_size for file in files) / 1e6
    sides: dict[str, Callable[[], object]] = {PLAIN: lambda: parse_lines(files), "reader": lambda: read_probes(files)}
    seconds = {}
    for name, read in sides.items():
        start = time.perf_counter()
        read()
        seconds[name] = time.perf_counter() - start
    plain = seconds[PLAIN]
    return [{"side": n, "seconds": s, "MB a second": size / s, "times": plain / s} for n, s in seconds.items()]


def measure_command(*command: str) -> tuple[float, float]:
    """Seconds and peak memory (GB) of a command of this Python, in a process of its own."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), command)
    return time.perf_counter() - start, usage.ru_maxrss / 1e6


def choose_logs(study: Path, gigabytes: float) -> list[Path]:
    """The first logs of a study that hold so much together."""
    files, size = [], 0.0
    for file in sorted(study.rglob("samples_*.jsonl")):
        if size < 1e9 * gigabytes:
            files.append(file)
            size += file.stat().st_size
    return files


def main(
    questions: Annotated[int, typer.Option(help="Questions of a log: MMLU's.")] = 14_042,
    domains: Annotated[int, typer.Option(help="Trained domains, of 8 runs each.")] = 4,
    gigabytes: Annotated[float, typer.Option(help="How much both sides of reading read.")] = 1,
) -> None:
    """Write a made-up study, read its logs both ways, report on it and on the demo where it was run; print what each takes."""
    logs = 1 + domains * len(RATIOS)
    print(f"# Reporting: {questions:,} questions, {logs} logs, {os.cpu_count()} processors\n", flush=True)
    with tempfile.TemporaryDirectory() as place:
        study = Path(place) / "study"
        write_study(study, questions, domains)
        files = choose_logs(study, gigabytes)
        print(tabulate(measure_reading(files), headers="keys", floatfmt=".3g", tablefmt="github"), flush=True)
        commands = {
            "Consistency and all tables": (study, "-c", TABLES, str(study)),
            "The whole report, with figures": (study, *REPORT, str(study), "--output", f"{place}/report"),
        }
        if DEMO.is_dir():  # of `make demo`
            commands["The demo's report"] = (DEMO, *REPORT, str(DEMO), "--output", f"{place}/demo")
        for name, (runs, *command) in commands.items():
            seconds, memory = measure_command(*command)
            size = sum(file.stat().st_size for file in runs.rglob("samples_*.jsonl")) / 1e9
            print(
                f"\n{name}, from {size:.2g} GB of logs: {seconds:.1f} seconds, at most {memory:.2g} GB of memory.", flush=True
            )


if __name__ == "__main__":
    typer.run(main)
