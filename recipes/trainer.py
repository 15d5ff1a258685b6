"""TRL's trainer, with the batches of `recipes.batches`."""

from collections.abc import Sequence
from typing import Any

from torch.utils.data import Sampler
from trl import SFTTrainer

from recipes.batches import Batches


class Trainer(SFTTrainer):
    """TRL's SFTTrainer on rows that are divided into tokens already.

    Args:
        ids: of the rows, in their order; a loss that is not a number is reported with those of its batch.
        *args, **kwargs: those of `SFTTrainer`.
    """

    def __init__(self, *args: Any, ids: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ids = ids

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler:
        rows = self.train_dataset if train_dataset is None else train_dataset
        return Batches(
            lengths=[len(ids) for ids in rows["input_ids"]],
            effective_batch_size=self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size,
            dp_size=self.args.world_size,
            grad_accum=self.args.gradient_accumulation_steps,
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
            rank=self.args.process_index,
        )
