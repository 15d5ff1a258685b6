"""Which tokens of a response carry no loss: those that overlap a span that its row masks."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedTokenizerBase

from lm_eval_tasks.contracts.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

MASKED = "masked"  # the column: a list of {turn, start, end}, in characters of the turn's response
IGNORED = -100  # the label of a token without loss


def check_masks(tokenizer: PreTrainedTokenizerBase, rows: "Dataset") -> None:
    """Raise a `UserError` where the spans of a row are none of its response, or the tokenizer cannot tell where tokens lie.

    Args:
        tokenizer: the base model's.
        rows: with `completion`, one turn each, and perhaps `masked`.
    """
    if MASKED not in rows.column_names:
        return
    columns = rows.select_columns([name for name in ("id", "completion", MASKED) if name in rows.column_names])
    for number, row in enumerate(columns):
        length = len(row["completion"][-1]["content"])
        if not all(_is_span(span, length) for span in list_spans(row)):
            name = repr(row["id"]) if "id" in row else f"number {number + 1}"
            raise UserError(
                f"row {number + 1} (id {name}) has {repr(row[MASKED])[:80]} as {MASKED}, where its one response, turn 0, has "
                f"{length} characters. Write a list of {{turn: 0, start, end}} within them, or leave the column out."
            )
        if row[MASKED] and not tokenizer.is_fast:
            raise UserError(
                f"the tokenizer {tokenizer.name_or_path} does not tell which characters a token has, so that nothing can be "
                f"masked. Take a fast tokenizer, or leave out the column {MASKED!r}."
            )


def list_spans(row: Mapping[str, Any]) -> list[Any]:
    """The spans that a row masks; what is no list is one span that is none."""
    spans = row.get(MASKED)
    return spans if isinstance(spans, list) else [] if spans is None else [spans]


def _is_span(span: Any, length: int) -> bool:
    if not isinstance(span, dict) or {*span} != {"turn", "start", "end"}:
        return False
    whole = all(type(value) is int for value in span.values())
    return whole and span["turn"] == 0 and 0 <= span["start"] < span["end"] <= length


def mask_labels(
    labels: Sequence[int], offsets: Sequence[tuple[int, int]], spans: Sequence[Mapping[str, int]], length: int
) -> list[int]:
    """The labels of a text, `IGNORED` for the tokens that overlap a span; all are, where no token of the response is left.

    A response of which nothing is left would train its end alone.

    Args:
        labels: of its tokens.
        offsets: where each token begins and ends, counted from the response's first character.
        spans: `start` and `end` in characters of the response.
        length: of the response, in characters.

    >>> mask_labels([-100, 5, 6, 7], [(-4, 0), (0, 3), (3, 8), (8, 12)], [{"start": 4, "end": 6}], 8)
    [-100, 5, -100, 7]
    >>> mask_labels([-100, 5, 6, 7], [(-4, 0), (0, 3), (3, 8), (8, 12)], [{"start": 0, "end": 8}], 8)
    [-100, -100, -100, -100]
    """
    masked = [any(begin < span["end"] and end > span["start"] for span in spans) for begin, end in offsets]
    left = any(begin < length and end > 0 and not hidden for (begin, end), hidden in zip(offsets, masked, strict=True))
    return [IGNORED if hidden or not left else label for label, hidden in zip(labels, masked, strict=True)]


def find_offsets(
    tokenizer: PreTrainedTokenizerBase, text: str, ids: Sequence[int], border: int, start: int
) -> list[tuple[int, int]]:
    """Where the tokens of a training text lie, counted from a character.

    Args:
        tokenizer: with offsets.
        text: what they write.
        ids: the tokens, which a beginning of sequence may begin that does not stand in the text.
        border: the character at which a token may have been made to end.
        start: the character that is counted from.

    Raises:
        UserError: the text has other tokens.
    """
    options = {"add_special_tokens": False, "return_offsets_mapping": True, "verbose": False}
    for parts in ([text], [text[:border], text[border:]]):
        read = tokenizer(parts, **options)
        if [*chain(*read["input_ids"])] != [*ids[len(ids) - sum(map(len, read["input_ids"])) :]]:
            continue
        begins = (-start, len(parts[0]) - start)
        found = [(shift + a, shift + b) for shift, pairs in zip(begins, read["offset_mapping"]) for a, b in pairs]
        return [(-start, -start)] * (len(ids) - len(found)) + found
    raise UserError(
        "the chat template's text has other tokens than its rows, so that it cannot be said what is masked. Leave out "
        f"--chat_template_path, or the column {MASKED!r}."
    )
