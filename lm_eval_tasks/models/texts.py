"""Texts that a model has written, kept: a run that was killed goes on where it was, also where texts are sampled.

lm-eval's own cache passes sampled requests over, and its key has no place for the number of a sample.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.huggingface import HFLM
from tqdm import tqdm

from lm_eval_tasks.models.responses import Responses

logger = logging.getLogger(__name__)
AUTO_BATCH = {"cpu": 16, "cuda": 64}  # where lm-eval's `--batch_size auto` is given; halved until it fits
BATCHES_AT_ONCE = 4  # between two writes to the cache: a batch is of one way to generate and of prompts of alike lengths

Ask = Callable[[list[Instance], bool], list[str]]
Write = Callable[[Sequence[Instance], Sequence[object]], Iterator[list[str]]]


def write_texts(
    model: TemplateLM, write: Write, requests: Sequence[Instance], responses: Responses | None, disable_tqdm: bool
) -> list[str]:
    """The texts of requests: those that are kept, and the others from the model, which are kept as they come.

    Several requests of one prompt and one way to generate are samples: the first is number 0, and so on.

    Args:
        model: which writes.
        write: gives the texts of requests in their order, some at a time; beside each request stands what tells it from all
            others.
        requests: with prompt and settings.
        responses: where texts are kept; None for nowhere.
        disable_tqdm: no bar is shown.
    """
    keys, lengths = _make_keys(model, requests)
    found: list[str | None] = [None] * len(requests)
    if responses:
        keys = [responses.make_text_key(*key) for key in keys]
        found = [responses.find_text(key) for key in keys]
    left = sorted((i for i, text in enumerate(found) if text is None), key=lambda i: (str(requests[i].args[1]), -lengths[i], i))
    if len(left) < len(requests) and model.rank == 0:
        there = len(requests) - len(left)
        logger.warning("%s: %d of %d texts are in the response cache already.", model.name, there, len(requests))
    bar = tqdm(total=len(left), disable=disable_tqdm or model.rank != 0, desc="Running generate_until requests")
    numbers = iter(left)
    with closing(write([requests[i] for i in left], [keys[i] for i in left])) as parts, bar:
        for texts in parts:
            own = list(islice(numbers, len(texts)))
            for i, text in zip(own, texts, strict=True):
                found[i] = text
            if responses:
                responses.keep_texts((keys[i], found[i]) for i in own)
            bar.update(len(own))
    return found


def write_in_batches(model: HFLM, ask: Ask, requests: Sequence[Instance], keys: Sequence[object]) -> Iterator[list[str]]:
    """The texts of requests in their order, some batches at a time.

    Args:
        model: which writes; its batch size is halved where memory runs out.
        ask: its own way to write texts.
        requests: with prompt and settings.
        keys: what tells each request from all others.
    """
    own, seed = model.batch_size_per_gpu, torch.initial_seed()
    size = own if isinstance(own, int) else AUTO_BATCH.get(model.device.type, AUTO_BATCH["cpu"])
    done = 0
    try:
        while done < len(requests):
            end = done + size * BATCHES_AT_ONCE
            model.batch_size_per_gpu = size
            # So that a run that goes on does not begin with the random numbers of the run before.
            torch.manual_seed(mix_seed(seed, keys[done:end]))
            try:
                texts = ask(requests[done:end], True)
            except RuntimeError as error:
                if not should_reduce_batch_size(error) or size == 1:
                    raise
                size //= 2
                logger.warning("%s: out of memory; going on with batch size %d.", model.name, size)
                clear_device_cache(garbage_collection=True)
                continue
            yield texts
            done += len(texts)
    finally:
        model.batch_size_per_gpu = own


def _make_keys(model: TemplateLM, requests: Sequence[Instance]) -> tuple[list, list[int]]:
    """What tells each request from all others, prompt, settings and number of the sample, and the tokens of its prompt."""
    prompts = {text: model.tok_encode(text) for text in dict.fromkeys(request.args[0] for request in requests)}
    numbers: Counter[str] = Counter()
    keys = []
    for text, settings in (request.args for request in requests):
        asked = f"{settings} {text}"
        keys.append((prompts[text], settings, numbers[asked]))
        numbers[asked] += 1
    return keys, [len(prompt) for prompt, _, _ in keys]


def mix_seed(seed: int, keys: Sequence[object]) -> int:
    """A seed below 2**56 of a seed and of what it is for."""
    return int.from_bytes(hashlib.sha256(repr((seed, keys)).encode()).digest()[:7], "big")
