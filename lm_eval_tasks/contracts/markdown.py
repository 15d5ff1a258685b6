"""Text in markdown: what data holds is shown as it is, and is neither markdown nor HTML there."""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lm_eval_tasks.contracts.public import make_public


class Markdown(str):
    """Text that is markdown already."""


def escape_text(value: Any) -> Any:
    """Text such that markdown shows it as it is, on one line, in a table's cell too; `Markdown` and what is no text stay.

    >>> escape_text("a_b |*c* <script>")
    'a_b \\\\|\\\\*c\\\\* &lt;script&gt;'
    """
    if not isinstance(value, str) or isinstance(value, Markdown):
        return value
    text = re.sub(r"([\\`*|\[\]~$]|(?<!\w)_|_(?!\w)|^#)", r"\\\1", _flatten(value))
    return re.sub(r"&(?=#?\w+;)", "&amp;", text).replace("<", "&lt;").replace(">", "&gt;")


def quote_code(value: Any, cell: bool = False) -> Any:
    """Text as code within a line, fenced by more backticks than it holds in a row; `Markdown` and what is no text stay.

    Args:
        value: what is quoted.
        cell: whether it stands in a table's cell, where pipes are marked.

    >>> quote_code("a`b")
    '``a`b``'
    """
    if not isinstance(value, str) or isinstance(value, Markdown):
        return value
    text = _flatten(value).replace("|", "\\|" if cell else "|")
    if not text:
        return Markdown("(empty)")
    fence = _make_fence(text, 1)
    space = " " if "`" in (text[0], text[-1]) else ""
    return Markdown(fence + space + text + space + fence)


def quote_block(text: str, language: str) -> Markdown:
    """Lines as a block of code, which nothing in them can end."""
    fence = _make_fence(text, 3)
    return Markdown(f"{fence}{language}\n{text}\n{fence}")


def format_table(table: pl.DataFrame) -> Markdown:
    """A table as markdown, for cards and for the terminal; what its cells hold is text."""
    escaped = table.with_columns(pl.col(pl.String).map_elements(escape_text, return_dtype=pl.String))
    with pl.Config(
        tbl_formatting="MARKDOWN",
        tbl_hide_column_data_types=True,
        tbl_hide_dataframe_shape=True,
        tbl_rows=-1,
        tbl_cols=-1,
        tbl_width_chars=10_000,
        fmt_str_lengths=1_000,
        float_precision=3,
    ):
        return Markdown(escaped)


def wrap_command(words: Sequence[str]) -> str:
    """A command line as a shell takes it, an option a line."""
    lines: list[list[str]] = [[]]
    for word in words:
        if word.startswith("--") and lines[-1]:
            lines.append([])
        lines[-1].append(word)
    return " \\\n    ".join(map(shlex.join, lines))


def make_environment(
    folder: Path, finalize: Callable[[Any], Any], filters: Mapping[str, Callable[..., Any]] | None = None
) -> Environment:
    """Templates of markdown cards, which others read: every value is made public, and plain text; a missing one is an error.

    Args:
        folder: where the templates stand.
        finalize: `escape_text` or `quote_code`, which leave `Markdown` as it is.
        filters: beside `markdown` (takes a text for markdown), `code` (`quote_code`) and `block` (`quote_block`).
    """
    environment = Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: finalize(_publish(value)),
    )
    own = {"markdown": Markdown, "code": quote_code, "block": quote_block, **(filters or {})}
    environment.filters |= {name: _filter_public(function) for name, function in own.items()}
    return environment


def _publish(value: Any) -> Any:
    shown = make_public(value)
    return Markdown(shown) if isinstance(value, Markdown) else shown


def _filter_public(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that sees what others may see: a path with spaces is one here, and no more once it stands in a text."""
    return lambda value, *args, **kwargs: function(_publish(value), *args, **kwargs)


def _make_fence(text: str, least: int) -> str:
    return "`" * max(least, 1 + max(map(len, re.findall("`+", text)), default=0))


def _flatten(text: str) -> str:
    """One line, without the characters that are not shown: controls, and those that turn the direction of writing."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())
