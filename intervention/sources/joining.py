"""Question sets as one: what a study asks of several banks, in the domains and numbers that it needs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from intervention.conditions import shuffle_rows
from intervention.publishing.licences import Terms
from intervention.sources.origin import Origin, find_all_terms, join_words
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.free_form import find_set_kind
from lm_eval_tasks.contracts.manifest import read_manifest
from lm_eval_tasks.contracts.names import name_unknown
from lm_eval_tasks.contracts.questions import check_unique
from lm_eval_tasks.contracts.vocabulary import SPLITS

BIBLIOGRAPHY = Path(__file__).parents[1] / "publishing/templates"


def join_sets(
    sets: Sequence[str], domains: Sequence[str] = (), most: Sequence[str] = (), seed: int = 0
) -> tuple[pl.DataFrame, Origin]:
    """The questions of several question sets.

    Args:
        sets: folders; `dev,test=FOLDER` takes these splits alone.
        domains: `NEW=OLD,OLD`: the new name of domains, of all sets.
        most: `SPLIT=N` or `DOMAIN/SPLIT=N`: at most so many questions of each source and domain, taken at random; what names a
            domain (by its new name) wins over what does not.
        seed: of what is taken.

    Returns:
        The columns of the questions, which are all of the first set's kind, and `split`, in the sets' order; their origin.

    Raises:
        UserError: an argument that cannot be read, a domain or split that no set has, two questions of one id,
            a set of the other kind of questions.
    """
    tables, terms = [], []
    kind = find_set_kind(read_word(sets[0])[1])
    for word in sets:
        splits, folder = read_word(word)
        table = kind.read(folder, splits=splits)
        tables.append(table)
        config = (read_manifest(folder) or {}).get("config", {})
        terms += [Terms(**part) for part in config["terms"]] if "terms" in config else find_all_terms(table)
    table = pl.concat(tables)
    renamed = read_names(domains, table["domain"].unique().to_list())
    table = table.with_columns(pl.col("domain").replace(renamed))
    check_unique(table, ", ".join(map(str, sets)))
    table, notes = take_most(table, read_most(most, table["domain"].unique().to_list()), seed)
    if renamed:
        notes.insert(0, "Domains by their new names: " + "; ".join(f"{old} is {new}" for old, new in renamed.items()) + ".")
    told = [name for name in table["source"].unique().sort() if (BIBLIOGRAPHY / f"{name}.bib").is_file()]
    own = {part.source: part for part in terms}
    config = {"sets": [*sets], "domains": [*domains], "most": [*most]}
    return table, Origin([*own.values()], notes, citations=told, config=config, seeds={"sample": seed})


def read_word(word: str) -> tuple[list[str], str]:
    """The splits and the folder of a word of the command line: `dev,test=FOLDER`, or a folder of which all splits are meant.

    >>> read_word("dev,test=banks/mmlu"), read_word("banks/mmlu")[0]
    ((['dev', 'test'], 'banks/mmlu'), ['train', 'dev', 'test'])
    """
    before, given, folder = word.partition("=")
    splits = [part.strip() for part in before.split(",")]
    if given and all(split in SPLITS for split in splits):
        return splits, folder
    return [*SPLITS], word


def read_names(words: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """The new name of each domain that `NEW=OLD,OLD` renames.

    Raises:
        UserError: a word of another form, a domain that is not there, or one that is renamed twice.
    """
    names: dict[str, str] = {}
    for word in words:
        new, _, olds = (part.strip() for part in word.partition("="))
        if not (new and olds):
            raise UserError(f"--domain {word}: write NEW=OLD,OLD, as science=physics,chemistry.")
        for old in (part.strip() for part in olds.split(",")):
            if unknown := name_unknown([old], known):
                raise UserError(f"--domain {word}: no set has the domain {unknown[0]}. They have {join_words(sorted(known))}.")
            if names.setdefault(old, new) != new:
                raise UserError(f"--domain {word}: {old} is renamed to {names[old]}, too. Name it once.")
    return names


def read_most(words: Sequence[str], known: Sequence[str]) -> dict[tuple[str | None, str], int]:
    """The most questions by domain (None: any) and split.

    >>> read_most(["test=20", "science/test=100"], ["science"])
    {(None, 'test'): 20, ('science', 'test'): 100}
    """
    found: dict[tuple[str | None, str], int] = {}
    for word in words:
        where, _, number = (part.strip() for part in word.partition("="))
        domain, _, split = where.rpartition("/")
        if split not in SPLITS or not number.isdigit():
            raise UserError(f"--most {word}: write SPLIT=N or DOMAIN/SPLIT=N, as test=200; splits are {', '.join(SPLITS)}.")
        if domain and (unknown := name_unknown([domain], known)):
            raise UserError(f"--most {word}: there is no domain {unknown[0]}. There are {join_words(sorted(known))}.")
        found[domain or None, split] = int(number)
    return found


def take_most(table: pl.DataFrame, most: Mapping[tuple[str | None, str], int], seed: int) -> tuple[pl.DataFrame, list[str]]:
    """At most so many questions of each source, domain and split, in the order of a table; and a sentence of what was taken."""
    if not most:
        return table, []
    kept = []
    among = ("source", "domain", "split")
    for (_, domain, split), part in table.with_row_index("_row").partition_by(*among, as_dict=True).items():
        limit = most.get((domain, split), most.get((None, split), part.height))
        kept.append(shuffle_rows(part, seed, "sample").head(limit)["_row"])
    taken = table[pl.concat(kept).sort()]
    told = ", ".join(f"{f'{domain}/' if domain else ''}{split}={count}" for (domain, split), count in most.items())
    return taken, [f"At most so many questions of each source and domain, taken at random ({told}; seed {seed})."]
