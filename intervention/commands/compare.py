"""`python -m intervention compare`: what the conditions of instruction sets differ in besides agreement."""

from pathlib import Path
from typing import Annotated

import typer

from intervention.commands.options import list_words


def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Instruction sets, or folders that hold some.")],
    reference: Annotated[
        str | None,
        typer.Option(help="The condition that others are compared with [default: incompatible; FOLDER/NAME for all folders]."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="The folder to write: tables and a Love plot.")] = None,
) -> None:
    """Print what the conditions of instruction sets differ in: size, letters, confidence, lengths, explanations, domains.

    A balance table such as clinical trials print, with standardised differences from a reference (0.1: an imbalance). With
    --output also balance.md, balance and differences as CSV and parquet, and loveplot.png and .svg.

    \b
    Example:
      python -m intervention compare instructions --output comparison
      python -m intervention compare unmatched matched --reference unmatched/harmonious
    """
    from intervention.comparing.compare import compare_sets

    print(compare_sets(folders, reference, output, list_words()))
    if output:
        print(f"\n{output}: the tables, and loveplot.png and .svg")
