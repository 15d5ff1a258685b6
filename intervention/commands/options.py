"""The options that several commands share, and the command line as a manifest keeps it."""

import sys
from pathlib import Path
from typing import Annotated

import typer

Questions = Annotated[Path, typer.Option(help="The question set (a folder).")]
Probes = Annotated[list[Path], typer.Option(help="The base model's sample log, probe table, or a folder of them; repeatable.")]
Beliefs = Annotated[Path | None, typer.Option(help="In place of probes: the table that `beliefs` wrote.")]
Threshold = Annotated[
    float | None,
    typer.Option(help="A prediction is a belief where its confidence is greater [default: 0.5, or that of --beliefs]."),
]
Folder = Annotated[Path, typer.Option(help="The folder to write.")]
Domain = Annotated[str, typer.Option(help="The domain whose train questions are used.")]


def list_words() -> list[str]:
    """The command line as a manifest keeps it."""
    return ["-m", "intervention", *sys.argv[1:]]
