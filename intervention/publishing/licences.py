"""The terms under which questions, general instructions and generated texts may be used and passed on.

Licences are named as the Hub names them (https://huggingface.co/docs/hub/repositories-licenses). What is said here of a source
is what its own page said in November 2026: a help for looking it up, not legal advice.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.manifest import read_manifest
from lm_eval_tasks.contracts.questions import read_header

UNKNOWN = "unknown"
# From the strictest kind to the freest. A licence that stands nowhere here is `named`: only its name is known.
KINDS: dict[str, tuple[str, ...]] = {
    "unknown": (UNKNOWN, "other"),
    "named": (),
    "no derivatives": ("cc-by-nc-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nd-4.0"),
    "non-commercial, share-alike": ("cc-by-nc-sa-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-2.0"),
    "non-commercial": ("cc-by-nc-4.0", "cc-by-nc-3.0", "cc-by-nc-2.0", "fair-noncommercial-research-license"),
    "share-alike": (
        *("cc-by-sa-4.0", "cc-by-sa-3.0", "odbl", "cdla-sharing-1.0", "gfdl"),
        *("agpl-3.0", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "mpl-2.0"),
    ),
    "of a model": (
        *("llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "gemma"),
        *("openrail", "openrail++", "bigscience-bloom-rail-1.0", "bigscience-openrail-m", "bigcode-openrail-m"),
    ),
    "attribution": ("cc-by-4.0", "cc-by-3.0", "cc-by-2.5", "cc-by-2.0", "odc-by", "etalab-2.0"),
    "permissive": (
        *("apache-2.0", "mit", "afl-3.0", "artistic-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "bsl-1.0", "isc", "zlib"),
        *("cdla-permissive-1.0", "cdla-permissive-2.0", "c-uda", "ecl-2.0", "ms-pl", "ncsa", "postgresql"),
    ),
    "public domain": ("cc0-1.0", "pddl", "unlicense", "wtfpl"),
}
FREE = ("attribution", "permissive", "public domain")  # asks for no more than naming where it came from

_GPT = "OpenAI's terms of use forbid training models that compete with OpenAI's on what its models write."
_RELEASE = "The paper's release names no licence; its questions are Xiezhi's (cc-by-nc-sa-4.0) and MedMCQA's (apache-2.0)."
SOURCES: dict[str, tuple[str, str]] = {
    "medmcqa": ("apache-2.0", ""),
    "openlifescienceai/medmcqa": ("apache-2.0", ""),
    "xiezhi": ("cc-by-nc-sa-4.0", ""),
    "mmlu": ("mit", ""),
    "cais/mmlu": ("mit", ""),
    "cmmlu": ("cc-by-nc-4.0", ""),
    "haonan-li/cmmlu": ("cc-by-nc-4.0", ""),
    "ceval": ("cc-by-nc-sa-4.0", ""),
    "ceval/ceval-exam": ("cc-by-nc-sa-4.0", ""),
    "squad": ("cc-by-sa-4.0", ""),
    "rajpurkar/squad": ("cc-by-sa-4.0", ""),
    "sciq": ("cc-by-nc-3.0", ""),
    "allenai/sciq": ("cc-by-nc-3.0", ""),
    **dict.fromkeys(("triviaqa", "mandarjoshi/trivia_qa"), (UNKNOWN, "Its page on the Hub says that its licence is unknown.")),
    **dict.fromkeys(("popqa", "akariasai/PopQA"), (UNKNOWN, "Its page on the Hub names no licence.")),
    "vicgalle/alpaca-gpt4": ("cc-by-nc-4.0", f"Written by GPT-4: {_GPT}"),
    "renmengjie7/self-aligning": (UNKNOWN, _RELEASE),
    **dict.fromkeys(
        ("miniworld", "miniworld_exam", "miniworld_survey", "miniworld_general"), ("apache-2.0", "Made up for selfalign.")
    ),
}
LANGUAGES = dict.fromkeys(("triviaqa", "trivia_qa", "popqa", "squad", "sciq"), "en") | {
    "medmcqa": "en",
    "mmlu": "en",
    "cmmlu": "zh",
    "ceval": "zh",
    "alpaca-gpt4": "en",
    "ceval-exam": "zh",
}
_LLAMA = "Its licence forbids using its output to improve another large language model than {0} and what derives from it."
_LLAMA_NAME = "A model that is trained on its output must be distributed with a name that begins with 'Llama'."
# What a model's name begins with -> its licence; the first that fits counts, so the exceptions stand first.
MODELS: tuple[tuple[str, str, str], ...] = (
    (r"(meta-)?llama-?2\b", "llama2", _LLAMA.format("Llama 2")),
    (r"(meta-)?llama-?3[.-]([123])\b(?!b)", r"llama3.\2", _LLAMA_NAME),
    (r"(meta-)?llama-?3\b(?![.-]\d+\b(?!b))", "llama3", _LLAMA.format("Llama 3")),
    (r"(meta-)?llama-?4\b", "llama4", _LLAMA_NAME),
    (r"mistral-7b|mixtral-8x|mistral-nemo", "apache-2.0", ""),
    (r"qwen2\.5-3b", "qwen-research", "For research only."),
    (r"qwen2\.5-72b", "qwen", ""),
    (r"qwen2-72b|qwen1\.5|qwen-", "tongyi-qianwen", ""),
    (r"qwen(2|2\.5|3)-", "apache-2.0", ""),
    (r"gemma-(2b|7b|2-|3-|3n-)", "gemma", ""),
    (r"gemma-4", "apache-2.0", ""),
    (r"gpt-[345]|o[134]\b|chatgpt", "openai-terms", _GPT),
)
FILES = r"\.(jsonl|json|csv|tsv|parquet)(\.gz)?$"
GENERATED = ("explanations", "contexts")  # the parts that a model writes


@dataclass(frozen=True)
class Terms:
    """What one part of a data set is under."""

    part: str  # `questions`, `general instructions`, `explanations` or `contexts`
    source: str  # who wrote it: the name of a question source, a data set on the Hub, a model
    licence: str  # the Hub's name of the licence (`cc-by-nc-sa-4.0`), `unknown`, or the name of one that the Hub does not list
    note: str = ""  # what else its terms ask, in words


def find_terms(part: str, source: str, given: str | None = None) -> Terms:
    """The terms of a source: those that its user gave, else those that are known of it, else those that its own card names.

    Args:
        part: what of the data set it is.
        source: a question source, a data set of the Hub, a model of the Hub, a folder with a card (README.md), or a file: its
            folder's card counts, and what `recipes.miniworld.world` wrote is known.
        given: the licence that the user names.

    Raises:
        UserError: what is given cannot be a licence's name.
    """
    name = source.strip().rstrip("/")
    path = Path(name)
    file = bool(re.search(FILES, name.lower()))
    local = path.exists() or path.is_absolute() or file or name.startswith((".", "~"))
    name = path.name if local else name  # terms are published: a path on someone's machine is nobody's business
    if given is not None:
        return Terms(part, name, check_licence(given), "As whoever made this set says.")
    if known := SOURCES.get(source.strip().lower()):
        return Terms(part, source.strip(), *known)
    folder = path.parent if file else path
    if file and _is_world(folder):
        return Terms(part, name, *SOURCES["miniworld"])
    if (file or part in GENERATED or "/" in source) and (own := _read_card(folder)):
        return Terms(part, name, own, "As its own card says.")
    for pattern, licence, note in MODELS if part in GENERATED and not file else ():
        if match := re.match(pattern, name.rpartition("/")[2].lower()):
            return Terms(part, name, match.expand(licence), note)
    return Terms(part, name, UNKNOWN)


def check_licence(name: str) -> str:
    """A licence's name as the Hub writes it: `CC BY-NC 4.0` becomes `cc-by-nc-4.0`.

    Raises:
        UserError: it could not be one.

    >>> check_licence("CC BY-NC 4.0")
    'cc-by-nc-4.0'
    """
    short = "-".join(name.lower().split())
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,80}", short):
        raise UserError(
            f"licence {name!r} is not a licence's name. Name it as the Hub does, such as cc-by-4.0, apache-2.0 or unknown."
        )
    return short


def find_kind(licence: str) -> str:
    """The kind of a licence, a key of `KINDS`."""
    return next((kind for kind, names in KINDS.items() if licence in names), "named")


def choose_strictest(terms: Sequence[Terms]) -> str:
    """The licence of a data set that is made of all these parts: the most restrictive of theirs, in the order of `KINDS`.

    What is not known to be allowed is not allowed, so an unknown licence is the strictest; within a kind the order of the names
    counts, and two named licences that are not on the Hub's list are `other`.
    """
    order = [name for names in KINDS.values() for name in names]
    strictest = min((term.licence for term in terms), key=lambda name: _place(name, order), default=UNKNOWN)
    named = {term.licence for term in terms if find_kind(term.licence) == "named"}
    return "other" if find_kind(strictest) == "named" and len(named) > 1 else strictest


def needs_acceptance(licence: str) -> bool:
    """Whether whoever passes the data on must agree to more than naming where it came from."""
    return find_kind(licence) not in FREE


def describe_licence(licence: str) -> dict[str, str]:
    """The lines of a card's header that name a licence; the Hub wants `other` and a name for one that it does not list."""
    return {"license": "other", "license_name": licence} if find_kind(licence) == "named" else {"license": licence}


