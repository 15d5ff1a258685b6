"""`python -m intervention released`: the paper's released groups in the form of this project."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from intervention.commands.options import Folder, list_words


def released(
    input: Annotated[Path, typer.Option(help="A group's folder (.../<model>/<domain>) or a tree of them.")],  # noqa: A002
    output: Folder,
    model: Annotated[str | None, typer.Option(help="The base model [default: the folder's name].")] = None,
    domain: Annotated[str | None, typer.Option(help="The domain [default: the folder's name].")] = None,
) -> None:
    """Write the paper's released groups as a probe table (probes.parquet), instruction sets (instructions/) and a question set
    (questions/).

    \b
    Example:
      python -m intervention released --input Self-Aligning/data/llama-2-7b/engineering --output released
      python -m intervention audit released/questions
    """
    from intervention.released import FILES, convert_released
    from lm_eval_tasks.contracts.markdown import format_table

    summary = convert_released(input, output, model, domain, list_words())
    for row in summary.filter(summary["rows"].is_null()).iter_rows(named=True):
        group = f"{row['model']}/{row['domain']}"
        print(f"{group}: {FILES[row['condition']]} is missing, so {row['condition']} is left out", file=sys.stderr)
    print(f"{format_table(summary.drop_nulls())}\n\n{output}: probe tables, instruction sets and question sets")
