"""Places on a user's machine, which do not belong into what is published: of an absolute path its last part is kept."""

import re
from typing import Any

# `/home/me/x`, `~/x`, `C:\x` and `file:///x`, also within `pretrained=/home/me/x,dtype=auto`; a web address is no such path.
_PART = r"""[^\s/\\,;:'"=|<>`]+"""
_PATH = re.compile(rf"(?<![\w.~/\\<])(?:(?:file://|~[\w-]*)?(?:/{_PART})+/?|[A-Za-z]:(?:[/\\]{_PART})+[/\\]?)")
_WHOLE = re.compile(r"(?:file://|~[\w-]*|[A-Za-z]:)?/[^=,'\"]*|[A-Za-z]:\\[^=,'\"]*")


def shorten_paths(value: Any) -> Any:
    """A value, or a structure of lists and dictionaries, in whose texts only the last part of an absolute path is left."""
    if isinstance(value, dict):
        return {shorten_paths(name): shorten_paths(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shorten_paths(item) for item in value]
    if not isinstance(value, str):
        return value
    if _WHOLE.fullmatch(value):  # one path, which may hold spaces
        return _take_last(value)
    return _PATH.sub(lambda match: _take_last(match[0]), value)


def _take_last(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]
