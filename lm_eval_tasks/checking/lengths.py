"""Which questions are too long for the model, of whose prompts lm-eval would cut the beginning."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from transformers import PreTrainedTokenizerBase

from lm_eval_tasks.checking.protocol import Asking, Checkable, Group, Question
from lm_eval_tasks.checking.rendering import Writer
from lm_eval_tasks.contracts.vocabulary import KEY

# Two texts together may have more tokens than each alone, where they meet.
SLACK = 16
BATCH = 256  # prompts tokenised at once
NAMED = 5  # questions that a message names at most


def find_too_long(
    task: Checkable,
    rows: Sequence[Question],
    prompts: Mapping[Group, tuple[Question, str]],
    write: Writer,
    tokenizer: PreTrainedTokenizerBase,
    window: int,
) -> list[tuple[Question, int]]:
    """The questions which, with prompt and longest choice, exceed the model's window, and how many tokens they have.

    A prompt is written and tokenised only where it could be too long: the tokens of what surrounds the question are counted
    once a group, and the question itself has no more tokens than bytes. Where that leaves doubt, its own tokens are counted.

    Args:
        task: the task.
        rows: the questions.
        prompts: for each group one of its questions, and the prompt of it.
        write: writes the prompt of a question.
        tokenizer: the model's.
        window: how many tokens the model reads.

    Returns:
        The longest first.
    """
    around = {group: count_around(task, *prompt, tokenizer) for group, prompt in prompts.items()}
    added = count_added(task, tokenizer)
    room = window + 1 - added  # the last token is scored, but not read
    suspects: list[tuple[Question, str]] = []
    for row in rows:
        own, choices = task.doc_to_text(row), task.choices_of(row)
        left = room - SLACK - around[task.find_group(row)]
        if bound_tokens(own) + max(map(bound_tokens, choices)) <= left:
            continue
        length, *lengths = map(len, encode(tokenizer, [own, *choices]))
        if length + max(lengths) > left:
            suspects.append((row, choices[lengths.index(max(lengths))]))
    return find_long(((row, write(row) + choice) for row, choice in suspects), tokenizer, added - 1, window)


def find_long(
    texts: Iterable[tuple[Question, str]], tokenizer: PreTrainedTokenizerBase, more: int, window: int
) -> list[tuple[Question, int]]:
    """The questions of which a text and `more` tokens exceed the model's window, and how many tokens that is, longest first.

    Args:
        texts: questions, each with a text; a question may be asked several times.
        tokenizer: the model's.
        more: how many tokens the model reads or writes beside the text's own.
        window: how many it can.
    """
    found: dict[Group, tuple[Question, int]] = {}
    suspects = (pair for pair in texts if bound_tokens(pair[1]) + SLACK + more > window)
    while part := list(islice(suspects, BATCH)):
        for (row, _), ids in zip(part, encode(tokenizer, [text for _, text in part]), strict=True):
            key, tokens = find_key(row), len(ids) + more
            if tokens > window and (key not in found or found[key][1] < tokens):
                found[key] = (row, tokens)
    return sorted(found.values(), key=lambda item: -item[1])


def find_key(row: Question) -> Group:
    """What is unique in a bank."""
    return tuple(row[name] for name in KEY)


def count_around(task: Checkable, row: Question, prompt: str, tokenizer: PreTrainedTokenizerBase) -> float:
    """The tokens of what surrounds the question in a prompt; infinite where a chat template changes the question."""
    before, found, after = prompt.rpartition(task.doc_to_text(row))
    return sum(map(len, encode(tokenizer, [before, after]))) if found else float("inf")


def bound_tokens(text: str) -> int:
    """A bound of a text's tokens: its bytes, or those of the longest form into which a tokenizer may normalise it."""
    return len(text) if text.isascii() else max(len(text.encode()), len(unicodedata.normalize("NFKD", text).encode()))


def count_added(task: Asking, tokenizer: PreTrainedTokenizerBase) -> int:
    """How many tokens the model's tokenizer adds to a prompt: a beginning of sequence, or none, as a rule."""
    added = len(tokenizer("A")["input_ids"]) - len(encode(tokenizer, ["A"])[0])
    wanted = task.config.metadata.get("add_bos_token")
    return added if wanted is None else max(added, 1) if wanted else 0


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """The token ids of texts, without the tokens that a tokenizer adds."""
    return tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]


def join_names(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f", and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