def note_clashes(terms: Sequence[Terms]) -> list[str]:
    """A sentence for each pair of licences that ask for things which cannot both be done with one work made of both parts."""
    licences = sorted({term.licence for term in terms})
    notes = []
    for licence in licences:
        kind = find_kind(licence)
        if kind == "no derivatives":
            notes.append(f"{licence} allows no changed version to be passed on, and a set that is built from its part is one.")
        if "share-alike" not in kind:
            continue
        # Non-commercial parts may go into a work under the share-alike licence that is non-commercial itself.
        stricter = {"no derivatives", "named", "of a model", "share-alike", "non-commercial, share-alike"}
        stricter |= {"non-commercial"} if kind == "share-alike" else set()
        others = [
            other for other in licences if find_kind(other) in stricter and _drop_version(other) != _drop_version(licence)
        ]
        if others:
            notes.append(
                f"{licence} asks that a work made from its part be passed on under {licence} and nothing stricter, but "
                f"{' and '.join(others)} asks for other terms: both cannot hold for one work made of both parts."
            )
    return notes


def find_languages(terms: Sequence[Terms]) -> list[str]:
    """The languages of a data set's parts (ISO 639-1), as a card's header wants them; none where one of them is not known."""
    names = [term.source.lower().rpartition("/")[2] for term in terms if term.part not in GENERATED]
    found = ["en" if name.startswith("miniworld") else LANGUAGES.get(name, "") for name in names]
    return sorted(set(found)) if found and all(found) else []


def read_terms(config: Mapping[str, Any]) -> list[Terms] | None:
    """The terms that a manifest's `config` keeps; None where it keeps none."""
    rows = config.get("terms")
    return None if rows is None else [Terms(**{name: str(row[name]) for name in Terms.__match_args__}) for row in rows]


def _read_card(folder: Path) -> str | None:
    """The licence that the header of a folder's card names."""
    try:
        header = read_header(folder / "README.md")
        names = header.get("license_name") if header.get("license") == "other" else header.get("license")
        names = [check_licence(str(name)) for name in (names if isinstance(names, list) else [names]) if name]
    except UserError:
        return None
    return choose_strictest([Terms("", "", name) for name in names]) if names else None


def _is_world(folder: Path) -> bool:
    try:
        return (read_manifest(folder) or {}).get("stage") == "world"
    except UserError:
        return False


def _place(licence: str, order: Sequence[str]) -> tuple[int, int, str]:
    kind = find_kind(licence)
    return list(KINDS).index(kind), order.index(licence) if licence in order else 0, licence


def _drop_version(licence: str) -> str:
    return re.sub(r"-[\d.]+$", "", licence)
