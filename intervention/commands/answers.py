"""`python -m intervention answers`: what the base model answers to free-form questions, and these as choices."""

from pathlib import Path
from typing import Annotated

import typer

from intervention.commands.options import Folder, list_words


def answers(
    questions: Annotated[Path, typer.Option(help="The free-form question set (a folder).")],
    answers: Annotated[
        list[Path],
        typer.Option(help="Logs of selfalign_answer, and of selfalign_answer_greedy, or a folder of them; repeatable."),
    ],
    output: Folder,
    entailments: Annotated[
        list[Path],
        typer.Option(help="Logs of which answers entail which, as `requests entail` asks: groups by meaning; repeatable."),
    ] = [],  # noqa: B006
) -> None:
    """Write what the base model answers to free-form questions, and a question set whose choices are its own answers and gold.

    Sampled answers that say the same (equal after normalisation, both accepted, or each entailing the other: `requests entail`)
    are a group, and the largest one is what the model believes (answers.parquet). The
    questions with these groups as choices (choices) are then asked as any others: selfalign_probe_cloze gives the exact
    probability of each answer, and `build --answers` takes for a belief what has more than half by both. With greedy
    answers in several draws of demonstrations the table has Gekhman et al.'s knowledge classes (2024), by their definition.
    An answer's probability is that of its whole text (--score sum).

    \b
    Example:
      python -m lm_eval_tasks run --model hf-prefix --model_args pretrained=MODEL \\
        --tasks selfalign_answer,selfalign_answer_greedy \\
        --metadata '{"questions": "QUESTIONS", "splits": ["train", "test"]}' --log_samples --output_path answered
      python -m intervention answers --questions QUESTIONS --answers answered --output answers
      python -m lm_eval_tasks run --model hf-prefix --model_args pretrained=MODEL --tasks selfalign_probe_cloze \\
        --metadata '{"questions": "answers/choices", "splits": ["train", "test"]}' --log_samples --output_path probed
      python -m intervention build --questions answers/choices --probes probed --answers answers/answers.parquet \\
        --domain DOMAIN --conditions harmonious,incompatible,unknown --output instructions
    """
    from intervention.believing.answers import count_strangers, group_answers
    from intervention.believing.choices import CHOICES, TABLE, write_answers
    from intervention.believing.entailing import describe_entailed, join_entailed, pair_groups, read_entailments
    from intervention.believing.reliability import (
        count_knowledge_by_domain,
        describe_answers,
        describe_draws,
        describe_left_out,
        describe_reliability,
    )
    from lm_eval_tasks.contracts.free_form import read_free_form
    from lm_eval_tasks.contracts.logs.answers import read_answers
    from lm_eval_tasks.contracts.markdown import format_table

    asked, found = read_free_form(questions), read_answers(answers)
    same, judge = None, None
    if entailments:
        pairs, judge = read_entailments(entailments, pair_groups(found, asked, questions, answers))
        same = join_entailed(pairs)
        print(f"{describe_entailed(pairs, same)}.\n")
    table = group_answers(found, asked, questions, answers, same)
    table = write_answers(table, asked, questions, answers, output, list_words(), entailments, judge)
    parts = [
        ("Beliefs: the largest group of answers (intervals: 95%)", describe_answers(table)),
        ("Knowledge (Gekhman et al. 2024)", count_knowledge_by_domain(table)),
        ("Draws with the same largest group", describe_draws(table)),
        ("Reliability of gold's share among the samples (split halves, Spearman-Brown)", describe_reliability(table)),
        ("Answers that are no choices", describe_left_out(table)),
    ]
    for title, part in parts:
        if part.height:
            print(f"{title}\n{format_table(part)}\n")
    if strangers := count_strangers(found):
        print(f"Greedy answers to {strangers} questions that were not sampled are not used.\n")
    print(
        f"{output / TABLE}: {table.height} questions ({asked.height - table.height} in {questions} were not sampled); "
        f"{output / CHOICES}: all of them with choices"
    )
