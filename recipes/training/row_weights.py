"""What each row's loss counts: weights of rows, and rows that carry no loss.

A step's loss is the sum over its response tokens of weight times -log p, divided by the sum over these tokens of their weights,
both over all its micro-batches and processes. Where all weights are one it is the mean over the tokens, bit for bit. So weights
count against each other within a step: if all rows of a step weigh the same, it is as if they weighed one.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from trl import SFTConfig

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.vocabulary import GENERAL
from recipes.training.conversations import WEIGHT
from recipes.training.masks import IGNORED, MASKED
from recipes.training.tokens import HIDDEN

if TYPE_CHECKING:
    from datasets import Dataset


def weigh_rows(rows: "Dataset", prepared: "Dataset", training: SFTConfig) -> tuple["Dataset", "Dataset", dict[str, int]]:
    """Leave out the rows that carry no loss, because they weigh nothing or all of their response is masked.

    Args:
        rows: those of a condition, perhaps with `weight` and `masked`.
        prepared: what is trained of them, as `prepare_rows` gives it.
        training: the hyper-parameters, whose loss has to take weights.

    Returns:
        The rows, and what is trained of them: `input_ids`, `labels`, and `weight` where not all weigh one; and what a manifest
        says of them, where the rows have such columns: `weighted_rows` (whose weight is not one), `masked_tokens` (of these
        rows, with the end of a sequence) and `rows_without_loss` (which are left out).

    Raises:
        UserError: a weight that is none; no row of the condition carries a loss; a loss that takes no weights.
    """
    named = [name for name in (WEIGHT, MASKED) if name in rows.column_names]
    if not named:
        return rows, prepared, {}
    weights = read_weights(rows) if WEIGHT in named else [1.0] * len(rows)
    labelled = [any(label != IGNORED for label in labels) for labels in prepared["labels"]]
    kept = [i for i, weight in enumerate(weights) if weight > 0 and labelled[i]]
    kinds = rows["condition"][:] if "condition" in rows.column_names else [""] * len(rows)
    if all(kinds[i] == GENERAL for i in kept):
        raise UserError(
            f"no row of the condition carries a loss: each weighs nothing ({WEIGHT}) or is masked as a whole ({MASKED}, or by "
            "--token_mask_threshold, of which take a lower one)."
        )
    weighted = sum(weights[i] != 1 for i in kept)
    if weighted and (training.loss_type != "nll" or training.label_smoothing_factor):
        raise UserError(
            f"{weighted} rows have a {WEIGHT} that is not 1, which the plain loss alone takes: leave out --loss_type and "
            f"--label_smoothing_factor, or the column {WEIGHT!r}."
        )
    hidden = prepared[HIDDEN][:] if HIDDEN in prepared.column_names else [0] * len(rows)
    trained = prepared.select_columns(["input_ids", "labels"])
    if weighted:
        trained = trained.add_column(WEIGHT, weights)
    if len(kept) < len(rows):
        rows, trained = rows.select(kept), trained.select(kept)
    counts = {"weighted_rows": weighted, "masked_tokens": sum(hidden[i] for i in kept)}
    return rows, trained, counts | {"rows_without_loss": len(weights) - len(kept)}


def read_weights(rows: "Dataset") -> list[float]:
    """The weights of rows.

    Raises:
        UserError: one is no number, below 0 or infinite.
    """
    weights = rows[WEIGHT][:]
    for i, weight in enumerate(weights):
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
            raise UserError(
                f"row {i + 1} (id {rows[i]['id']!r}) has the {WEIGHT} {weight!r}, which is no number from 0 on. Mend it, or "
                "leave the column out."
            )
    return [float(weight) for weight in weights]


def tell_weights(counts: Mapping[str, int], rows: int) -> str:
    """What `weigh_rows` counts, as a line; empty where the rows say nothing of it.

    >>> tell_weights({"weighted_rows": 3, "masked_tokens": 9, "rows_without_loss": 1}, 7)
    'loss: 3 of 7 rows have a weight other than 1; 9 response tokens are masked; 1 more rows carry no loss and are left out'
    """
    if not counts:
        return ""
    told = [
        f"{counts['weighted_rows']} of {rows} rows have a weight other than 1",
        f"{counts['masked_tokens']} response tokens are masked",
        f"{counts['rows_without_loss']} more rows carry no loss and are left out",
    ]
    return f"loss: {'; '.join(told)}"


class Collator:
    """Puts the weights of rows beside what a collator makes of them."""

    def __init__(self, collate: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        self._collate = collate

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """A micro-batch, with `weight`, (rows,)."""
        return self._collate(rows) | {WEIGHT: torch.tensor([row[WEIGHT] for row in rows], dtype=torch.float32)}


def scale_weights(batches: Sequence[dict[str, Any]], gather: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Scale the weights of a step's micro-batches, so that their sum over its tokens is how many these are.

    What then is divided by the number of tokens, is divided by the sum of their weights.

    Args:
        batches: those of this process: `labels`, (rows, tokens), and `weight`, (rows,), which is changed.
        gather: a tensor of each process, one after another.
    """
    counts = [(batch["labels"][:, 1:] != IGNORED).sum(1) for batch in batches]
    sums = sum(
        torch.stack([count.sum(), (count * batch[WEIGHT].double()).sum()]).double()
        for count, batch in zip(counts, batches, strict=True)
    )
    tokens, weighed = gather(sums[None]).sum(0).tolist()
    for batch in batches:
        batch[WEIGHT] = batch[WEIGHT] * (tokens / weighed if weighed else 0.0)


def weigh_outputs(outputs: Any, weights: torch.Tensor) -> Any:
    """A model's outputs in which the log-probabilities of each row, (rows, tokens), are multiplied by its weight."""
    return replace(outputs, log_probs=outputs.log_probs * weights[:, None].to(outputs.log_probs.dtype))
