"""Questions that name no split, divided into train, dev and test: at random, what is asked twice on one side."""

from collections.abc import Mapping

import numpy as np
import polars as pl
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from intervention.conditions import shuffle_rows
from intervention.sources.normalising import normalise_choices, normalise_texts
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.vocabulary import KEY, SPLITS

Splits = Mapping[str, int | float]  # split -> how many questions of each domain (int), or which share of the others (float)
DEFAULT: Splits = {"train": 0.7, "dev": 10, "test": 0.3}
MOST = 4  # by default no count takes more than this part of a domain: 1 / MOST


def parse_splits(words: str) -> Splits:
    """The splits that a word of the command line names.

    Args:
        words: `train=0.7,dev=10,test=0.3`: a whole number is a count of each domain's questions, and one with a point a share
            of those that the counts leave.

    Raises:
        UserError: a split that there is not, a value that is neither, or shares that are not 1 in all.

    >>> parse_splits("train=0.7,dev=10,test=0.3")
    {'train': 0.7, 'dev': 10, 'test': 0.3}
    """
    found: dict[str, int | float] = {}
    for word in words.split(","):
        name, _, value = (part.strip() for part in word.partition("="))
        if name not in SPLITS or name in found:
            raise UserError(f"--splits {words}: write train=0.7,dev=10,test=0.3, each of {', '.join(SPLITS)} at most once.")
        try:
            found[name] = int(value) if value.isdigit() else float(value)
        except ValueError:
            found[name] = 0
        if not (found[name] >= 1 if isinstance(found[name], int) else 0 < found[name] <= 1):
            raise UserError(
                f"--splits {words}: {name}={value} is neither a count from 1 on, such as 10, nor a share up to 1.0, such as "
                "0.3. Mend it."
            )
    shares = [value for value in found.values() if isinstance(value, float)]
    if shares and abs(sum(shares) - 1) > 1e-6:
        raise UserError(
            f"--splits {words}: the shares are {sum(shares):g} in all, not 1. They divide what the counts leave; mend them."
        )
    return found


def split_questions(table: pl.DataFrame, splits: Splits, seed: int, adapt: bool = False) -> tuple[pl.Series, str]:
    """Divide the questions of each domain, with those that are asked more than once together.

    Args:
        table: questions.
        splits: what `parse_splits` gives.
        seed: decides which question comes into which split.
        adapt: a count takes no more than a quarter of a domain, instead of an error where a domain is too small.

    Returns:
        `split`, null for questions that no split takes; and a sentence that says what was done.

    Raises:
        UserError: a domain has too few questions.
    """
    groups = table.select(*KEY).with_columns(group_questions(table))
    firsts = groups.group_by("group", maintain_order=True).agg(*(pl.col(name).first() for name in KEY), size=pl.len())
    found: dict[int, str] = {}
    for (domain,), part in shuffle_rows(firsts, seed, "splits").group_by("domain", maintain_order=True):
        wanted = count_splits(int(part["size"].sum()), splits, domain, adapt)
        found |= fill_splits(part.select("group", "size").rows(), wanted)
    split = groups["group"].replace_strict(found, default=None, return_dtype=pl.String).alias("split")
    shown = ",".join(f"{name}={value}" for name, value in splits.items())
    together = groups.height - firsts.height
    most = f", a count at most 1/{MOST} of a domain" if adapt else ""
    said = f"; {together:,} that repeat another one, or have its text and answer, are in its split" if together else ""
    return split, f"Each domain's questions were divided at random ({shown}{most}; seed {seed}){said}."


def group_questions(table: pl.DataFrame) -> pl.Series:
    """A number for each question: the same for those of a domain with the same text and the same choices or the same answer.

    Free-form questions have one where they have the same text.
    """
    if "choices" not in table.columns:
        own = pl.struct("domain", normalise_texts(pl.col("question"))).rank("dense")
        return table.select((own - 1).cast(pl.Int32).alias("group")).to_series()
    texts = table.select(
        "domain", text=normalise_texts(pl.col("question")), shown=pl.col("choices").list.eval(normalise_choices(pl.element())),
        answer="answer",
    )  # fmt: skip
    alike = [
        texts.select(pl.struct("domain", "text", pl.col("shown").list.sort()).rank("dense")).to_series(),
        texts.select(pl.struct("domain", "text", pl.col("shown").list.get(pl.col("answer"))).rank("dense")).to_series(),
    ]
    rows = np.arange(table.height)
    edges = [np.array([rows, table.height * (i + 1) + part.to_numpy() - 1]) for i, part in enumerate(alike)]
    left, right = np.concatenate(edges, axis=1)
    graph = csr_array((np.ones(len(left), bool), (left, right)), shape=(3 * table.height, 3 * table.height))
    return pl.Series("group", connected_components(graph, directed=False)[1][: table.height])


def count_splits(n: int, splits: Splits, domain: str, adapt: bool) -> dict[str, int | None]:
    """How many of a domain's questions each split takes, counts first; None for the last share, which takes what is left."""
    counts = {name: value for name, value in splits.items() if isinstance(value, int)}
    if adapt:
        counts = {name: min(value, n // MOST) for name, value in counts.items()}
    shares = sorted((value, name) for name, value in splits.items() if isinstance(value, float))
    rest = n - sum(counts.values())
    if rest < (0 if adapt else len(shares)):
        shown = ",".join(f"{name}={value}" for name, value in splits.items())
        raise UserError(f"--splits {shown}: the domain {domain!r} has {n} questions, which are too few. Name smaller counts.")
    wanted: dict[str, int | None] = dict(counts)
    wanted |= {name: round(share * rest) for share, name in shares}
    if shares:
        wanted[shares[-1][1]] = None
    return wanted


def fill_splits(groups: list[tuple[int, int]], wanted: Mapping[str, int | None]) -> dict[int, str]:
    """The split of each group of questions: a split takes the next groups that still go into it.

    Args:
        groups: their numbers and sizes, in random order.
        wanted: how many questions a split takes.
    """
    found: dict[int, str] = {}
    for name, count in wanted.items():
        left = count
        for group, size in groups:
            if group not in found and (left is None or size <= left):
                found[group] = name
                left = None if left is None else left - size
    return found
