r"""What leaves this machine (cards, published manifests, trackers, pages) names none of its paths and holds no secret.

`make_public` is the one filter, applied where something is written for others or sent: to what this project says of itself and
of the machine. Rows of data (questions, prompts, answers) never go through it.
"""

import re
from pathlib import Path, PurePath
from typing import Any

from lm_eval_tasks.contracts.errors import UserError

# --- secrets, known by their form: what is shown is the group and three dots

_FORMS = (
    r"(-----BEGIN [A-Z ]*PRIVATE KEY-----)(?!\.\.\.)(?:.|\n)*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    r"\b(hf_)(?:oauth_)?[A-Za-z0-9]{16,}",
    r"\b(github_pat_)\w{20,}",
    r"\b(gh[pousr]_)[A-Za-z0-9]{16,}",
    r"\b(glpat-)[\w-]{16,}",
    r"(?<![\w-])(sk-)(?=[\w-]*\d)[\w-]{16,}",
    r"\b((?:AKIA|ASIA)(?=[A-Z0-9]{16}\b))[A-Z0-9]{16}",
    r"\b(AIza)[\w-]{30,}",
    r"\b(xox[abeprs]-)[\w-]{10,}",
    r"\b(wandb_v1_)\w{16,}",
    r"\b(ey)J[\w-]{8,}\.[\w-]{8,}\.[\w-]*",
    r"(?i)\b(bearer\s+)(?=\S*\d)[\w.~+/=-]{8,}",
    r"(?i)((?:key|token|secret|password|wandb login)\w*[\"']?[\s:=]\s*[\"']?)[0-9a-f]{40}\b",
    # The password of an address, and the user with it.
    r"([a-z][a-z0-9+.-]*://)(?!git@|\.\.\.@)[^\s/'\"<>]+(?=@)",
    r"()(?<![\w./@:-])[\w.%+-]+:[^\s:@/'\"]+(?=@(?:[\w-]+\.)+[\w-]+|@[\w-]+:\d)",
)

# --- secrets, known by their name

# Tokens that are marks in a text, and the words of training about them.
_MARK = r"(?:bos|eos|eot|eom|pad|unk|mask|cls|sep|image|audio|video|stop|end|start|special|trained|next|last|first|per|each|a)"
_WORDS = (
    r"(?:token|secret|passw(?:or)?d|passphrase|pwd|credentials?|signature|api_?key|access_?key(?:_?id)?|secret_?key|"
    r"private_?key|auth_?key)"
).replace("_?", "[_-]?")
_NAME = rf"(?<![\w.-])(?!(?:--)?(?:[\w.-]*[_-])?{_MARK}[_-]token)(?:--)?[\w.-]*{_WORDS}"
# What stands there where there is no secret: nothing, a placeholder, or what was taken out.
_NONE = r"(?!\.\.\.|[<{(\[*,;&]|\$\{?[A-Z_]{3,}|(?:None|null|true|false|\d{1,6})\b|os\.)"
_VALUE = rf"{_NONE}(?:\"[^\"\n]+\"|'[^'\n]+'|[^\s,;&\"'`]+)"
_NAMED = (
    rf"(?i)({_NAME}=){_VALUE}",
    rf"(?im)(^[ \t]*{_NAME}:[ \t]+){_VALUE}",
    rf"(?i)([\"']{_NAME}[\"']\s*:\s*){_VALUE}",
    rf"(?i)((?<!\S)--(?!(?:[\w.-]*[_-])?{_MARK}[_-]token)[\w.-]*{_WORDS}[ \t]+(?!--)){_VALUE}",
    r"(?<!\w)([A-Z][A-Z0-9_]*_KEY=)(?!\.\.\.)[^\s,;&\"'`]{8,}",
)
_SECRETS = [re.compile(pattern) for pattern in (*_FORMS, *_NAMED)]
_SECRET_NAME = re.compile(rf"(?i){_NAME}")
_MAIL = re.compile(r"(?<![\w.+-])(?!git@)\w[\w.+-]*@(?:[\w-]+\.)+[A-Za-z]{2,}\b")

# --- paths

_PART = r"""[^\s/\\,;:'"=|<>`]+"""
_SHARE = r"(?:file|smb|cifs|nfs|afp|sftp):/+"
# How an absolute path begins: `C:\x`, `C:/x`, `\\?\C:\x` and `\\server\share`, where names often hold spaces, and
# `/x`, `~/x`, `~me/x`, `file:///x` and `//server/share`.
_WINDOWS = rf"(?:(?:file:/+|\\\\\?\\)?[A-Za-z]:[/\\]+|\\\\(?={_PART}))"
_POSIX = rf"(?:{_SHARE}|~[\w.-]*[/\\]+|(?!(?<=:)//)/{{1,2}}(?={_PART}))"
_BEGIN = rf"(?:{_WINDOWS}|{_POSIX})"
_QUOTED = re.compile(rf"""(["'`]){_BEGIN}[^"'`\n,;:=|]*[/\\]([^"'`\n,;:=|/\\]+)[/\\]*\1""")
# Within a text. What begins with a scheme, a colon and two slashes is an address of the web.
_SPACED = rf"{_PART}(?: {_PART}){{0,3}}"
_PATH = re.compile(
    rf"(?<![\w.~/\\<])(?:{_WINDOWS}(?:{_SPACED}[/\\]+)*|{_POSIX}(?:{_PART}[/\\]+)*)({_PART})?[/\\]*",
)
# A text that is one path, which may hold spaces.
_WHOLE = re.compile(rf"({_BEGIN})[^'\"]*")
_SETTING = re.compile(r"(?:--)?[\w.-]+=")


