"""Which parts of many inputs are computed once: trunks that many inputs share, and rows that pack the rest as token trees.

A *trunk* is a long common prefix of many inputs (the demonstrations of a few-shot prompt). A *row* is what follows it, of one
input or of several that go on sharing tokens (the cyclic orders of one question, the option texts of one question): their
tokens form a tree, each node written once, and a node sees the trunk and its own ancestors. Plain data, no torch.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

Tokens = tuple[int, ...]

MIN_TRUNK = 16  # a shorter prefix is cheaper computed again than shown to every row


@dataclass(frozen=True)
class Input:
    """One token sequence that a model is to read.

    Args:
        tokens: all of it.
        scored: how many of its last tokens are asked what follows them (at least 1).
    """

    tokens: Tokens
    scored: int = 1


@dataclass
class PackedRow:
    """Inputs packed as one tree of tokens after a trunk, in the order in which a depth-first walk meets them."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)  # -1: the trunk
    paths: dict[Input, list[int]] = field(default_factory=dict)  # the nodes of an input, first to last

    @property
    def is_branched(self) -> bool:
        """Whether a node follows another one than its predecessor, so that plain causal attention would be wrong."""
        return any(parent != node - 1 for node, parent in enumerate(self.parents))

    def add(self, item: Input, start: int) -> None:
        """Add an input's tokens from `start` on; nodes it has in common with the last one added are shared."""
        path: list[int] = []
        if self.paths:
            last = next(reversed(self.paths))
            path = self.paths[last][: count_common(last.tokens, item.tokens, start) - start]
        for token in item.tokens[start + len(path) :]:
            self.parents.append(path[-1] if path else -1)
            path.append(len(self.tokens))
            self.tokens.append(token)
        self.paths[item] = path


@dataclass(frozen=True)
class Trunk:
    """A prefix that is computed once, and the rows that follow it; no prefix where it is empty."""

    tokens: Tokens
    rows: list[PackedRow]


def plan_trunks(inputs: Iterable[Input], least: int, ratio: float, pack: bool = True) -> Iterator[Trunk]:
    """Cut inputs into trunks with rows such that few tokens are computed.

    Args:
        inputs: the inputs, in any order, without repetition.
        least: how many inputs a trunk needs at least (about a batch: smaller ones would leave batches half empty).
        ratio: the cost of a token's matrix products in units of one token's attention to one other (see `find_ratio`).
        pack: whether rows may hold more than one input.

    Yields:
        Trunks; each input stands in exactly one row.
    """
    stack = [sorted(inputs, key=lambda item: (item.tokens, item.scored))]
    while stack:
        group = stack.pop()
        if not group:
            continue
        shared = _find_shared(group)
        own, rest = [], []
        for child in _split(group, shared):
            deeper = _find_shared(child)
            # A child's own trunk is computed from its first token on; it pays where it saves more than that.
            worth = len(child) >= least and len(child) < len(group) and (len(child) - 1) * (deeper - shared) > deeper
            (own if worth else rest).append(child)
        stack.extend(own)
        start = shared if shared >= MIN_TRUNK and sum(map(len, rest)) > 1 else 0
        if rest:
            left = [item for child in rest for item in child]
            yield Trunk(left[0].tokens[:start], pack_rows(left, start, ratio if pack else None))


def pack_rows(inputs: Sequence[Input], start: int, ratio: float | None) -> list[PackedRow]:
    """Rows of sorted inputs; neighbours share a row where that costs less than two.

    A row of t tokens after a trunk of p costs t * (ratio + p + t): matrix products, and attention to trunk and row, of which
    the masked part is computed too.
    """

    def cost(t: int) -> float:
        return t * ((ratio or 0) + start + t)

    rows: list[PackedRow] = []
    last: Input | None = None
    for item in inputs:
        alone = True
        if ratio is not None and last is not None:
            own, here = len(item.tokens) - start, len(rows[-1].tokens)
            joined = here + own - (count_common(last.tokens, item.tokens, start) - start)
            alone = cost(joined) >= cost(here) + cost(own)
        if alone:
            rows.append(PackedRow())
        rows[-1].add(item, start)
        last = item
    return rows


def batch_rows(rows: Iterable[PackedRow], size: int) -> Iterator[list[PackedRow]]:
    """Batches of rows of like length, none with more tokens (padding counted) than `size` times the longest input's own."""
    ordered = sorted(rows, key=lambda row: -len(row.tokens))
    longest = max((len(path) for row in ordered for path in row.paths.values()), default=0)
    while ordered:
        width = max(1, size * longest // len(ordered[0].tokens))
        yield ordered[:width]
        ordered = ordered[width:]


def count_common(one: Tokens, other: Tokens, start: int = 0) -> int:
    """How many first tokens two sequences have in common, of which the first `start` are known to be.

    >>> count_common((5, 7, 9, 2), (5, 7, 2))
    2
    """
    stop = min(len(one), len(other))
    while start < stop:
        # Halves that are equal are skipped by one comparison of slices.
        middle = (start + stop + 1) // 2
        if one[start:middle] == other[start:middle]:
            start = middle
        else:
            stop = middle - 1
    return start


def _find_shared(group: Sequence[Input]) -> int:
    """How many first tokens all inputs of a sorted group share; what is scored is left to the rows."""
    return min(count_common(group[0].tokens, group[-1].tokens), *(len(item.tokens) - item.scored for item in group))


def _split(group: Sequence[Input], shared: int) -> Iterator[list[Input]]:
    """The parts of a sorted group by their token after the shared ones."""
    part: list[Input] = []
    for item in group:
        if part and part[-1].tokens[shared : shared + 1] != item.tokens[shared : shared + 1]:
            yield part
            part = []
        part.append(item)
    yield part
