"""Text in a markdown card: what data holds is shown as it is, and is neither markdown nor HTML there."""

import re
from typing import Any


class Markdown(str):
    """Text that is markdown already."""


def escape_text(value: Any) -> Any:
    """Text such that markdown shows it as it is, on one line, in a table's cell too; `Markdown` and what is no text stay."""
    if not isinstance(value, str) or isinstance(value, Markdown):
        return value
    text = re.sub(r"([\\`*|\[\]~$]|(?<!\w)_|_(?!\w))", r"\\\1", _flatten(value))
    return re.sub(r"&(?=#?\w+;)", "&amp;", text).replace("<", "&lt;").replace(">", "&gt;")


def quote_code(value: Any, cell: bool = False) -> Markdown:
    """Text as code within a line, fenced by more backticks than it holds in a row; in a table's `cell` its pipes are marked."""
    text = _flatten(str(value)).replace("|", "\\|" if cell else "|")
    if not text.strip():
        return Markdown(text)
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    space = " " if "`" in (text[0], text[-1]) else ""
    return Markdown(fence + space + text + space + fence)


def _flatten(text: str) -> str:
    """One line without control characters."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", "", re.sub(r"\s+", " ", text))
