"""What is done with questions that are too long for the model: a run is refused, or they are left out of it, as the user says.

`--metadata` has two keys for it: `too_long` is `refuse` or `skip`, `too_long_to` a folder for the list of all of them.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lm_eval_tasks.checking.lengths import find_key, join_names
from lm_eval_tasks.checking.protocol import Asking, Question
from lm_eval_tasks.checking.rendering import name_model
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import write_file
from lm_eval_tasks.contracts.questions import name_question
from lm_eval_tasks.contracts.vocabulary import KEY

logger = logging.getLogger(__name__)
HOW_TO_SKIP = """--metadata '{"too_long": "skip"}'"""
HOW_TO_LIST = """--metadata '{"too_long_to": "FOLDER"}'"""


class Choice(NamedTuple):
    """What the user chose."""

    skip: bool
    folder: str | None


def read_choice(task: Asking) -> Choice:
    """What `--metadata` says of questions that are too long.

    Raises:
        UserError: a value that is none.
    """
    metadata = task.config.metadata
    what, folder = metadata.get("too_long", "refuse"), metadata.get("too_long_to")
    if what not in ("refuse", "skip"):
        raise UserError(f"{task.config.task}: too_long {what!r} is neither 'refuse' nor 'skip'. Mend it in --metadata.")
    if folder is not None and not (isinstance(folder, str) and folder):
        raise UserError(f"{task.config.task}: too_long_to {folder!r} is not a folder. Mend it in --metadata.")
    return Choice(what == "skip", folder)


def leave_out(
    task: Asking,
    rows: Sequence[Question],
    found: Sequence[tuple[Question, int]] | None,
    window: int | None,
    choice: Choice,
    counted: str,
    remedies: Sequence[str],
) -> None:
    """Leave the questions that are too long out of the task, or refuse to ask it; write the list of them where it is wanted.

    Args:
        task: the task, whose `left_out` is set.
        rows: the questions that are to be asked.
        found: those that are too long, and their tokens; None where that cannot be known without the model.
        window: how many tokens the model reads; None likewise.
        choice: what the user chose.
        counted: what is counted of a question beside itself, for the message.
        remedies: how a question takes fewer tokens.

    Raises:
        UserError: there are such questions and they are not to be left out, or none would remain.
    """
    name = task.config.task
    if found is None:
        if choice.skip or choice.folder:
            logger.warning(
                "%s: the window or the tokenizer of %s is not known here, so no question is found too long. Name max_length in "
                "--model_args, and a tokenizer.", name, name_model(task),
            )  # fmt: skip
        return
    if choice.folder:
        file = Path(choice.folder) / f"too_long_{name}.jsonl"
        with write_file(file) as scratch:
            lines = [{"task": name, **{k: row[k] for k in (*KEY, "split")}, "tokens": n, "window": window} for row, n in found]
            scratch.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
        listed = f"{file} names all"
    else:
        listed = f"{HOW_TO_LIST} writes the names of all"
    if not found:
        return
    names = join_names([f"{name_question(row)} ({tokens} tokens)" for row, tokens in found])
    message = (
        f"{name}: {len(found)} question(s), with {counted}, exceed the {window} tokens that {name_model(task)} reads: {names}"
    )
    others = ", or ".join([*remedies, "ask a model with a longer window"])
    if not choice.skip:
        raise UserError(f"{message}. {HOW_TO_SKIP} leaves them out, and {listed}. Or {others}.")
    task.left_out |= {find_key(row) for row, _ in found}
    if all(find_key(row) in task.left_out for row in rows):
        raise UserError(f"{message}. None of what is asked would be left: {others}.")
    logger.warning("%s. They are left out; %s.", message, listed)
