"""What a reading says of a response: how surprising it is, and where the model would have said something else with confidence.

Every measure is of one turn under one prompt (`readings.PROMPTS`), computed from its tokens and its words alone. A word that
stands in the prompt claims nothing, so conflicts are looked for in the others: that the model expects another name after "The
root of the" says nothing about the root.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

LOW = 0.05  # a probability below which a token is unlikely
SURE = 0.5  # a probability above which the model holds another one for right: the paper's threshold, token by token
CERTAIN_NATS = 0.7  # an entropy below which a model is certain: about a choice between two
HARD = 2.5  # a perplexity above which a token is hard to learn (Wu et al. 2025, arXiv 2501.14315, section 5)
GAP = 1  # tokens that may lie between two conflict tokens of one span: the rest of a word follows from its beginning
TURNS_AT_ONCE = 20_000

MEASURES = pl.Schema(
    {
        "tokens": pl.Int64,
        "surprisal_nats": pl.Float64,
        "entropy_nats": pl.Float64,
        "hard": pl.Float64,
        "claimed": pl.Int64,
        "conflicts": pl.Int64,
        "overruled": pl.Int64,
        "excess_nats": pl.Float64,
        "span_start": pl.Int64,
        "span_end": pl.Int64,
        "span_tokens": pl.Int64,
        "preferred": pl.UInt32,
    }
)
_READ = ("tokens", "starts", "ends", "logprobs", "entropies", "tops", "top_logprobs")
_WORD = re.compile(r"\w+")


def measure_readings(readings: pl.LazyFrame, turns: pl.DataFrame) -> pl.DataFrame:
    """The measures of turns under each prompt.

    Args:
        readings: as `readings.scan_readings` gives them.
        turns: of the same data, `Conversations.turns`.

    Returns:
        One row a turn and prompt: `row, turn, text_hash, prompt, whole`, and

        - `tokens`: how many the response has;
        - `surprisal_nats`: mean of -log p over its tokens;
        - `entropy_nats`: mean entropy of the model's distributions where they stand;
        - `hard`: the share of tokens with a perplexity (1/p) above 2.5 (arXiv 2501.14315);
        - `claimed`: the tokens of words that do not stand in the prompt (all, where all do); of these
        - `conflicts`: those of low probability and low entropy at once, p < 0.05 and entropy < 0.7 nats ("confident conflicts",
          Diao et al. 2026, arXiv 2601.02151, section 3; the cuts are this project's);
        - `overruled`: those with p < 0.05 where another token has more than 0.5: the paper's threshold, token by token;
        - `excess_nats`: the mean of log p(most probable) - log p(token);
        - `span_start`, `span_end`: where the longest run of overruled tokens lies in the response, in characters (one token may
          lie between two of a run; of runs of one length that with the largest sum); null where there is none;
        - `span_tokens`: how many of its tokens are overruled; `preferred`: id of the token that the model held for most
          probable at its beginning.
    """
    texts = turns.select("row", "turn", "response", prompt_words=_list_words())
    height = readings.select(pl.len()).collect().item()
    parts = (readings.slice(start, TURNS_AT_ONCE).collect() for start in range(0, max(height, 1), TURNS_AT_ONCE))
    return pl.concat(
        [_measure(part, part.join(texts, on=("row", "turn"), how="left", maintain_order="left")) for part in parts]
    )


def _list_words() -> pl.Expr:
    """The words of all that stands before a response, in small letters."""
    said = pl.concat_str(
        pl.col("messages").list.eval(pl.element().struct.field("content")).list.join(" "),
        pl.col("system").fill_null(""),
        separator=" ",
    )
    return said.str.to_lowercase().str.extract_all(_WORD.pattern)


def _measure(part: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
    lengths = part["logprobs"].list.len().to_numpy().astype(np.int64)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    flat = {name: part[name].explode(empty_as_null=False).to_numpy() for name in _READ}
    own, top = flat["logprobs"].astype(np.float64), flat["top_logprobs"].astype(np.float64)
    said = texts.select("response", "prompt_words").iter_rows()
    claimed = find_claimed(said, flat["starts"].astype(np.int64), flat["ends"].astype(np.int64), lengths)
    low = claimed & (own < np.log(LOW))
    overruled = low & (top > np.log(SURE))
    excess = np.where(claimed, top - own, 0.0)
    n, n_claimed = np.maximum(lengths, 1), sum_parts(claimed, bounds)
    spans = find_spans(overruled, excess, bounds)
    some = spans[:, 0] >= 0
    values: dict[str, np.ndarray] = {
        "tokens": lengths,
        "surprisal_nats": -sum_parts(own, bounds) / n,
        "entropy_nats": sum_parts(flat["entropies"].astype(np.float64), bounds) / n,
        "hard": sum_parts(own < -np.log(HARD), bounds) / n,
        "claimed": n_claimed,
        "conflicts": sum_parts(low & (flat["entropies"] < CERTAIN_NATS), bounds),
        "overruled": sum_parts(overruled, bounds),
        "excess_nats": sum_parts(excess, bounds) / np.maximum(n_claimed, 1),
        "span_start": flat["starts"][spans[some, 0]],
        "span_end": flat["ends"][spans[some, 1]],
        "span_tokens": spans[some, 2],
        "preferred": flat["tops"][spans[some, 0]],
    }
    table = part.select("row", "turn", "text_hash", "prompt", "whole")
    for name, value in values.items():
        column = pl.Series(name, value).cast(MEASURES[name])
        if len(value) != part.height:  # of those that have a span
            column = pl.Series(name, [None] * part.height, MEASURES[name]).scatter(np.flatnonzero(some), column)
        table = table.with_columns(column)
    return table


def find_claimed(texts: Iterable[tuple[str, Sequence[str]]], starts: np.ndarray, ends: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Which tokens of responses are of words that do not stand in their prompts; of a response, all where every word does.

    Args:
        texts: each response, and the words of its prompt in small letters.
        starts: where each token of all responses begins in its own, (tokens,).
        ends: where each ends, (tokens,).
        n: how many tokens each response has, (responses,).

    >>> known = ["the", "root", "is"]
    >>> find_claimed([("The root is red", known)], np.array([0, 3, 8, 11]), np.array([3, 8, 11, 15]), np.array([4])).tolist()
    [False, False, False, True]
    """
    bases, begins, stops, alike = [], [], [], []  # all responses end to end, a character apart
    base = 0
    for response, told in texts:
        known, before = set(told), len(begins)
        for found in _WORD.finditer(response):
            if found[0].lower() not in known:
                begins.append(base + found.start())
                stops.append(base + found.end())
        alike.append(len(begins) == before)
        bases.append(base)
        base += len(response) + 1
    within = np.repeat(np.array(alike, bool), n)
    if not begins:
        return within
    starts, ends = (np.repeat(np.array(bases, np.int64), n) + part for part in (starts, ends))
    # The first word that ends after the token begins is the one that it can lie in.
    word = np.minimum(np.searchsorted(stops, starts, side="right"), len(stops) - 1)
    return within | ((np.array(begins)[word] < ends) & (np.array(stops)[word] > starts))


def sum_parts(values: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Sums of consecutive parts of `values`, part i from `bounds[i]` to `bounds[i + 1]`; 0 of an empty part.

    >>> sum_parts(np.array([1, 2, 3]), np.array([0, 2, 2, 3])).tolist()
    [3, 0, 3]
    """
    sums = np.concatenate([[0], np.cumsum(values, dtype=np.float64 if values.dtype.kind == "f" else np.int64)])
    return sums[bounds[1:]] - sums[bounds[:-1]]


def find_spans(marked: np.ndarray, weights: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """The longest run of marked tokens in each part.

    Args:
        marked: which tokens are, (tokens,).
        weights: what decides between runs of one length, (tokens,).
        bounds: of the parts (see `sum_parts`), (parts + 1,).

    Returns:
        (parts, 3): the run's first and last token, and how many of its tokens are marked; -1, -1, 0 where none is.

    >>> find_spans(np.array([1, 0, 1, 0, 0, 1], bool), np.ones(6), np.array([0, 6])).tolist()
    [[0, 2, 2]]
    """
    found = np.tile(np.array([-1, -1, 0]), (len(bounds) - 1, 1))
    (where,) = np.nonzero(marked)
    if not len(where):
        return found
    part = np.searchsorted(bounds, where, side="right") - 1
    begins = np.concatenate([[True], (np.diff(where) > GAP + 1) | (np.diff(part) > 0)])
    first = np.nonzero(begins)[0]
    runs = np.concatenate([first, [len(where)]])
    counts, sums = np.diff(runs), np.add.reduceat(weights[where], first)
    order = np.lexsort([-sums, -counts, part[first]])
    best = order[np.concatenate([[True], np.diff(part[first][order]) > 0])]
    found[part[first[best]]] = np.column_stack([where[first[best]], where[runs[best + 1] - 1], counts[best]])
    return found
