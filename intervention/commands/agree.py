"""`python -m intervention agree`: which rows of instruction data agree with what the base model believes, and which clash."""

from pathlib import Path
from typing import Annotated

import typer

from intervention.commands.options import Column, Config, Folder, Form, Split, list_words


def agree(
    data: Annotated[str, typer.Argument(help="Instruction data: a file, a folder or a Hub id.")],
    readings: Annotated[Path, typer.Option(help="What `python -m lm_eval_tasks read` wrote of it.")],
    output: Folder,
    answers: Annotated[
        Path | None, typer.Option(help="What the model answers itself: answers.parquet, which `answers` wrote.")
    ] = None,
    probes: Annotated[
        list[Path], typer.Option(help="Logs of selfalign_probe_cloze on these answers as choices; repeatable.")
    ] = [],  # noqa: B006
    judgements: Annotated[
        list[Path],
        typer.Option(help="Logs of selfalign_probe_cloze on the questions of `requests judge` (P(True)); repeatable."),
    ] = [],  # noqa: B006
    action: Annotated[
        str | None,
        typer.Option(
            help="Write the data set, too, with verdicts beside it (OUTPUT/data), and do this where a response clashes: keep "
            "(nothing), drop (the row), weight (the row's loss), mask (the place of the response that clashes), rewrite."
        ),
    ] = None,
    rewrites: Annotated[Path | None, typer.Option(help="JSON lines with row, turn and text, for --action rewrite.")] = None,
    form: Form = None,
    column: Column = [],  # noqa: B006
    split: Split = None,
    config: Config = None,
) -> None:
    """Write which responses agree with what the base model believes, and which clash with it.

    A verdict needs two kinds of evidence that do not contradict each other: the tokens of the response under two prompts
    (readings), what the model answers when it is asked (answers), and how probable the response is among its own answers
    (probes). Responses that cannot be asked as a question of their own have the first alone, and no verdict. What the model
    says when it is asked whether a response is true (judgements) stands beside the verdicts and decides none. A clash is no
    error of the data: it says that the model holds something else for right, and a person should look at it first.

    With --action the data set is written anew in the form in which it came, with new columns: the row's verdict, its weight
    and the masked spans of its responses, which recipes/sft.py honours. `push` takes the folder.

    \b
    Example:
      python -m lm_eval_tasks read alpaca.json --model_args pretrained=MODEL --output readings
      python -m intervention requests own alpaca.json --output own
      python -m lm_eval_tasks run --model hf-prefix --model_args pretrained=MODEL --tasks selfalign_answer \\
        --metadata '{"questions": "own", "splits": ["test", "dev"]}' --log_samples --output_path answered
      python -m intervention answers --questions own --answers answered --output answers
      python -m lm_eval_tasks run --model hf-prefix --model_args pretrained=MODEL --tasks selfalign_probe_cloze \\
        --metadata '{"questions": "answers/choices", "splits": ["test", "dev"]}' --log_samples --output_path probed
      python -m intervention agree alpaca.json --readings readings --answers answers/answers.parquet --probes probed \\
        --output agreement
    """
    from intervention.agreeing.actions import DATA, check_action, write_data
    from intervention.agreeing.agree import PAGE, write_agreement
    from lm_eval_tasks.contracts.conversations.reading import describe_flaws, read_conversations
    from lm_eval_tasks.contracts.errors import UserError
    from lm_eval_tasks.contracts.markdown import format_table
    from lm_eval_tasks.contracts.names import read_pairs

    if action is not None:
        check_action(action, rewrites)
    elif rewrites:
        raise UserError("--rewrites is for --action rewrite alone. Add that, or leave it out.")
    conversations = read_conversations(data, form, split, read_pairs(column), config)
    print("".join(f"{line}\n" for line in describe_flaws(conversations)), end="")
    for title, table in write_agreement(conversations, readings, output, answers, probes, judgements, list_words()):
        print(f"\n{title}\n\n{format_table(table)}")
    print(f"\n{output}: the row table (rows.parquet), and the page to look at them: {output / PAGE}")
    if action is not None:
        told = write_data(conversations, output / "rows.parquet", action, output / DATA, rewrites, list_words())
        print(f"{output / DATA}: the data set\n{told}")
