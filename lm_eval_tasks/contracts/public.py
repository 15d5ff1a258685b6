"""What leaves this machine (cards, published manifests, pages) names none of its paths and holds no token."""

import re
from collections.abc import Sequence
from typing import Any

TOKEN = re.compile(r"\bhf_(?:oauth_)?[A-Za-z0-9]{16,}")

_PART = r"""[^\s/\\,;:'"=|<>`]+"""
# How an absolute path begins: `/x`, `~/x`, `~me/x`, `C:\x`, `C:/x`, `file:///x`, and `\\server\share` or `//server/share`.
_BEGIN = r"(?:file:/+|(?:~[\w.-]*|[A-Za-z]:)[/\\]+|(?!(?<=:)//)/{1,2}(?=[^\s/\\])|\\\\(?=[^\s/\\]))"
# Within a text. What begins with a scheme, a colon and two slashes is an address of the web.
_PATH = re.compile(rf"(?<![\w.~/\\<]){_BEGIN}(?:{_PART}[/\\]+)*({_PART})?[/\\]*")
# A text that is one path, which may hold spaces.
_WHOLE = re.compile(rf"{_BEGIN}[^'\"]*")
_SETTING = re.compile(r"(?:--)?[\w.-]+=")


def shorten_paths(value: Any) -> Any:
    r"""A value, or a structure of lists and dictionaries, in whose texts only the last part of an absolute path is left.

    >>> shorten_paths({"model": "/home/me/my models/llama", "see": "https://hf.co/me/x, ~/notes.md"})
    {'model': 'llama', 'see': 'https://hf.co/me/x, notes.md'}
    >>> shorten_paths([r"C:\Users\me\x", r"\\server\share\me\x", "--dir=/home/me/my models/x"])
    ['x', 'x', '--dir=x']
    """
    if isinstance(value, dict):
        return {shorten_paths(name): shorten_paths(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shorten_paths(item) for item in value]
    if not isinstance(value, str):
        return value
    if not _SETTING.match(value):
        return _shorten(value)
    # `--dir=/home/me/my models/x`, or `pretrained=/home/me/my models/x,dtype=auto`.
    parts = (part.rpartition("=") if _SETTING.match(part) else ("", "", part) for part in value.split(","))
    return ",".join(f"{name}{sign}{_shorten(text)}" for name, sign, text in parts)


def hide_tokens(words: Sequence[str]) -> list[str]:
    """A command line without the values of its `--..._token` options, and without whatever looks like a token of the Hub.

    >>> hide_tokens(["--hub_token", "secret", "--note=hf_abcdefghijklmnopqrst"])
    ['--hub_token', '...', '--note=hf_...']
    """
    shown: list[str] = []
    for word, before in zip(words, ["", *words]):
        name, sign, _ = word.partition("=")
        if before.startswith("--") and before.endswith("_token"):
            word = "..."
        elif sign and name.startswith("--") and name.endswith("_token"):
            word = f"{name}=..."
        shown.append(TOKEN.sub("hf_...", word))
    return shown


def _shorten(text: str) -> str:
    if _WHOLE.fullmatch(text.strip()) and not _is_list(text):
        return _take_last(text.strip())
    return _PATH.sub(lambda found: found[1] or "", text)


def _is_list(text: str) -> bool:
    """Whether a text that begins as a path goes on with others, each of which is shortened by itself."""
    return bool(re.search(r"[,;:=|]", text[3:]))


def _take_last(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]
