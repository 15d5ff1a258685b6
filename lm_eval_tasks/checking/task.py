"""Everything that can be found wrong with a task before a model is loaded: one `UserError` each, which says what and where.

A task has a method `check`: `running/` calls it before lm-eval loads the model, and the task itself when its requests are
built, so that the plain `lm_eval` command, and a program that calls lm-eval, are told the same.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from lm_eval_tasks.checking.adapter import check_adapter
from lm_eval_tasks.checking.base import check_base
from lm_eval_tasks.checking.beginning import check_beginning
from lm_eval_tasks.checking.choices import find_unscorable
from lm_eval_tasks.checking.flaws import Flaw, leave_out_flawed
from lm_eval_tasks.checking.lengths import encode, find_key, find_too_long, join_names
from lm_eval_tasks.checking.protocol import Checkable, Demonstrating, Group, Question
from lm_eval_tasks.checking.rendering import make_writer, name_model
from lm_eval_tasks.checking.tokenizer import find_window, load_tokenizer
from lm_eval_tasks.checking.too_long import leave_out, read_choice
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import CHAT_ENDING
from lm_eval_tasks.contracts.questions import name_question, normalise

logger = logging.getLogger(__name__)


def check_task(task: Checkable, settings: Mapping[str, Any]) -> None:
    """Raise a `UserError` for the first thing that is wrong with a task and the questions that it will ask.

    A few questions that cannot be asked are left out of it instead (`checking/flaws.py`), and those that are too long where
    `--metadata` says so (`checking/too_long.py`). What needs the tokenizer or the window of the model is passed over where they
    cannot be known without it, as behind an API.

    Args:
        task: the task, with the number of demonstrations that it will be asked with.
        settings: how it will be asked: `apply_chat_template`, `fewshot_as_multiturn`, `system_instruction`, `limit`, `samples`,
            as lm-eval's `simple_evaluate` and `build_all_requests` take them.

    Raises:
        UserError: no chat template, another one, or one for a task that takes none; too few demonstrations; too many questions
            whose answer would be shown, or with texts that the tokenizer does not tell apart, or divides otherwise than lm-eval
            does; a question longer than the model's window; tokens for which the model has no row; an adapter that would not
            be asked as it was trained.
    """
    metadata = task.config.metadata
    check_adapter(metadata)
    tokenizer = load_tokenizer(metadata)
    choice = read_choice(task)
    leave_out_flawed(task, rows := task.list_asked(settings), find_flaws(task, rows, tokenizer))
    rows = task.list_asked(settings)
    write = make_writer(task, settings, CHAT_ENDING)
    firsts: dict[Group, Question] = {}
    for row in rows:
        firsts.setdefault(task.find_group(row), row)
    # Writing a prompt finds what is wrong with a group's demonstrations and with the chat template.
    prompts = {group: (row, write(row)) for group, row in firsts.items()}
    window, found = find_window(metadata), None
    if tokenizer is not None:
        check_beginning(task, tokenizer)
        check_base(task, rows, (prompt for _, prompt in prompts.values()), tokenizer)
        if metadata["scoring"] == "letter":
            widest = max(rows, key=lambda row: len(row["choices"]))
            check_letters(task, widest, prompts[task.find_group(widest)][1], tokenizer)
        found = find_too_long(task, rows, prompts, write, tokenizer, window) if window else None
    remedies = [f"show fewer demonstrations than {task.config.num_fewshot} (--num_fewshot)"] if task.config.num_fewshot else []
    if metadata["scoring"] == "letter":
        remedies.append("ask with a task that lists no choices (its name has `cloze`), whose prompts are shorter")
    leave_out(task, rows, found, window, choice, "prompt and longest choice", remedies)


def find_flaws(task: Checkable, rows: Sequence[Question], tokenizer: PreTrainedTokenizerBase | None) -> list[Flaw]:
    """The questions that cannot be asked."""
    scored = find_unscorable(task, rows, tokenizer) if task.config.metadata["scoring"] == "cloze" else []
    return find_shown(task, rows) + scored


def find_shown(task: Demonstrating, rows: Sequence[Question]) -> list[Flaw]:
    """The questions that are dev questions too, by text and choices, and would be asked with their own answer shown.

    Another dev question takes the place of such a one where it is asked itself (`tasks.QuestionTask`); a flaw is a question for
    which there is none. Nobody can mend a published benchmark, so there it is said and no more.
    """
    if not (n := task.config.num_fewshot):
        return []
    asked: dict[tuple[str, ...], list[Question]] = {}
    for row in rows:
        asked.setdefault(normalise(row), []).append(row)
    names, shown = [], []
    for dev in task.dataset["dev"]:
        if twins := asked.get(normalise(dev)):
            own = [row for row in twins if task.find_group(row) == task.find_group(dev)]
            shown += own
            twin = (own or twins)[0]
            names.append(f"{name_question(dev)} as id {twin['id']!r} of split {twin['split']}")
    if not names:
        return []
    message = f"{len(names)} dev question(s) are asked too: {join_names(names)}"
    if not task.own:
        subject, count = " and ".join(task.grouped_by), len({find_key(row) for row in shown}) or "none"
        logger.warning(
            "%s: %s. Of the same %s, so that the answer is shown: %s of them.", task.config.task, message, subject, count
        )
        return []
    told = f"{message}. Add dev questions, or leave these out of dev or out of what is asked, so that no answer is shown."
    stuck = (row for row in shown if not task.spares or len(task.find_others(row)) < n)
    flaws = [Flaw(row, "shown as a demonstration", told) for row in stuck]
    if len(flaws) < len(shown):
        logger.warning("%s: %s. Where one is asked itself, the next dev question is shown.", task.config.task, message)
    return flaws


def check_letters(task: Checkable, row: Question, prompt: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise a `UserError` where two letters begin with the same token after the prompt, or a letter has no token of its own.

    Args:
        task: the task.
        row: the question with most choices.
        prompt: of a question of its group.
        tokenizer: the model's.
    """
    line = prompt[prompt.rfind("\n") + 1 :]
    letters = task.choices_of(row)
    start, *whole = encode(tokenizer, [line, *(line + letter for letter in letters)])
    what = f"{task.config.task}: the tokenizer of {name_model(task)}"
    remedy = "Ask with a task that scores the texts of the choices (its name has `cloze`)."
    seen: dict[int, str] = {}
    for letter, ids in zip(letters, whole, strict=True):
        scored = ids[len(start) :]  # as lm-eval divides prompt and choice
        if not scored:
            raise UserError(f"{what} has no token for {letter!r} alone after {line[-12:]!r}, so none can be scored. {remedy}")
        if (other := seen.setdefault(scored[0], letter)) != letter:
            token = tokenizer.convert_ids_to_tokens(scored[0])
            raise UserError(
                f"{what} begins {other!r} and {letter!r} with the same token ({token!r}), so it does not tell letters apart. "
                f"{remedy}"
            )
