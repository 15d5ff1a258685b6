"""`python -m lm_eval_tasks`: lm-eval's own command line with this pack registered, and logs to tables."""

import sys
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from lm_eval_tasks.manifest import report_errors

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}, add_help_option=False
)
def run(context: typer.Context) -> None:
    """Ask: `lm_eval run` with the pack registered and without lm-eval's own tasks, whose index costs seconds a process.

    python -m lm_eval_tasks run --model hf --model_args pretrained=MODEL --tasks selfalign_miniworld_probe
    --metadata '{"questions": "FOLDER"}' --log_samples --output_path OUT

    The word `then` starts another run in the same process, so that the libraries are loaded once: run ... then ...
    """
    from lm_eval_tasks.harness import run_harness

    for separated, arguments in groupby(context.args, lambda argument: argument == "then"):
        if not separated:
            run_harness(["run", *arguments])


@app.command()
def table(
    logs: Annotated[list[Path], typer.Argument(help="Sample logs or probe tables, files or folders.")],
    output: Annotated[Path, typer.Option(help="The parquet file to write.")],
) -> None:
    """Read sample logs into one probe table, checked: python -m lm_eval_tasks table OUT --output probes.parquet."""
    from lm_eval_tasks.samples import read_probes, write_probes

    probes = read_probes(logs)
    write_probes(probes, output)
    print(f"{output}: {probes.height} probes of {probes['task'].n_unique()} task(s)", file=sys.stderr)


if __name__ == "__main__":
    with report_errors():
        app()
