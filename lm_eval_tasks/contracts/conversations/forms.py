"""The forms in which instruction data comes: how each is recognised, how a row is a conversation, how a response is replaced.

A form has fields, such as `prompt` and `completion`; which column of the data holds each is found here or said by the user.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.names import name_unknown


class Message(NamedTuple):
    """A message as the data has it: its role and content may be anything."""

    role: Any
    content: Any
    calls: bool = False  # whether it calls a tool


class Conversation(NamedTuple):
    """A row as messages."""

    system: Any  # of a column of its own; that of a first message stays among the messages
    messages: list[Message] | None  # None where there is no list of them
    judged_from: int = 0  # the first message that can be a turn to judge; what stands before is given
    image: bool = False  # whether an image stands beside the messages


@dataclass(frozen=True)
class Form(ABC):
    """A form of instruction data."""

    name: str
    needed: tuple[str, ...]  # its fields
    optional: tuple[str, ...]
    shape: str  # its fields, in words

    def find_columns(self, schema: Mapping[str, pl.DataType], columns: Mapping[str, str]) -> dict[str, str] | None:
        """The column of each field that is there; None where the data is not of this form.

        Args:
            schema: the data's columns.
            columns: a field -> its column, where the user says it.
        """
        fields = (*self.needed, *self.optional)
        found = {field: columns.get(field, field) for field in fields if columns.get(field, field) in schema}
        return found if found.keys() >= set(self.needed) and columns.keys() <= set(fields) else None

    @abstractmethod
    def list_messages(self, values: Mapping[str, Any]) -> Conversation:
        """A row's values by field, as messages."""

    @abstractmethod
    def replace(self, values: Mapping[str, Any], responses: Mapping[int, str]) -> dict[str, Any]:
        """The values of a row, the responses of some of its assistant turns (numbered from 0) replaced."""


@dataclass(frozen=True)
class Listed(Form):
    """A list of messages in one column."""

    role: str  # the key of a message's role
    content: str  # and of its text

    def find_columns(self, schema: Mapping[str, pl.DataType], columns: Mapping[str, str]) -> dict[str, str] | None:
        """As above; a column is known by the keys of its messages, whether its name is `messages` or `conversations`."""
        field = self.needed[0]
        if not columns.keys() <= {field, *self.optional}:
            return None
        for name in [columns[field]] if field in columns else [field, "messages", "conversations"]:
            kind = schema.get(name)
            inner = kind.inner if isinstance(kind, (pl.List, pl.Array)) else None
            # A column without a message, or of texts that hold JSON, is known by its name alone.
            if {self.role, self.content} <= _list_keys(inner) if isinstance(inner, pl.Struct) else kind and name == field:
                return super().find_columns(schema, {**columns, field: name})
        return None

    def list_messages(self, values: Mapping[str, Any]) -> Conversation:
        """A row's list of messages."""
        listed = _decode(values[self.needed[0]])
        messages = _read_messages(listed, self.role, self.content) if isinstance(listed, list) else None
        return Conversation(values.get("system"), messages, image=_shows_image(values))

    def replace(self, values: Mapping[str, Any], responses: Mapping[int, str]) -> dict[str, Any]:
        """The list with other contents."""
        value = values[self.needed[0]]
        changed, _ = _replace_contents(_decode(value), responses, self.role, self.content)
        return {self.needed[0]: json.dumps(changed, ensure_ascii=False) if isinstance(value, str) else changed}


class PromptCompletion(Form):
    """A prompt and what completes it, each a text or a list of messages."""

    def list_messages(self, values: Mapping[str, Any]) -> Conversation:
        """The messages of both, of which those of the prompt are given."""
        prompt, completion = (
            _read_messages(values[field], "role", "content")
            if isinstance(values[field], list)
            else [Message(role, values[field])]
            for field, role in (("prompt", "user"), ("completion", "assistant"))
        )
        return Conversation(values.get("system"), prompt + completion, len(prompt), _shows_image(values))

    def replace(self, values: Mapping[str, Any], responses: Mapping[int, str]) -> dict[str, Any]:
        """The completion with other contents."""
        if not isinstance(values["completion"], list):
            return {"completion": next(iter(responses.values()))}
        prompt = values["prompt"] if isinstance(values["prompt"], list) else []
        _, turn = _replace_contents(prompt, {}, "role", "content")
        return {"completion": _replace_contents(values["completion"], responses, "role", "content", turn)[0]}


class Alpaca(Form):
    """An instruction, what it is about where that stands apart, and an output."""

    def list_messages(self, values: Mapping[str, Any]) -> Conversation:
        """Instruction and input as one user message, with a blank line between."""
        asked, given = values["instruction"], values.get("input")
        if not isinstance(asked, str) or given is None:
            pass
        elif not isinstance(given, str):
            asked = given  # which is no text, and is said to be none
        elif given.strip():
            asked = f"{asked}\n\n{given}"
        return Conversation(values.get("system"), [Message("user", asked), Message("assistant", values["output"])])

    def replace(self, values: Mapping[str, Any], responses: Mapping[int, str]) -> dict[str, Any]:
        """Another output."""
        return {"output": responses.get(0, values["output"])}


