"""TRL's trainer with the batches of `recipes.training.batches`, and an end to a run whose numbers are none."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pyarrow.compute as pc
import torch
from datasets import Dataset, concatenate_datasets
from torch.utils.data import Sampler
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState
from trl import SFTTrainer
from trl.trainer import utils as losses

from lm_eval_tasks.contracts.errors import UserError
from recipes.training.batches import BLANK, Batches
from recipes.training.fitting import Fit
from recipes.training.kl import Base, ask_both
from recipes.training.row_weights import WEIGHT, Collator, scale_weights, weigh_outputs
from recipes.training.tokens import IGNORED
from recipes.training.tracking import hide_from_trackers


class Trainer(SFTTrainer):
    """TRL's SFTTrainer on rows that are tokenized already.

    Args:
        ids: of the rows, in their order; a loss that is not a number is reported with those of its micro-batch.
        fit: counts how far own rows are fitted, and may end the run; None where nobody asks.
        kl_to_base: what a nat of KL(base || model) costs, in nats of the loss (see `recipes.training.kl`); None: nothing.
        train_dataset: the rows: `input_ids`, `labels`, and `weight` where rows are weighed.
        processing_class: the tokenizer.
        **kwargs: the others of `SFTTrainer`.
    """

    def __init__(
        self,
        *,
        ids: Sequence[str],
        fit: Fit | None = None,
        kl_to_base: float | None = None,
        train_dataset: Dataset,
        processing_class: PreTrainedTokenizerBase,
        **kwargs: Any,
    ) -> None:
        weighed = WEIGHT in train_dataset.column_names
        blank = {"input_ids": [[processing_class.eos_token_id] * BLANK], "labels": [[IGNORED] * BLANK]}
        blank |= {WEIGHT: [0.0]} if weighed else {}
        rows = concatenate_datasets([train_dataset, Dataset.from_dict(blank, features=train_dataset.features)])
        super().__init__(train_dataset=rows, processing_class=processing_class, **kwargs)
        self.ids, self.fit = ids, fit
        self.kl_to_base, self.base = kl_to_base, Base(self.model) if kl_to_base else None
        if weighed:
            self.data_collator = Collator(self.data_collator)
        self.args.logging_nan_inf_filter = False  # it would hide what `compute_loss` looks for
        hide_from_trackers(self.callback_handler.callbacks)
        self.add_callback(_Teller(self))

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler:
        rows = self.train_dataset if train_dataset is None else train_dataset
        self.batches = Batches(
            lengths=pc.list_value_length(rows.with_format("arrow")["input_ids"][:]).to_pylist()[:-1],
            effective_batch_size=self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size,
            dp_size=self.args.world_size,
            grad_accum=self.args.gradient_accumulation_steps,
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
            rank=self.args.process_index,
        )
        return self.batches

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns = list(dict.fromkeys([*self._signature_columns, WEIGHT]))  # others are dropped in silence

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[dict[str, Any]], Any]:
        """A step's micro-batches of this process, their weights scaled, and how many tokens of all processes have a loss."""
        batches, count = super().get_batch_samples(*args, **kwargs)
        if batches and WEIGHT in batches[0]:
            scale_weights(batches, lambda sums: self.accelerator.gather(sums.to(self.args.device)))
        return batches, count

    def _run_epoch(self, **settings: Any) -> None:
        # The library trains one step too many where it goes on from a last step that is not an epoch's last.
        if self.state.global_step < self.state.max_steps and not (self.fit and self.fit.is_reached(self.state)):
            super()._run_epoch(**settings)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The loss of a micro-batch.

        Raises:
            UserError: it is infinite or not a number, and not yet part of any gradient.
        """
        told: list[Any] = []
        weights = inputs.pop(WEIGHT, None)

        def ask(**settings: Any) -> Any:
            if self.base is None:
                told.append(outputs := model(**settings))
            else:
                outputs, kl = ask_both(model, self.base, settings, self.accelerator.autocast())
                told.append(outputs)
                outputs = self._charge(outputs, kl)
            return outputs if weights is None else weigh_outputs(outputs, weights)

        with score_labels_alone(self.args.device):
            found = super().compute_loss(ask, inputs, return_outputs, num_items_in_batch)
        if self.fit:
            self.fit.count(inputs, told[0])
        loss = (found[0] if return_outputs else found).item()
        if not math.isfinite(loss):
            raise UserError(
                f"Step {self.state.global_step + 1}: the loss of {self._name_rows(inputs)} is {loss}. Look at these rows. If "
                f"they are sound, the weights are not: take a lower --learning_rate than {self.args.learning_rate}, or another "
                "--dtype."
            )
        return found

    def _charge(self, outputs: Any, kl: torch.Tensor) -> Any:
        """A model's outputs from whose log-probabilities its divergence from the base is taken, which is logged."""
        sums = torch.stack([kl.detach().sum(), outputs.label_mask.sum()])
        total, tokens = self.accelerator.gather_for_metrics(sums[None]).sum(0).tolist()
        if tokens:  # a blank row has none
            self._metrics["train"]["kl_to_base"].append(total / tokens)
        return replace(outputs, log_probs=outputs.log_probs - self.kl_to_base * kl)

    def _name_rows(self, inputs: dict[str, torch.Tensor]) -> str:
        """The ids of a micro-batch's rows, found by their tokens."""
        kept = inputs["attention_mask"].bool()
        wanted = {tuple(ids[mask].tolist()) for ids, mask in zip(inputs["input_ids"], kept)}
        named = [str(name) for name, ids in zip(self.ids, self.train_dataset["input_ids"]) if tuple(ids) in wanted]
        return f"{'row' if len(named) == 1 else 'rows'} {', '.join(named)}"

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        if norm is None or self.args.fp16:  # DeepSpeed may know none; fp16 scales its losses until the gradients are finite
            return norm
        value = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)  # FSDP2 holds parts of it
        if not math.isfinite(value):
            raise UserError(
                f"Step {self.state.global_step + 1}: the loss is finite, but the norm of its gradient is {value}. Take a lower "
                f"--learning_rate than {self.args.learning_rate}, or another --dtype."
            )
        return norm


@contextmanager
def score_labels_alone(device: torch.device) -> Iterator[None]:
    """Let TRL's loss project the positions with a label alone on a CPU too, as it does on a GPU.

    Elsewhere it projects every position, because new shapes would be compiled anew on some devices. A processor compiles
    nothing, and the output layer of a large vocabulary costs more than all other layers of a small model. The numbers are the
    same.

    Raises:
        AttributeError: TRL decides it in another way by now.
    """
    known = losses._use_triton
    if device.type == "cpu":
        losses._use_triton = lambda device: True  # noqa: ARG005 - of `trl.trainer.utils` alone: the kernels ask their own
    try:
        yield
    finally:
        losses._use_triton = known


class _Teller(TrainerCallback):
    """Tells the batches their epoch (where several processes go on within one, the libraries' own words do not reach them),
    and the fit its steps."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def on_epoch_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        self._trainer.batches.set_epoch(int(state.epoch))

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:  # noqa: ARG002
        fit = self._trainer.fit
        if fit and fit.close_step(self._trainer.accelerator.reduce, state):
            control.should_training_stop = control.should_log = True
