"""The options that several commands share, and the command line as a manifest keeps it."""

import sys
from pathlib import Path
from typing import Annotated

import typer

Questions = Annotated[Path, typer.Option(help="The question set (a folder).")]
Probes = Annotated[list[Path], typer.Option(help="Sample log, probe table, or a folder of them; repeatable.")]
Threshold = Annotated[float, typer.Option(help="A prediction is a belief where its confidence is greater.")]
Folder = Annotated[Path, typer.Option(help="The folder to write.")]
Domain = Annotated[str, typer.Option(help="The domain whose train questions are used.")]


def list_words() -> list[str]:
    """The command line as a manifest keeps it."""
    return ["-m", "intervention", *sys.argv[1:]]
