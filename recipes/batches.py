"""Which rows make a step, and how they are divided among processes and micro-batches."""

from typing import Any

from transformers.trainer_pt_utils import BatchRebalanceSampler


class Batches(BatchRebalanceSampler):
    """Steps of `effective_batch_size` rows in an order that only the seed and the epoch decide.

    Within a step, rows of like length share a micro-batch, and long ones share it with fewer, so that little is padded and
    all processes have as much to do.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, drop_last=False)