def make_public(value: Any, keep_paths: bool = False) -> Any:
    r"""A value, or a structure of lists and dictionaries, as others may see it.

    Of absolute paths the last part is left; tokens, passwords and e-mail addresses become three dots. Hub ids, addresses of the
    web and relative paths stay. What was made public stays as it is.

    Args:
        value: texts and paths, in whatever structure; a list may be a command line, whose options name secrets. Numbers and
            other objects stay as they are.
        keep_paths: leave paths, for what stays on this machine.

    >>> make_public({"model": "/home/me/my models/llama", "see": "https://hf.co/me/x, ~/notes.md"})
    {'model': 'llama', 'see': 'https://hf.co/me/x, notes.md'}
    >>> make_public([r"C:\Users\me\x", r"\\server\share\me\x", "--dir=/home/me/my models/x", "--hub_token", "secret"])
    ['x', 'x', '--dir=x', '--hub_token', '...']
    >>> make_public("http://me:word@proxy:3128, Me <me@work.org>, WANDB_API_KEY=0123456789")
    'http://...@proxy:3128, Me <...>, WANDB_API_KEY=...'
    """
    if isinstance(value, dict):
        return {
            make_public(name, keep_paths): "..." if _is_secret(name) and _is_text(item) else make_public(item, keep_paths)
            for name, item in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        items = list(value)
        return [
            "..." if _is_option(before) and _is_text(item) and not item.startswith("--") else make_public(item, keep_paths)
            for item, before in zip(items, [None, *items])
        ]
    if isinstance(value, PurePath):
        value = str(value)
    if not isinstance(value, str):
        return value
    text = _hide_secrets(value)
    return text if keep_paths else _shorten_paths(text)


def find_secret(text: str) -> str | None:
    """How the first secret in a text begins, as a message may show it; None where there is none.

    >>> find_secret("load it with token=hf_abcdefghijklmnopqrstuvwx")
    'hf_ab...'
    """
    for pattern in _SECRETS:
        if found := pattern.search(text):
            return f"{found[0][:5]}..."
    return None


def check_secrets(file: Path, text: str, token: str | None = None) -> None:
    """Look for secrets in a file that is about to be sent.

    Args:
        file: which one.
        text: what it says.
        token: the one in use, of whatever form.

    Raises:
        UserError: it holds one, which has then been seen by others already.
    """
    found = f"{token[:5]}..." if token and token in text else find_secret(text)
    if found:
        raise UserError(f"{file} holds what looks like an access token ({found}). Remove it, and revoke it.")


def check_paths(file: Path, text: str) -> None:
    """Raise a `UserError` where a file that is sent as its user left it names their home, or where its folder stands."""
    for path in (Path.home(), file.resolve().parent.parent):
        if len(path.parts) > 2 and str(path) in text:
            raise UserError(f"{file} names {str(path)!r}, a path on your machine. Take it out of the text, and push again.")


def _is_secret(name: Any) -> bool:
    return isinstance(name, str) and bool(_SECRET_NAME.fullmatch(name))


def _is_option(word: Any) -> bool:
    return _is_text(word) and word.startswith("--") and _is_secret(word)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _hide_secrets(text: str) -> str:
    for pattern in _SECRETS:
        text = pattern.sub(lambda found: f"{found[1]}...", text)
    return _MAIL.sub("...", text)


def _shorten_paths(text: str) -> str:
    for own in (Path.cwd(), Path.home()):  # within a text nothing else tells where a path with spaces ends
        text = text.replace(f"{own}/", "~/") if len(own.parts) > 2 else text
    if not _SETTING.match(text):
        return _shorten(text)
    # `--dir=/home/me/my models/x`, or `pretrained=/home/me/my models/x,dtype=auto`.
    parts = (part.rpartition("=") if _SETTING.match(part) else ("", "", part) for part in text.split(","))
    return ",".join(f"{name}{sign}{_shorten(value)}" for name, sign, value in parts)


def _shorten(text: str) -> str:
    whole = _WHOLE.fullmatch(text.strip())
    # A text that begins as a path may go on with others, each of which is shortened by itself.
    if whole and not re.search(r"[,;:=|\n]", text.strip()[whole.end(1) :]):
        return _take_last(text.strip())
    text = _QUOTED.sub(r"\1\2\1", text)
    return _PATH.sub(lambda found: found[1] or "", text)


def _take_last(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]
