"""What the user can mend, and how a command tells it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something the user can mend. The message says what is wrong, where (file, row, value) and what to do."""


@contextmanager
def report_errors() -> Iterator[None]:
    """Turn a `UserError` into one line on stderr and exit status 2; anything else keeps its traceback."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
