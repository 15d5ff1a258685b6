"""Conversations taken apart into the turns that are to be judged, each with what stands before it."""

import hashlib
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from lm_eval_tasks.contracts.conversations.flaws import FLAW_SCHEMA, find_cut, find_repeated
from lm_eval_tasks.contracts.conversations.forms import Conversation, Form, Message, find_role

TURN_SCHEMA = pl.Schema(
    {
        "row": pl.Int64,
        "turn": pl.Int64,
        "system": pl.String,
        "messages": pl.List(pl.Struct({"role": pl.String, "content": pl.String})),
        "response": pl.String,
        "text_hash": pl.String,
    }
)
BATCH = 50_000  # rows that are Python's own objects at a time
_HASH = "prompt_hash"  # that of all that stands before a response


def find_turns(form: Form, values: Iterable[Mapping[str, Any]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The turns to judge (`TURN_SCHEMA`) and the flaws (`FLAW_SCHEMA`) of rows, in their order.

    Args:
        form: that of the rows.
        values: of each row, by the form's fields.

    >>> from lm_eval_tasks.contracts.conversations.forms import ALPACA
    >>> rows = [{"instruction": "Name a tree.", "output": "Oak"}, {"instruction": "Another?", "output": None}]
    >>> turns, flaws = find_turns(ALPACA, rows)
    >>> turns.select("messages", "response").rows()
    [([{'role': 'user', 'content': 'Name a tree.'}], 'Oak')]
    >>> flaws.rows()
    [(1, 0, 'not_text', 'message 2 is None')]
    """
    rows = enumerate(values)
    batch = _Batch()
    tables, flaws = [batch.make_turns()], batch.flaws
    while part := list(islice(rows, BATCH)):
        batch = _Batch()
        for row, value in part:
            batch.read(row, form.list_messages(value))
        tables.append(batch.make_turns())
        flaws += batch.flaws
    turns = pl.concat(tables)
    named = pl.concat([pl.DataFrame(flaws, schema=FLAW_SCHEMA, orient="row"), find_repeated(turns, _HASH), find_cut(turns)])
    return turns.drop(_HASH), named.sort("row", "turn", maintain_order=True)


class _Batch:
    """What is found in some rows."""

    def __init__(self) -> None:
        self.flaws: list[tuple[int, int | None, str, str]] = []
        self.texts: list[str] = []  # of all messages but system prompts, once each
        # Row, turn, system, where its messages begin among the texts, how many they are, and the two hashes.
        self.turns: list[tuple[int, int, str | None, int, int, str, str]] = []

    def read(self, row: int, conversation: Conversation) -> None:
        """Take a row apart, up to its first message that cannot be read."""
        flaw = _find_flaw_of_row(conversation)
        if flaw is not None:
            self.flaws.append((row, None, *flaw))
            return
        system, messages, judged_from, _ = conversation
        system = system if system and system.strip() else None
        turn, found = 0, len(self.turns) + len(self.flaws)
        digest = _hash_message(hashlib.sha256(), "system", system) if system else hashlib.sha256()
        start = len(self.texts)
        for number, message in enumerate(messages, 1):
            role, text = find_role(message.role), message.content
            length = len(self.texts) - start
            flaw = _find_flaw(role, message) or _find_disorder(role, message, number, length)
            if flaw is not None:
                self.flaws.append((row, turn, flaw[0], f"message {number} {flaw[1]}"))
                return
            if isinstance(text, list):
                text = "".join(part["text"] for part in text)
            if role == "system":
                system, digest = text, _hash_message(hashlib.sha256(), role, text)
                continue
            if role == "assistant":
                if number > judged_from and text.strip():
                    whole = digest.copy()
                    whole.update(_write_with_length(text))
                    hashes = digest.hexdigest()[:16], whole.hexdigest()[:16]
                    self.turns.append((row, turn, system, start, length, *hashes))
                elif number > judged_from:
                    self.flaws.append((row, turn, "empty_response", f"message {number} is blank"))
                turn += 1
            _hash_message(digest, role, text)
            self.texts.append(text)
        if len(self.turns) + len(self.flaws) == found:
            self.flaws.append((row, None, "no_assistant_turn", f"messages: {len(messages)}"))

    def make_turns(self) -> pl.DataFrame:
        """`TURN_SCHEMA` and the hash of what stands before each response; texts that turns share are kept once."""
        rows, turns, systems, starts, lengths, prompts, hashes = zip(*self.turns) if self.turns else [()] * 7
        texts = pl.Series(self.texts, dtype=pl.String)
        starts, lengths = np.array(starts, np.int64), np.array(lengths, np.int64)
        ends = np.concatenate([np.zeros(1, np.int64), lengths.cumsum()])
        within = np.arange(ends[-1]) - ends[:-1].repeat(lengths)
        contents = texts.gather(starts.repeat(lengths) + within)
        roles = pl.Series(["user", "assistant"], dtype=pl.String).gather(within % 2)
        parts = [part.to_arrow(compat_level=pl.CompatLevel.newest()) for part in (roles, contents)]
        listed = pa.LargeListArray.from_arrays(pa.array(ends), pa.StructArray.from_arrays(parts, ["role", "content"]))
        columns = {
            "row": rows,
            "turn": turns,
            "system": systems,
            "messages": pl.from_arrow(listed),
            "response": texts.gather(starts + lengths),
            "text_hash": hashes,
        }
        return pl.DataFrame(columns | {_HASH: prompts}, schema=dict(TURN_SCHEMA) | {_HASH: pl.String})


def _find_flaw_of_row(conversation: Conversation) -> tuple[str, str] | None:
    """What keeps a whole row from being read, and how it is said."""
    if conversation.image:
        return "image", "an image stands beside the messages"
    if conversation.system is not None and not _is_text(conversation.system):
        return "not_text", f"system is {_show(conversation.system)}"
    return ("not_text", "there is no list of messages") if conversation.messages is None else None


def _find_flaw(role: str | None, message: Message) -> tuple[str, str] | None:
    """What keeps a message from being read, and how it is said after its number."""
    content = message.content
    if message.calls or role == "tool":
        return "tool_call", "calls a tool" if message.calls else f"has the role {_show(message.role)}"
    if isinstance(content, str):
        return None if _is_text(content) else ("not_text", f"holds half of a character in {_show(content)}")
    if not isinstance(content, list):
        return "not_text", f"is {_show(content)}"
    for part in content:
        if not isinstance(part, dict):
            return "not_text", f"is {_show(content)}"
        kind = part.get("type")
        if kind not in (None, "text"):
            return "image", f"has a part of the type {_show(kind)}"
        if not _is_text(part.get("text")):
            return "not_text", f"has the part {_show(part)}"
    return None


def _find_disorder(role: str | None, message: Message, number: int, before: int) -> tuple[str, str] | None:
    """What is wrong with the role of a message that stands after some of user and assistant."""
    expected = "assistant" if before % 2 else "user"
    if role == expected or (role == "system" and number == 1):
        return None
    return "roles_out_of_order", f"has the role {_show(message.role)}, where {expected} is expected"


def _is_text(value: Any) -> bool:
    """Whether a value is text, and whole: JSON can hold halves of characters, which no file can."""
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value))


def _hash_message(digest: Any, role: str, text: str) -> Any:
    digest.update(_write_with_length(role))
    digest.update(_write_with_length(text))
    return digest


def _write_with_length(text: str) -> bytes:
    """A text with its length, so that none can pass for the border between two."""
    return f"{len(text)}:{text}".encode()


def _show(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
