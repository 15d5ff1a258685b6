"""`python -m lm_eval_tasks`: lm-eval's own command line with this pack registered, and logs to tables."""

import sys
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from lm_eval_tasks.contracts.errors import report_errors
from lm_eval_tasks.contracts.vocabulary import DEFAULT_SCORE, SCORES

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}, add_help_option=False
)
def run(context: typer.Context) -> None:
    """Ask: `lm_eval run` with this pack's tasks, checked before a model is loaded; `run --help` shows how.

    The word `then` starts another run in the same process, so that the libraries are loaded once: run ... then ...
    """
    from lm_eval_tasks.running.harness import run_harness

    for separated, arguments in groupby(context.args or ["--help"], lambda argument: argument == "then"):
        if not separated:
            run_harness(["run", *arguments])


@app.command()
def tasks() -> None:
    """List the pack's tasks, and the tags by which several are asked at once."""
    from lm_eval_tasks.running.asking import list_tasks

    print("\n".join(list_tasks()))


@app.command()
def table(
    logs: Annotated[list[Path], typer.Argument(help="Sample logs or probe tables, files or folders.")],
    output: Annotated[Path, typer.Option(help="The parquet file to write.")],
    average: Annotated[bool, typer.Option("--average", help="Average each question over the orders of its choices.")] = False,
    score: Annotated[
        str | None, typer.Option(help=f"By which score of texts: {', '.join(SCORES)} [default: {DEFAULT_SCORE['cloze']}].")
    ] = None,
) -> None:
    """Read sample logs into one probe table, checked: python -m lm_eval_tasks table OUT --output probes.parquet."""
    from lm_eval_tasks.contracts.logs.averages import average_orders
    from lm_eval_tasks.contracts.logs.probe_table import write_probes
    from lm_eval_tasks.contracts.logs.samples import read_probes

    probes = read_probes(logs, score=score)
    probes = average_orders(probes) if average else probes
    write_probes(probes, output)
    print(f"{output}: {probes.height} probes of {probes['task'].n_unique()} task(s)", file=sys.stderr)


if __name__ == "__main__":
    with report_errors():
        app()
