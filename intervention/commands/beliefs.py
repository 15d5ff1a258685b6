"""`python -m intervention beliefs`: what the base model believes of each question."""

from pathlib import Path
from typing import Annotated

import typer

from intervention.commands.options import Answers, BeliefRule, Probes, Questions, Score, parse_rule


def beliefs(
    questions: Questions,
    probes: Probes,
    output: Annotated[Path, typer.Option(help="The parquet file to write.")],
    threshold: Annotated[
        list[str],
        typer.Option(help="A prediction is a belief where its confidence is greater; several (joined by commas) are compared."),
    ] = ["0.5"],  # noqa: B006
    belief_rule: BeliefRule = None,
    score: Score = None,
    answers: Answers = None,
    seed: Annotated[int, typer.Option(help="Decides which questions the letter prior is estimated on.")] = 0,
) -> None:
    """Write one row a question: what the base model believes, how confidently, and whether that is gold.

    Several logs of one model (orders of the choices, draws of demonstrations) are averaged; how far they agree is printed. The
    table is of the belief rule, or of the first threshold. At the end: how many questions a condition would have by each rule.

    \b
    Example:
      python -m intervention beliefs --questions questions --probes probe/base --threshold 0.5,0.4,0.6 --output beliefs.parquet
      python -m intervention beliefs --questions questions --probes probe/base --belief-rule top --output beliefs.parquet
      python -m intervention beliefs --questions answers/choices --probes probed --answers answers/answers.parquet \\
        --output beliefs.parquet
    """
    from intervention.believing.beliefs import count_beliefs
    from intervention.believing.knowledge import count_knowledge
    from intervention.believing.letters import describe_priors, warn_of_few
    from intervention.believing.scores import compare_scores
    from intervention.believing.source import Source, read_beliefs, write_beliefs
    from intervention.believing.thresholds import count_conditions, describe_agreement, parse_thresholds, sweep_thresholds
    from lm_eval_tasks.contracts.markdown import format_table
    from lm_eval_tasks.contracts.questions import read_questions
    from lm_eval_tasks.contracts.rules import Rule

    thresholds = parse_thresholds(threshold)
    rule = parse_rule(belief_rule) or Rule("threshold", thresholds[0])
    found = read_beliefs(read_questions(questions), questions, Source(probes, rule=rule, score=score, answers=answers), seed)
    table, priors, unasked = found.table, found.priors, found.unasked
    write_beliefs(table, output)
    parts = [
        (f"Questions, belief rule {found.rule}", count_beliefs(table)),
        (f"All answers by each score of texts (here: {found.score})", compare_scores(probes)),
        ("Thresholds (intervals: 95%)", sweep_thresholds(table, thresholds)),
        ("Agreement with the prediction", describe_agreement(table)),
        ("Knowledge (Gekhman et al. 2024)", count_knowledge(table)),
        ("Letter prior (PriDe)", describe_priors(priors)),
        ("Train questions a condition, by belief rule", count_conditions(table)),
    ]
    for title, part in parts:
        if part.height:
            print(f"{title}\n{format_table(part)}\n")
    for warning in warn_of_few(priors):
        print(f"{warning}\n")
    print(f"{output}: {table.height} questions ({unasked} in {questions} were not asked)")
