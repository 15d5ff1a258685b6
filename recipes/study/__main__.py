"""Run a study, or what is still missing of it, and print its result table.

python -m recipes.study recipes/study/miniworld.yaml            run it (again: do nothing; killed: go on)
python -m recipes.study recipes/study/miniworld.yaml -n         show the plan
python -m recipes.study STUDY.yaml --executor slurm --jobs 64   any other option goes to Snakemake
"""

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from lm_eval_tasks.contracts.errors import report_errors
from recipes.study.settings import read_study

SNAKEFILE = Path(__file__).with_name("Snakefile")


def run_study(file: Path, options: list[str]) -> None:
    """Run Snakemake on a study file; a lock keeps two runs apart, and one that a killed run left is taken away."""
    output = Path(read_study(file)["output"])
    output.mkdir(parents=True, exist_ok=True)
    snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--configfile", str(file)]
    # The commands of the rules are those of this Python; one thread a job, since jobs run side by side.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"} | os.environ | {"PATH": path}
    with (output / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # It may be what a killed run left behind: Snakemake holds the lock too, and goes on without its parent.
            print(f"{output} is being worked on by another run of this study: waiting for it to end.", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run([*snakemake, "--unlock", "--quiet", "all"], env=environment, check=False, capture_output=True)
        if not any(option.startswith(("--cores", "-c", "--jobs", "-j")) for option in options):
            options = ["--cores", str(os.cpu_count()), *options]
        command = [*snakemake, "--rerun-incomplete", "--keep-going", *options]
        done = subprocess.run(command, env=environment, check=False, pass_fds=[lock.fileno()])
    if done.returncode:
        raise SystemExit(done.returncode)
    summary = output / "summary.txt"
    if summary.exists() and not {"-n", "--dry-run", "--dryrun"} & set(options):
        print(summary.read_text())


def main(
    context: typer.Context, study: Annotated[Path, typer.Argument(help="The study file; see recipes/study/miniworld.yaml.")]
) -> None:
    """Run a study, or what is still missing of it, and print its result table. Other options go to Snakemake (-n: the plan)."""
    with report_errors():
        run_study(study, context.args)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(main)
    app()
