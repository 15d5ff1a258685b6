"""The lines of a log, plain or gzip, and what is wrong with one. Imports neither torch nor lm_eval."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lm_eval_tasks.contracts.errors import UserError


class Line(NamedTuple):
    """A line of JSON."""

    number: int  # from 1
    where: str  # how messages name it: "log.jsonl, line 1"
    text: str
    value: Any


def iterate_lines(file: Path) -> Iterator[bytes]:
    """The lines of a file, plain or gzip; a `UserError` where the file is cut or damaged."""
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            yield from stream
    except (EOFError, OSError, zlib.error) as error:
        raise UserError(f"{file} is cut or damaged ({error}). Ask again, or fetch the file again.") from error


def parse_lines(file: Path, **options: Any) -> Iterator[Line]:
    """The lines of a file, plain or gzip, that are not blank, each read as JSON.

    Args:
        file: JSON lines.
        **options: of `json.loads`.

    Raises:
        UserError: the file is cut or damaged, or a line is not one whole piece of JSON; names the line.
    """
    for number, raw in enumerate(iterate_lines(file), 1):
        where = f"{file}, line {number}"
        try:
            text = raw.decode()
            value = json.loads(text, **options) if text.strip() else None
        except UnicodeDecodeError:
            raise UserError(f"{where} is not UTF-8 text. Save the file as UTF-8 without a byte order mark.") from None
        except ValueError:
            cut = "" if raw.endswith(b"\n") else " (the file ends in the middle of it)"
            raise UserError(
                f"{where} is not a whole line of JSON{cut}. Ask again, mend or remove the line, or fetch the file again."
            ) from None
        if text.strip():
            yield Line(number, where, text, value)
