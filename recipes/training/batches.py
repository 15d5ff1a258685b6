"""Which rows make a step, and how they are divided among processes and micro-batches."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from transformers.trainer_pt_utils import BatchRebalanceSampler

BLANK = 2  # tokens of the row without loss that fills up an epoch's last step


class Batches(BatchRebalanceSampler):
    """Steps of `effective_batch_size` rows in an order that only the seed and the epoch decide.

    Within a step, rows of like length share a micro-batch, and long ones share it with fewer, so that little is padded and
    all processes have as much to do. An epoch's last step has the rows that are left. Where these are fewer than its
    micro-batches, the others hold a blank row, whose index is the number of rows: each row counts once an epoch, whatever the
    processes.

    Args:
        lengths: of the rows, in tokens.
        **settings: those of `BatchRebalanceSampler`: effective_batch_size, dp_size, grad_accum, seed, rank.

    Six rows, four a step, for two processes:

    >>> layout = {"effective_batch_size": 4, "dp_size": 2, "grad_accum": 1, "seed": 1}
    >>> [list(Batches([9, 3, 8, 4, 7, 5], **layout, rank=rank)) for rank in (0, 1)]
    [[[0, 2], [5]], [[4, 1], [3]]]
    """

    def __init__(self, lengths: Sequence[int], **settings: Any) -> None:
        super().__init__([*lengths, BLANK], **settings, drop_last=False)
        self.blank = len(lengths)
        self.num_global_batches = -(-len(lengths) // self.effective_batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        """This process's micro-batches of an epoch, as rows' indices."""
        # The library's own order is that of seed + epoch, so that a seed's second epoch would be the next seed's first.
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.blank).tolist()
        for start in range(0, self.blank, self.effective_batch_size):
            rows = order[start : start + self.effective_batch_size]
            blanks = [self.blank] * (self.dp_size * self.grad_accum - len(rows))
            yield from self._yield_global_batch(rows + blanks)
