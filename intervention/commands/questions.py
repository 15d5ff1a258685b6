"""`python -m intervention questions`: the questions of a source as a question set."""

from pathlib import Path
from typing import Annotated

import typer

from intervention.commands.options import Folder, list_words

app = typer.Typer(no_args_is_help=True, help="Write a question set from the questions of a source.", rich_markup_mode=None)


@app.callback()
def choose_source() -> None:
    """Write a question set from the questions of a source."""


@app.command("jsonl")
def questions_jsonl(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="JSON lines, plain or .gz.")],
    output: Folder,
    split: Annotated[str | None, typer.Option(help="The split of all questions: train, dev or test.")] = None,
) -> None:
    """Write JSON lines of your own as a question set.

    \b
    A line: {"id": "1", "source": "mine", "domain": "herbs", "split": "test", "question": "What heals?",
             "choices": ["sage", "ivy"], "answer": 0}
    and, if you have them, subject, explanation and topics. Without `split` in the lines, name --split.

    \b
    Example:
      python -m intervention questions jsonl mine.jsonl --output questions
      python -c "import datasets; print(datasets.load_dataset('questions', 'herbs'))"
    """
    from intervention.folders import format_table
    from intervention.questions import convert_jsonl

    print(f"{format_table(convert_jsonl(files, output, split, list_words()))}\n\n{output}: the question set")
