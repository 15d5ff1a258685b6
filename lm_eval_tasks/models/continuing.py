"""Texts after prompts: what prompts share is read once, a prompt once for all its samples, and no text goes on past its end."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from transformers import DynamicCache

from lm_eval_tasks.models.reader import Shared, TreeReader

Prompts = tuple[torch.Tensor, torch.Tensor]  # token ids and mask, each (rows, tokens)
FIRST_STEPS = 4  # tokens after which texts that have ended leave their batch; then twice as many each time


class PromptReader:
    """Keys and values of batches of prompts; those of what many prompts begin with are kept from batch to batch.

    Args:
        reader: of the model that writes.
    """

    def __init__(self, reader: TreeReader) -> None:
        self._reader = reader
        self._begun: tuple[int, ...] = ()
        self._trunk: Shared = []

    @torch.inference_mode()
    def read(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, DynamicCache]:
        """Read prompts but for their last tokens, from which `generate` goes on.

        Args:
            ids: the prompts, (rows, tokens), padded on the left; several rows may be one prompt.
            mask: 0 where a row is padded, (rows, tokens).

        Returns:
            Prompts and mask, of the same shape, in which what all begin with stands before the padding, and the cache.
        """
        width, length = ids.shape[1], int(mask[0].sum())
        shared = self._read_trunk(tuple(ids[0, width - length :][: count_shared(ids, mask)].tolist()))
        ids, mask = move_padding(ids, mask, shared)
        own, rows = torch.unique(ids, dim=0, return_inverse=True)
        numbers = torch.arange(len(ids), device=ids.device)
        firsts = torch.full_like(numbers[: len(own)], len(ids)).scatter_reduce(0, rows, numbers, "amin")
        cache = DynamicCache()
        for number, pair in enumerate(self._trunk):
            cache.update(*(part[:, :, :shared].expand(len(own), -1, -1, -1) for part in pair), number)
        if width - shared > 1:
            seen = mask[firsts]
            positions = number_positions(seen)[:, shared:-1]
            self._reader.fill(cache, own[:, shared:-1], attention_mask=seen[:, :-1], position_ids=positions)
        cache.batch_select_indices(rows)
        return ids, mask, cache

    def _read_trunk(self, tokens: tuple[int, ...]) -> int:
        """Have the trunk begin with tokens, or with most of them; how many."""
        same = next((i for i, (a, b) in enumerate(zip(self._begun, tokens)) if a != b), min(len(self._begun), len(tokens)))
        if 2 * same < len(tokens):
            self._begun, self._trunk = tokens, self._reader.read_trunk(tokens)
            return len(tokens)
        self._begun = tokens[:same]
        return same


def write_on(
    model: HFLM,
    write: Callable[..., torch.Tensor],
    read: tuple[torch.Tensor, torch.Tensor, DynamicCache],
    max_length: int,
    stop: Sequence[str],
    options: Mapping[str, Any],
) -> torch.Tensor:
    """Texts after prompts that were read; a text that has ended leaves its batch, so that a long one does not keep the others.

    Args:
        model: which writes.
        write: its own way to, as lm-eval's `_model_generate`: until all texts of a batch have ended.
        read: what `PromptReader.read` gives.
        max_length: the most tokens a prompt and its text may have.
        stop: what ends a text.
        options: of `generate`.

    Returns:
        Prompts with their texts, (rows, tokens), filled with the padding token. Greedy texts are those of one `generate`;
        sampled ones have other random numbers from where the first text leaves.
    """
    ids, mask, cache = read
    rows = torch.arange(len(ids), device=ids.device)
    steps = max_length if "min_new_tokens" in options else FIRST_STEPS  # a least number counts from where `generate` begins
    prompt, padding = ids.shape[1], model.tokenizer.pad_token_id
    texts = ids.new_full((len(ids), max_length), padding)
    while len(rows):
        options = {**options, "attention_mask": mask, "past_key_values": cache}
        ids = write(ids, min(ids.shape[1] + steps, max_length), list(stop), **options)
        texts[rows, : ids.shape[1]] = ids
        if ids.shape[1] >= max_length:
            break
        going = [row for row, text in enumerate(ids[:, prompt:]) if not _has_ended(model, text, stop)]
        kept = torch.tensor(going, device=ids.device, dtype=torch.long)
        if len(going) < len(ids):
            cache.batch_select_indices(kept)
        rows, ids = rows[kept], ids[kept]
        mask = torch.nn.functional.pad(mask[kept], (0, ids.shape[1] - mask.shape[1]), value=1)
        steps *= 2
    return texts


def _has_ended(model: HFLM, text: torch.Tensor, stop: Sequence[str]) -> bool:
    ends = model.model.generation_config.eos_token_id
    if {model.eot_token_id, *(ends if isinstance(ends, list) else [ends])} & {*(tokens := text.tolist())}:
        return True
    words = model.tok_decode(tokens, skip_special_tokens=False)
    return any(end in words for end in stop)


def count_shared(ids: torch.Tensor, mask: torch.Tensor) -> int:
    """How many tokens all prompts, padded on the left, begin with, where each keeps one of its own.

    >>> count_shared(torch.tensor([[0, 5, 6], [5, 6, 8]]), torch.tensor([[0, 1, 1], [1, 1, 1]]))
    1
    """
    width, lengths = ids.shape[1], mask.sum(1).tolist()
    least = min(lengths)
    firsts = torch.stack([row[width - length :][: least - 1] for row, length in zip(ids, lengths, strict=True)])
    differ = (firsts != firsts[0]).any(0).nonzero()
    return int(differ[0, 0]) if len(differ) else least - 1


def move_padding(ids: torch.Tensor, mask: torch.Tensor, shared: int) -> Prompts:
    """Prompts padded on the left, and their masks, with the padding after their first `shared` tokens.

    >>> move_padding(torch.tensor([[0, 5, 6], [5, 7, 8]]), torch.tensor([[0, 1, 1], [1, 1, 1]]), 1)[0].tolist()
    [[5, 0, 6], [5, 7, 8]]
    """
    width = ids.shape[1]
    padding = (width - mask.sum(1))[:, None]
    places = torch.arange(width, device=ids.device)[None]
    source = torch.where(places < shared, places + padding, torch.where(places < shared + padding, places - shared, places))
    return ids.gather(1, source), mask.gather(1, source)


def number_positions(mask: torch.Tensor) -> torch.Tensor:
    """The position of each token among those of its row that are no padding, as `generate` numbers them."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)
