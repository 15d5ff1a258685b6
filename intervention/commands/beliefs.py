"""`python -m intervention beliefs`: what the base model believes of each question."""

from pathlib import Path
from typing import Annotated

import typer

from intervention.commands.options import Probes, Questions


def beliefs(
    questions: Questions,
    probes: Probes,
    output: Annotated[Path, typer.Option(help="The parquet file to write.")],
    threshold: Annotated[
        list[str],
        typer.Option(help="A prediction is a belief where its confidence is greater; several (joined by commas) are compared."),
    ] = ["0.5"],  # noqa: B006
    seed: Annotated[int, typer.Option(help="Decides which questions the letter prior is estimated on.")] = 0,
) -> None:
    """Write one row a question: what the base model believes, how confidently, and whether that is gold.

    Several logs of one model (orders of the choices, draws of demonstrations) are averaged; how far they agree is printed. The
    table is of the first threshold.

    \b
    Example:
      python -m intervention beliefs --questions questions --probes probe/base --threshold 0.5,0.4,0.6 --output beliefs.parquet
    """
    from intervention.believing.beliefs import count_beliefs
    from intervention.believing.knowledge import count_knowledge
    from intervention.believing.letters import describe_priors, warn_of_few
    from intervention.believing.source import Source, read_beliefs, write_beliefs
    from intervention.believing.thresholds import describe_agreement, parse_thresholds, sweep_thresholds
    from intervention.publishing.cards import format_table
    from lm_eval_tasks.contracts.questions import read_questions

    thresholds = parse_thresholds(threshold)
    found = read_beliefs(read_questions(questions), questions, Source(probes, threshold=thresholds[0]), seed)
    table, priors, unasked = found.table, found.priors, found.unasked
    write_beliefs(table, output)
    parts = [
        (f"Questions, threshold {thresholds[0]:g}", count_beliefs(table)),
        ("Thresholds (intervals: 95%)", sweep_thresholds(table, thresholds)),
        ("Agreement with the prediction", describe_agreement(table)),
        ("Knowledge (Gekhman et al. 2024)", count_knowledge(table)),
        ("Letter prior (PriDe)", describe_priors(priors)),
    ]
    for title, part in parts:
        if part.height:
            print(f"{title}\n{format_table(part)}\n")
    for warning in warn_of_few(priors):
        print(f"{warning}\n")
    print(f"{output}: {table.height} questions ({unasked} in {questions} were not asked)")
