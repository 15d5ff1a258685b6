"""The lines of a log, plain or gzip. Imports neither torch nor lm_eval."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from lm_eval_tasks.contracts.errors import UserError


def iterate_lines(file: Path) -> Iterator[bytes]:
    """The lines of a log, plain or gzip; a `UserError` where the file is cut or damaged."""
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            yield from stream
    except (EOFError, OSError, zlib.error) as error:
        raise UserError(f"{file} is cut or damaged ({error}). Ask again, or fetch the file again.") from error
