"""`--model hf-prefix`: lm-eval's `hf` model, which computes the prompt prefix that questions share only once.

Few-shot questions of one domain share their demonstrations, chat questions their system prompt. Inputs are put in the order
of their tokens, cut into runs with a long common prefix, and each run's prefix is computed once; its keys and values are
then shown to every batch of suffixes. The output layer is applied only where a choice is scored.
"""

import logging
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from tqdm import tqdm
from transformers import DynamicCache

logger = logging.getLogger(__name__)

Request = tuple[tuple[str, str], list[int], list[int]]
Tokens = tuple[int, ...]

# Full attention in every layer and a plain linear output layer: sharing changes nothing but the order of sums.
SHARING = ("llama", "qwen2", "qwen3")
AUTO_BATCH = 16  # inputs a batch where lm-eval's `--batch_size auto` is given


@register_model("hf-prefix")
class PrefixLM(HFLM):
    """`hf` with shared prefixes; asks the parent where an architecture or an input makes sharing unsafe."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # lm-eval encodes a question's context anew for each of its choices.
        self._encode = lru_cache(maxsize=16)(super().tok_encode)

    def tok_encode(self, string: str, *args: Any, **kwargs: Any) -> list[int]:
        """Token ids of a text, as the parent's."""
        return list(self._encode(string, *args, **kwargs))

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        if reason := self._find_obstacle(requests):
            logger.warning("hf-prefix: %s; prefixes are not shared.", reason)
            return super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)
        asked: dict[Tokens, list[int]] = {}
        for index, (_, context, continuation) in enumerate(requests):
            asked.setdefault(tuple(context + continuation[:-1]), []).append(index)
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        bar = tqdm(total=len(requests), disable=disable_tqdm or self.rank != 0, desc="Running loglikelihood requests")
        size = self.batch_size if isinstance(self.batch_size, int) else AUTO_BATCH
        # What is scored must not lie within a prefix: of each input, at most the context but its last token is shared.
        inputs = [(tokens, min(len(requests[index][1]) for index in asked[tokens]) - 1) for tokens in sorted(asked)]
        for length, run in find_runs(inputs):
            shared = self._read_prefix(run[0][:length])
            run.sort(key=len)  # suffixes of like length stand together, so that little is padded
            for batch in (run[start : start + size] for start in range(0, len(run), size)):
                hidden = self._read_suffixes(shared, [tokens[length:] for tokens in batch])
                for tokens, states in zip(batch, hidden, strict=True):
                    continuations = [requests[index][2] for index in asked[tokens]]
                    scores = self._score(states[: len(tokens) - length], continuations)
                    for index, answers[index] in zip(asked[tokens], scores, strict=True):
                        self.cache_hook.add_partial("loglikelihood", requests[index][0], answers[index])
                        bar.update()
        bar.close()
        return answers

    def _find_obstacle(self, requests: Sequence[Request]) -> str | None:
        """Why prefixes cannot be shared safely, or None."""
        config = self.model.config
        if config.model_type not in SHARING or set(getattr(config, "layer_types", None) or ()) - {"full_attention"}:
            return f"the architecture {config.model_type} is not known to allow it"
        if max(len(context) + len(continuation) for _, context, continuation in requests) > self.max_length:
            return f"an input is longer than the model's {self.max_length} tokens"
        return None

    @torch.inference_mode()
    def _read_prefix(self, tokens: Tokens) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values of a prefix, one pair a layer, each (1, heads, tokens, width); empty for an empty prefix."""
        if not tokens:
            return []
        cache = DynamicCache()
        self.model.get_decoder()(input_ids=torch.tensor([tokens], device=self.device), past_key_values=cache, use_cache=True)
        return [(layer.keys, layer.values) for layer in cache.layers]

    @torch.inference_mode()
    def _read_suffixes(self, shared: Sequence[tuple[torch.Tensor, torch.Tensor]], suffixes: Sequence[Tokens]) -> torch.Tensor:
        """Last hidden states (batch, longest suffix, width) of suffixes after one prefix, padded on the right."""
        rows = [torch.tensor(suffix, device=self.device) for suffix in suffixes]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        cache = DynamicCache([(k.expand(len(rows), -1, -1, -1), v.expand(len(rows), -1, -1, -1)) for k, v in shared])
        return self.model.get_decoder()(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state

    @torch.inference_mode()
    def _score(self, states: torch.Tensor, continuations: Sequence[list[int]]) -> Iterator[tuple[float, bool]]:
        """Log-probability (nats) of each continuation, and whether it is the greedy one.

        Args:
            states: last hidden states (tokens, width), of which the last predicts the last token of every continuation.
            continuations: token ids; all but the last are part of the input.
        """
        states = states[-max(map(len, continuations)) :]
        logprobs = torch.log_softmax(self.model.get_output_embeddings()(states), dim=-1, dtype=self.softmax_dtype)
        for continuation in continuations:
            own = logprobs[-len(continuation) :]
            wanted = torch.tensor(continuation, device=own.device)
            yield float(own.gather(1, wanted[:, None]).sum()), bool((own.argmax(dim=1) == wanted).all())


def find_runs(inputs: Sequence[tuple[Tokens, int]]) -> Iterator[tuple[int, list[Tokens]]]:
    """Cut inputs, sorted by their tokens, into runs that share a prefix.

    An input joins a run if that saves tokens: it gains the common prefix, and each input of the run loses what the prefix
    is cut by.

    Args:
        inputs: tokens, and how many of them a prefix may hold.

    Yields:
        The prefix's length and the inputs of the run.
    """
    run: list[Tokens] = []
    length = 0
    for tokens, limit in inputs:
        common = count_common(run[0][:length], tokens[:limit]) if run else 0
        if run and common <= len(run) * (length - common):
            yield length, run
            run = []
        length = common if run else limit
        run.append(tokens)
    if run:
        yield length, run


def count_common(one: Tokens, other: Tokens) -> int:
    """How many first tokens two inputs have in common."""
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
