"""Run a study, or what is still missing of it, and print its result table.

python -m recipes.study recipes/study/miniworld.yaml            run it (again: do nothing; killed: go on)
python -m recipes.study recipes/study/miniworld.yaml --check    show its grid, and what it will take
python -m recipes.study recipes/study/miniworld.yaml -n         show the plan, job by job
python -m recipes.study STUDY.yaml --cores 1                    any other option goes to Snakemake
"""

from pathlib import Path
from typing import Annotated

import typer

from lm_eval_tasks.contracts.errors import report_errors
from recipes.study.grid import Study
from recipes.study.planning import check_gpus, describe_study
from recipes.study.problems import read_study
from recipes.workflow import run_workflow

SNAKEFILE = Path(__file__).with_name("Snakefile")


def run_study(file: Path, options: list[str]) -> None:
    """Run a study file's rules, and print its result table."""
    settings = read_study(file)
    output = Path(settings["output"])
    if check_gpus(Study.make(settings), options) and not any(option.startswith(("--resources", "--res")) for option in options):
        options = [*options, "--resources", "gpu=1"]  # one job on GPUs after another, whatever it takes of them
    ran, summary = run_workflow(SNAKEFILE, file, output, options), output / "summary.txt"
    if ran and summary.exists():
        print(summary.read_text())


def main(
    context: typer.Context,
    study: Annotated[Path, typer.Argument(help="The study file; see recipes/study/miniworld.yaml.")],
    check: Annotated[bool, typer.Option("--check", help="Show its grid and what it will take, and change nothing.")] = False,
) -> None:
    """Run a study, or what is still missing of it, and print its result table. Other options go to Snakemake (-n: the plan).

    \b
    Example:
      python -m recipes.study recipes/study/miniworld.yaml --check
      python -m recipes.study recipes/study/miniworld.yaml
    """
    with report_errors():
        if check:
            print(describe_study(Study.make(read_study(study))))
        else:
            run_study(study, context.args)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(main)
    app()
