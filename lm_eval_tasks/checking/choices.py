"""Whether the texts of choices can be scored: each has tokens of its own after the prompt, no two of a question the same."""

from collections.abc import Hashable, Sequence

from transformers import PreTrainedTokenizerBase

from lm_eval_tasks.checking.flaws import Flaw
from lm_eval_tasks.checking.lengths import encode
from lm_eval_tasks.checking.protocol import Checkable, Question
from lm_eval_tasks.checking.rendering import name_model
from lm_eval_tasks.contracts.prompts import BARE_CUE
from lm_eval_tasks.contracts.questions import name_question


def find_unscorable(task: Checkable, rows: Sequence[Question], tokenizer: PreTrainedTokenizerBase | None) -> list[Flaw]:
    """The questions whose choices cannot be scored by their texts, or not told apart.

    Args:
        task: the task, which scores texts.
        rows: the questions.
        tokenizer: the model's; without one, choices are the same where their texts are.

    Returns:
        A flaw for each question with a choice that begins within the last token of what stands before it, then one for each
        with two choices of the same tokens.
    """
    choices = [task.choices_of(row) for row in rows]
    texts = list({text: None for shown in choices for text in shown})
    tokens: dict[str, Hashable] = {text: text for text in texts}
    flaws: list[Flaw] = []
    if tokenizer is not None:
        cue = BARE_CUE[task.config.metadata["prompt"]]
        tokens, joined = divide_choices(cue, texts, tokenizer)
        before = " " if task.chat else "\n"  # as the cue stands in a prompt, of which a tokenizer may join more
        joined |= divide_choices(before + cue, texts, tokenizer)[1]
        flaws += find_joined(task, rows, choices, joined, cue)
    for row, shown in zip(rows, choices, strict=True):
        seen: dict[Hashable, str] = {}
        for text, own in zip(shown, row["choices"], strict=True):
            if tokens[text] in seen:
                told = (
                    f"{name_question(row)} has the choices {seen[tokens[text]]!r} and {own!r}, the same tokens to "
                    f"{name_model(task)}, so their texts cannot be told apart. Mend the question or leave it out."
                )
                flaws.append(Flaw(row, "equal choices", told))
                break
            seen[tokens[text]] = own
    return flaws


def divide_choices(cue: str, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> tuple[dict[str, Hashable], set[str]]:
    """Of each text the tokens of cue and text, and the texts that begin within the cue's last token.

    lm-eval passes over as many tokens as the cue has alone, and scores the rest: of such a text its end, or nothing.
    """
    start, *whole = map(tuple, encode(tokenizer, [cue, *(cue + text for text in texts)]))
    n = len(start)
    joined = {text for text, ids in zip(texts, whole, strict=True) if ids[:n] != start or len(ids) == n}
    return dict(zip(texts, whole, strict=True)), joined


def find_joined(
    task: Checkable, rows: Sequence[Question], choices: Sequence[Sequence[str]], joined: set[str], cue: str
) -> list[Flaw]:
    """A flaw for each question with a choice that is joined with the cue."""
    found = [(row, text) for row, shown in zip(rows, choices, strict=True) for text in shown if text in joined]

    def tell(row: Question, text: str) -> str:
        return (
            f"the tokenizer of {name_model(task)} writes the beginning of {len(found)} choice(s) as one token with the end of "
            f"the prompt, and only what comes after it would be scored; the first is {text!r} after {cue!r}, of "
            f"{name_question(row)}. Write these choices otherwise, leave their questions out, or ask with a task that scores "
            "letters (its name has no `cloze`)."
        )

    return [Flaw(row, "choices joined with the prompt", tell(row, text)) for row, text in found]
