"""What a model gives each token of a text that it reads: the numbers behind a reading of instruction data."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from lm_eval_tasks.models.reader import Shared, TreeReader
from lm_eval_tasks.models.tree import Input, PackedRow

LOGITS_AT_ONCE = 2**27  # numbers, 0.5 GiB in fp32: what one forward computes of positions times vocabulary


class TokenReading(NamedTuple):
    """What a model gives the last n tokens of a text, each (n,); log-probabilities and entropies in nats."""

    logprobs: np.ndarray  # float32, of the token that is there
    entropies: np.ndarray  # float32, of the distribution over the vocabulary
    tops: np.ndarray  # uint32, id of the most probable token
    top_logprobs: np.ndarray  # float32, of that token
    ranks: np.ndarray  # uint32, how many tokens are more probable than the one that is there


def read_tokens(
    reader: TreeReader, shared: Shared, rows: Sequence[PackedRow], asked: Mapping[Input, list[list[int]]]
) -> Iterator[tuple[Input, list[TokenReading]]]:
    """Read the last tokens of texts.

    Args:
        reader: of the model.
        shared: the trunk's keys and values.
        rows: a batch of rows.
        asked: for each input, the token ids that are read after it; all but the last are the input's own last ones.
    """
    scored, nodes = reader.find_nodes(rows)
    wanted = [(item, path[-len(tokens) :], tokens, number) for number, item, path in scored for tokens in asked[item]]
    pairs = np.array([(nodes[number, node], token) for _, path, tokens, number in wanted for node, token in zip(path, tokens)])
    numbers = [np.empty(len(pairs), kind) for kind in ("float32", "float32", "uint32", "float32", "uint32")]
    positions, most = list(nodes), max(1, LOGITS_AT_ONCE // reader.config.vocab_size)
    for start in range(0, len(positions), most):
        logprobs = reader.read_logprobs(shared, rows, positions[start : start + most])
        (own,) = np.nonzero((pairs[:, 0] >= start) & (pairs[:, 0] < start + most))
        where, tokens = torch.from_numpy(pairs[own]).to(logprobs.device).T
        for values, part in zip(numbers, describe_tokens(logprobs, where - start, tokens), strict=True):
            values[own] = part.cpu().numpy()
    ends = np.cumsum([len(tokens) for _, _, tokens, _ in wanted])[:-1]
    readings = [TokenReading(*parts) for parts in zip(*(np.split(values, ends) for values in numbers), strict=True)]
    found: dict[Input, list[TokenReading]] = {}
    for (item, *_), reading in zip(wanted, readings, strict=True):
        found.setdefault(item, []).append(reading)
    yield from found.items()


def describe_tokens(logprobs: torch.Tensor, where: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The numbers of `TokenReading` for tokens (n,) after the positions `where` (n,) of `logprobs` (positions, vocabulary)."""
    # A token that the model rules out has a log-probability of minus infinity, and no part in the entropy.
    entropies = -(logprobs.exp() * logprobs.clamp_min(torch.finfo(logprobs.dtype).min)).sum(dim=-1)
    top_logprobs, tops = logprobs.max(dim=-1)
    own = logprobs[where, tokens]
    ranks = (logprobs[where] > own[:, None]).sum(dim=-1)
    return own.float(), entropies[where].float(), tops[where], top_logprobs[where].float(), ranks
