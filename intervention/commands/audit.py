"""`python -m intervention audit`: what is wrong with the questions of a set."""

from pathlib import Path
from typing import Annotated

import typer

from intervention.commands.options import list_words


def audit(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="A question set, or several that are used together.")
    ],
    json: Annotated[Path | None, typer.Option(help="The file to write what was found to, with every question.")] = None,
    fix: Annotated[Path | None, typer.Option(help="The folder to write a cleaned copy to.")] = None,
    similarity: Annotated[float, typer.Option(help="From which Jaccard similarity on two questions are nearly alike.")] = 0.8,
    seed: Annotated[int, typer.Option(help="Of the sketches by which such questions are looked for.")] = 0,
) -> None:
    """Print what is wrong with the questions of a set: repeated questions (the same text and choices, in any order) and those
    with different answers, shared stems and passages, repeated choices, answers in the question, train questions in test,
    unequal letters, explanations that state another choice than gold.

    Totals come first, then what was found in each domain; --json has everything, zeros too. Shares have 95% Wilson intervals.
    With --fix, train questions are dropped that are in test or dev (or nearly, with the same answer), that are asked more than
    once (all if their answers differ, else all but the first) or that repeat a choice, and explanations that state another
    choice; and dev questions that are in test, where five others of their domain are left to demonstrate with. dropped.jsonl in
    the copy says which and why. Questions that only share a stem or a passage stay, and test is as it was.

    \b
    Example:
      python -m intervention audit questions --json audit.json --fix cleaned
      python -m intervention audit released/questions questions
    """
    from intervention.auditing.audit import audit_questions, read_sets
    from intervention.auditing.cleaning import DROPPED, describe_shown, write_clean
    from intervention.auditing.findings import (
        balance_letters,
        describe_findings,
        describe_letters,
        list_findings,
        write_report,
    )
    from lm_eval_tasks.contracts.markdown import format_table

    table = read_sets(folders)
    marked = audit_questions(table, similarity, seed)
    letters = balance_letters(table)
    print(f"{describe_findings(list_findings(marked))}\n\n{describe_letters(table, letters)}")
    if json:
        write_report(json, folders, {"similarity": similarity, "seed": seed}, marked, letters)
        print(f"\n{json}: what was found, with every question")
    if fix:
        dropped = write_clean(marked, folders, fix, similarity, seed, list_words())
        counts = dropped.group_by("dropped", "why").len("n").sort("dropped", "why", descending=[True, False])
        said = "".join(f"{line}\n" for line in describe_shown(marked))
        print(f"\n{format_table(counts)}\n\n{said}{fix}: the cleaned question set; {fix / DROPPED}: what was dropped and why")
