"""`python -m intervention beliefs`: what the base model believes of each question."""

from pathlib import Path
from typing import Annotated

import typer

from intervention.commands.options import Probes, Questions, Threshold


def beliefs(
    questions: Questions,
    probes: Probes,
    output: Annotated[Path, typer.Option(help="The parquet file to write.")],
    threshold: Threshold = 0.5,
) -> None:
    """Write one row a question: what the base model believes, how confidently, and whether that is gold.

    \b
    Example:
      python -m intervention beliefs --questions questions --probes probe/base --output beliefs.parquet
    """
    from intervention.beliefs import count_beliefs, read_beliefs, write_beliefs
    from intervention.folders import format_table

    table, unasked = read_beliefs(questions, probes, threshold)
    write_beliefs(table, output)
    print(
        f"{format_table(count_beliefs(table))}\n\n{output}: {table.height} questions ({unasked} in {questions} were not asked)"
    )
