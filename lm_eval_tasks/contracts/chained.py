"""Several runs on one command line, in one process: what a library takes to load is paid once."""

from collections.abc import Iterator, Sequence
from itertools import groupby

THEN = "then"  # the word between two runs


def split_runs(words: Sequence[str]) -> Iterator[list[str]]:
    """The words of each run of a command line, in their order.

    >>> [*split_runs(["--seed", "1", "then", "--seed", "2"])]
    [['--seed', '1'], ['--seed', '2']]
    """
    for separator, run in groupby(words, lambda word: word == THEN):
        if not separator:
            yield [*run]
