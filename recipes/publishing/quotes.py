"""What others are shown of a run: data quoted as code, without tokens, and without places of the user's machine."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TOKEN = re.compile(r"\bhf_(?:oauth_)?[A-Za-z0-9]{16,}")
# `/home/me/x`, `~/x`, `C:\x` and `file:///x`, also within `name=/home/me/x` and JSON; no part of an address of the web.
_PLACE = re.compile(
    r"""(?<![\w.:/\\<~-])(?:file://|~\w*|[A-Za-z]:)?[/\\](?:[^\s,;:'"=<>|`]+[/\\])*([^\s/\\,;:'"=<>|`]+)[/\\]?"""
)


class Markdown(str):
    """Text that is markdown already."""


def quote_code(value: Any) -> Any:
    """Text as code within a line, where it is neither markdown nor HTML; `Markdown` and what is no text stay.

    In a table's cell too: control characters go, and a pipe is marked where the text is no `Markdown`.
    """
    if not isinstance(value, str) or isinstance(value, Markdown):
        return value
    text = "".join(character for character in " ".join(value.split()) if character.isprintable())
    if not text:
        return Markdown("(empty)")
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if "`" in (text[0], text[-1]) else ""
    return Markdown(f"{fence}{space}{text}{space}{fence}".replace("|", "\\|"))


def quote_block(text: str, language: str) -> Markdown:
    """Lines as a block of code, which nothing in them can end."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return Markdown(f"{fence}{language}\n{text}\n{fence}")


def wrap_command(words: Sequence[str]) -> str:
    """A command line as a shell takes it, an option a line."""
    lines: list[list[str]] = [[]]
    for word in words:
        if word.startswith("--") and lines[-1]:
            lines.append([])
        lines[-1].append(word)
    return " \\\n    ".join(map(shlex.join, lines))


def hide_tokens(words: Sequence[str]) -> list[str]:
    """A command line without the values of its `--..._token` options, and without whatever looks like a token of the Hub."""
    shown: list[str] = []
    for word, before in zip(words, ["", *words]):
        name, sign, _ = word.partition("=")
        if before.startswith("--") and before.endswith("_token"):
            word = "..."
        elif sign and name.startswith("--") and name.endswith("_token"):
            word = f"{name}=..."
        shown.append(TOKEN.sub("hf_...", word))
    return shown


def shorten_places(value: Any) -> Any:
    """A value, or a structure of lists and dictionaries, in whose texts only the last part of an absolute path is left."""
    if isinstance(value, dict):
        return {name: shorten_places(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shorten_places(item) for item in value]
    if not isinstance(value, str):
        return value
    # An option or a text that is one path, which may hold spaces.
    option, path = value.split("=", 1) if value.startswith("--") and "=" in value else ("", value)
    if path.startswith(("/", "~/")) and not path.startswith("//"):
        return f"{option}=" * bool(option) + Path(path).name
    return _PLACE.sub(r"\1", value)
