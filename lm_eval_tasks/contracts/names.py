"""Names that a user wrote and nothing has: said with the nearest that there is, never passed over."""

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches

from lm_eval_tasks.contracts.errors import UserError


def name_unknown(given: Iterable[str], known: Collection[str]) -> list[str]:
    """Each given name that is not known, with the nearest one that is.

    >>> name_unknown(["seed", "condition"], ["seeds", "conditions", "seed"])
    ["'condition' (is 'conditions' meant?)"]
    """
    said = []
    for name in map(str, given):
        if name not in known:
            near = get_close_matches(name, sorted(known), 1)
            said.append(f"{name!r} (is {near[0]!r} meant?)" if near else repr(name))
    return said


def find_repeated(names: Iterable[object]) -> list[object]:
    """What stands several times, once each.

    >>> find_repeated(["a", "b", "a", "a"])
    ['a']
    """
    given = list(names)
    return [name for i, name in enumerate(given) if given[:i].count(name) == 1]


def read_pairs(words: Sequence[str]) -> dict[str, str]:
    """What `--column NAME=COLUMN` says.

    Raises:
        UserError: a word without an equals sign, or a name that is given twice.

    >>> read_pairs(["prompt=question"])
    {'prompt': 'question'}
    """
    pairs: dict[str, str] = {}
    for word in words:
        name, equals, column = word.partition("=")
        if not equals or not name or not column:
            raise UserError(f"--column {word} is no NAME=COLUMN. Write the field of the form, then the data's column for it.")
        if pairs.setdefault(name, column) != column:
            raise UserError(f"--column names {name} twice, as {pairs[name]} and {column}. Leave one out.")
    return pairs
