"""Where questions come from and what was done to them: what the card of a question set and its manifest say."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from intervention.publishing.licences import Terms, find_terms
from lm_eval_tasks.contracts.files import hash_path
from lm_eval_tasks.contracts.free_form import find_kind


@dataclass(frozen=True)
class Origin:
    """What is known of the questions of a set beyond themselves."""

    terms: Sequence[Terms] = ()
    notes: Sequence[str] = ()  # what was decided or inferred: a sentence each, for the card and the terminal
    dropped: Mapping[str, int] = field(default_factory=dict)  # why -> how many rows of the source
    citations: Sequence[str] = ()  # the names of the sources of which templates/NAME.bib is shown
    config: Mapping[str, Any] = field(default_factory=dict)  # the resolved options of the source
    seeds: Mapping[str, int] = field(default_factory=dict)

    def list_terms(self) -> list[dict[str, str]]:
        """The terms as a manifest keeps them."""
        return [asdict(terms) for terms in self.terms]


def find_all_terms(table: pl.DataFrame, licence: str | None = None) -> list[Terms]:
    """The terms of every source in a table of questions."""
    return [find_terms("questions", source, licence) for source in table["source"].unique().sort()]


def join_words(words: Iterable[object], most: int = 12) -> str:
    """`a, b, c`; after `most` of them, how many more there are. White space in a name becomes one space."""
    words = [" ".join(str(word).split()) for word in words]
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def drop_rows(table: pl.DataFrame, reasons: Mapping[str, pl.Expr]) -> tuple[pl.DataFrame, dict[str, int]]:
    """Leave rows out, and count them by the first reason that fits; reasons that fit no row are not listed."""
    reason = pl.coalesce(pl.when(rule.fill_null(False)).then(pl.lit(name)) for name, rule in reasons.items())
    found = table.select(reason).to_series()
    counts = {name: int((found == name).sum()) for name in reasons}
    return table.filter(found.is_null()), {name: count for name, count in counts.items() if count}


def hash_table(table: pl.DataFrame) -> str:
    """SHA-256 over the hashes of questions in their order, 16 hexadecimal digits."""
    return hashlib.sha256("".join(find_kind(table.columns).hash(table)).encode()).hexdigest()[:16]


def hash_source(path: str | Path, table: pl.DataFrame) -> dict[str, str]:
    """A manifest's `inputs`: the hash of a local source, or, of one from the Hub, of the questions that it gave."""
    if Path(path).exists():
        return {"questions": hash_path(path)}
    return {f"questions of {path}": hash_table(table)}
