"""`python -m lm_eval_tasks`: lm-eval's own command line with this pack registered, logs to tables, and data that is read."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lm_eval_tasks.contracts.chained import split_runs
from lm_eval_tasks.contracts.errors import report_errors
from lm_eval_tasks.contracts.vocabulary import DEFAULT_SCORE, SCORES

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False, rich_markup_mode=None
)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}, add_help_option=False
)
def run(context: typer.Context) -> None:
    """Ask: `lm_eval run` with this pack's tasks, checked before a model is loaded; `run --help` shows how.

    The word `then` starts another run in the same process, so that the libraries are loaded once: run ... then ...
    """
    from lm_eval_tasks.running.harness import run_harness

    for arguments in split_runs(context.args or ["--help"]):
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


@app.command()
def read(
    data: Annotated[str, typer.Argument(help="Instruction data: a file, a folder or a Hub id.")],
    model_args: Annotated[
        str, typer.Option("--model_args", help="lm-eval's arguments of the model: pretrained=MODEL,dtype=bfloat16.")
    ],
    output: Annotated[Path, typer.Option(help="The folder to write; what it holds of the same readings stays.")],
    model: Annotated[str, typer.Option(help="The backend; what others give of a token is less than is read.")] = "hf-prefix",
    batch_size: Annotated[str, typer.Option("--batch_size", help="Rows read at once: a number, or auto.")] = "auto",
    device: Annotated[
        str | None, typer.Option(help="Where the model is: cuda:0, cpu [default: the first GPU there is].")
    ] = None,
    chat_template: Annotated[
        str | None,
        typer.Option(
            "--chat_template", help="A Jinja file, or `tokenizer` for the tokenizer's own [default: that of training]."
        ),
    ] = None,
    prompt: Annotated[
        list[str], typer.Option(help="Under which prompts: chat, in_context, alone; repeatable [default: all three].")
    ] = [],  # noqa: B006
    form: Annotated[
        str | None, typer.Option(help="messages, prompt_completion, alpaca or sharegpt [default: found out by the columns].")
    ] = None,
    column: Annotated[
        list[str], typer.Option(metavar="NAME=COLUMN", help="The data's column for one of a form's; repeatable.")
    ] = [],  # noqa: B006
    split: Annotated[str | None, typer.Option(help="The split of a data set [default: train].")] = None,
    config: Annotated[str | None, typer.Option(help="The config of a data set, where it has several.")] = None,
) -> None:
    """Read every response of instruction data under a base model, token by token, for `python -m intervention agree`.

    \b
    A run that was killed goes on where it was when the same command is given again. Several GPUs: accelerate launch -m
    lm_eval_tasks read ...

    \b
    Example:
      python -m lm_eval_tasks read alpaca.json --model_args pretrained=MODEL,dtype=bfloat16 --output readings
      python -m lm_eval_tasks read OWNER/DATA --split train --column prompt=question --column completion=answer \\
        --model_args pretrained=MODEL --prompt chat --output readings
    """
    from lm_eval_tasks.contracts.names import read_pairs
    from lm_eval_tasks.reading.command import read_data

    settings = {"batch_size": batch_size, "device": device}
    shape = {"form": form, "columns": read_pairs(column), "split": split, "config": config}
    read_data(data, output, model, model_args, settings, chat_template, prompt, shape)


if __name__ == "__main__":
    with report_errors():
        app()
