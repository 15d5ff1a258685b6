"""What lm-eval looks up when it runs, and has no option for, is another thing for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replace(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute of a module or class is another one for a while."""
    own = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)