_BESIDE = ("system", "image", "images")
MESSAGES = Listed("messages", ("messages",), _BESIDE, "messages: a list of {role, content}", "role", "content")
PROMPT_COMPLETION = PromptCompletion(
    "prompt_completion", ("prompt", "completion"), _BESIDE, "prompt and completion: texts, or lists of {role, content}"
)
ALPACA = Alpaca("alpaca", ("instruction", "output"), ("input", "system"), "instruction, output, and often input: texts")
SHAREGPT = Listed("sharegpt", ("conversations",), _BESIDE, "conversations: a list of {from, value}", "from", "value")
FORMS: Mapping[str, Form] = {form.name: form for form in (MESSAGES, PROMPT_COMPLETION, ALPACA, SHAREGPT)}

_NAMES = {
    "user": ("user", "human"),
    "assistant": ("assistant", "gpt", "chatgpt", "model"),
    "system": ("system", "developer"),
    "tool": (
        *("tool", "function", "ipython", "observation", "function_call", "function_response", "function-call"),
        *("function-response", "tool_call", "tool_response", "tool_calls", "tool-call", "tool-response"),
    ),
}
# What the data calls a role -> user, assistant, system or tool.
ROLES = {name: role for role, names in _NAMES.items() for name in names}


def find_role(role: Any) -> str | None:
    """What a role of the data is: `user`, `assistant`, `system`, `tool`, or None.

    >>> find_role("gpt"), find_role("Human"), find_role("critic")
    ('assistant', 'user', None)
    """
    return ROLES.get(role) or ROLES.get(role.strip().lower()) if isinstance(role, str) else None


def recognise_form(
    schema: Mapping[str, pl.DataType], where: str, form: str | None = None, columns: Mapping[str, str] | None = None
) -> tuple[Form, dict[str, str]]:
    """The form of data with these columns, and the column of each of its fields.

    Args:
        schema: the columns.
        where: what an error names.
        form: a key of `FORMS`, where the user says it.
        columns: a field of a form -> the column that holds it, where it has another name.

    Raises:
        UserError: it is of no form or of several; a form, field or column that there is not.

    >>> form, columns = recognise_form({"q": pl.String(), "a": pl.String()}, "x", columns={"prompt": "q", "completion": "a"})
    >>> form.name, columns
    ('prompt_completion', {'prompt': 'q', 'completion': 'a'})
    """
    columns = columns or {}
    if form is not None and (unknown := name_unknown([form], FORMS)):
        raise UserError(f"the form {unknown[0]} is none of {', '.join(FORMS)}.")
    fields = list(dict.fromkeys(field for known in FORMS.values() for field in (*known.needed, *known.optional)))
    if unknown := name_unknown(columns, fields):
        raise UserError(f"no form has a field {unknown[0]}; columns are mapped to {', '.join(fields)}.")
    if lacking := [f"{field}={name}" for field, name in columns.items() if name not in schema]:
        raise UserError(f"{where} has no column for {lacking[0]}; it has {_join(schema)}.")
    candidates = [known for known in FORMS.values() if form in (None, known.name)]
    fitting = {known.name: found for known in candidates if (found := known.find_columns(schema, columns))}
    if len(fitting) == 1:
        name, found = fitting.popitem()
        return FORMS[name], found
    if fitting:
        raise UserError(
            f"{where} is of several forms ({', '.join(fitting)}): it has the columns {_join(schema)}. Say which form is meant "
            f"(--format {next(iter(fitting))}), or rename a column."
        )
    shapes = "; ".join(f"{known.name} ({known.shape})" for known in candidates)
    raise UserError(
        f"{where} has the columns {_join(schema)}, which are not of the form{'s' * (len(candidates) > 1)} {shapes}. Say which "
        "column is which, such as --column prompt=COLUMN --column completion=COLUMN."
    )


def _join(schema: Mapping[str, pl.DataType]) -> str:
    """The columns of data; of lists of objects with the keys of these."""
    kinds = {name: kind.inner if isinstance(kind, pl.List) else None for name, kind in schema.items()}
    told = [f"{n} (a list of {{{', '.join(sorted(_list_keys(k)))}}})" if _list_keys(k) else n for n, k in kinds.items()]
    return ", ".join(told[:30]) + (f" and {len(told) - 30} more" if len(told) > 30 else "")


def _list_keys(kind: pl.DataType | None) -> set[str]:
    return {field.name for field in kind.fields} if isinstance(kind, pl.Struct) else set()


def _shows_image(values: Mapping[str, Any]) -> bool:
    return bool(values.get("image") or values.get("images"))


def _decode(value: Any) -> Any:
    """The list that a text holds as JSON, as CSV files have it and JSON lines of which some are otherwise."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            pass
    return value


def _read_messages(listed: Iterable[Any], role: str, content: str) -> list[Message]:
    messages = []
    for item in listed:
        if not isinstance(item, dict):
            messages.append(Message(None, [item]))  # which is a list of no parts, and so no text
        elif len(item) == 2:
            messages.append(Message(item.get(role), item.get(content)))
        else:
            calls = bool(item.get("tool_calls") or item.get("function_call"))
            messages.append(Message(item.get(role), item.get(content), calls))
    return messages


def _replace_contents(
    listed: Sequence[Any], responses: Mapping[int, str], role: str, content: str, turn: int = 0
) -> tuple[list[Any], int]:
    """Messages with other contents, and the number of the next assistant turn."""
    changed = []
    for item in listed:
        if isinstance(item, dict) and find_role(item.get(role)) == "assistant":
            if (text := responses.get(turn)) is not None:
                item = item | {content: [{"type": "text", "text": text}] if isinstance(item[content], list) else text}
            turn += 1
        changed.append(item)
    return changed, turn
