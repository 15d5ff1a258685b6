"""Reading token trees with a causal language model: a trunk's keys and values once, then rows after it, batch by batch."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from lm_eval_tasks.models.transfers import fetch, send
from lm_eval_tasks.models.tree import Input, PackedRow, Tokens

# Architectures in which a token's state depends on its own position and on the tokens that its mask shows, and on nothing else,
# and which were tested to give what `hf` gives.
SHARING = frozenset(
    "llama mistral mixtral qwen2 qwen3 gpt2 gpt_neox gemma2 gemma3_text opt olmo2 phi3 granite".split()  # noqa: SIM905
)
DENSE = ("eager", "sdpa")  # attention that takes any mask

Answer = tuple[float, bool]  # log-likelihood (nats), and whether it is the greedy continuation


class SharedLayer(DynamicLayer):
    """Keys and values of a trunk, shown to every row of a batch; what the rows add is used once and not kept.

    So a batch holds the rows' keys and values of one layer at a time, not of all.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys, values  # each (1, heads, tokens, width)
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Trunk and rows side by side, (rows, heads, tokens, width)."""
        rows = len(key_states)
        return (
            torch.cat([self.keys.expand(rows, -1, -1, -1), key_states], dim=-2),
            torch.cat([self.values.expand(rows, -1, -1, -1), value_states], dim=-2),
        )


Shared = list[tuple[torch.Tensor, torch.Tensor]]
Scored = tuple[int, Input, list[int]]  # the number of a row in its batch, an input in it, and the input's nodes
Node = tuple[int, int]  # the number of a row in its batch, and of a node in the row


class TreeReader:
    """Reads trunks and rows with one model.

    Args:
        model: a causal language model of one of the `SHARING` architectures, in evaluation mode.
        softmax_dtype: the type in which log-probabilities are computed.
    """

    def __init__(self, model: PreTrainedModel, softmax_dtype: torch.dtype = torch.float32) -> None:
        self.model, self.softmax_dtype = model, softmax_dtype
        self.config = model.config.get_text_config()
        self.window = getattr(self.config, "sliding_window", None) if self._slides() else None

    def _slides(self) -> bool:
        kinds = getattr(self.config, "layer_types", None)
        return "sliding_attention" in kinds if kinds else getattr(self.config, "use_sliding_window", True)

    def find_ratio(self) -> float:
        """The cost of a token's matrix products in units of its attention to one other token."""
        heads = self.config.num_attention_heads
        width = getattr(self.config, "head_dim", None) or self.config.hidden_size // heads
        embeddings = self.model.get_input_embeddings().weight.numel()
        weights = sum(weight.numel() for weight in self.model.parameters()) - embeddings
        return weights / (2 * self.config.num_hidden_layers * heads * width)

    def can_pack(self, longest: int) -> bool:
        """Whether inputs of up to `longest` tokens may share a row: any mask is taken, and no window cuts what a token sees."""
        return self.config._attn_implementation in DENSE and (self.window is None or longest <= self.window)

    @torch.inference_mode()
    def read_trunk(self, tokens: Tokens) -> Shared:
        """Keys and values of a trunk, a pair a layer, each (1, heads, tokens, width); empty for an empty one."""
        if not tokens:
            return []
        cache = DynamicCache()
        self.fill(cache, torch.tensor([tokens], device=self.model.device))
        return [(layer.keys, layer.values) for layer in cache.layers]

    @torch.inference_mode()
    def fill(self, cache: DynamicCache, ids: torch.Tensor, **options: torch.Tensor) -> None:
        """Add the keys and values of tokens, (rows, tokens), to a cache; `options` go to the model."""
        with self._choose_positions(torch.tensor([ids.numel() - 1], device=ids.device)):
            self.model(input_ids=ids, past_key_values=cache, use_cache=True, **options)

    def read_rows(
        self, shared: Shared, rows: Sequence[PackedRow], asked: dict[Input, list[list[int]]]
    ) -> Iterator[tuple[Input, list[Answer]]]:
        """Log-probabilities (nats) of continuations after inputs, and whether each is the greedy one.

        The device is at work once this returns; what is returned waits for it, once a batch.

        Args:
            shared: the trunk's keys and values.
            rows: a batch of rows.
            asked: for each input, token ids of continuations; all but its last token are the input's own last ones.
        """
        scored, nodes = self.find_nodes(rows)
        wanted = [
            [(nodes[number, node], token) for node, token in zip(path[-len(tokens) :], tokens, strict=True)]
            for number, item, path in scored
            for tokens in asked[item]
        ]
        pairs = torch.tensor([pair for one in wanted for pair in one])
        found = fetch(self._score(self.read_logprobs(shared, rows, list(nodes)), pairs))
        sizes = [(item, [len(tokens) for tokens in asked[item]]) for _, item, _ in scored]
        return _join_tokens(sizes, found)

    @staticmethod
    @torch.inference_mode()
    def _score(logprobs: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
        """The log-probability of each token, and 1 where no other one is likelier, else 0: (2, tokens).

        Args:
            logprobs: (nodes, vocabulary).
            pairs: the node after which a token is scored, and its id: (tokens, 2).
        """
        where, tokens = send(pairs, logprobs.device).T
        values = logprobs[where, tokens]
        return torch.stack([values, (logprobs.argmax(dim=-1)[where] == tokens).to(values.dtype)])

    @staticmethod
    def find_nodes(rows: Sequence[PackedRow]) -> tuple[list[Scored], dict[Node, int]]:
        """The inputs of a batch of rows, and the nodes after which tokens are scored, numbered as they are met, each once."""
        scored = [(number, item, path) for number, row in enumerate(rows) for item, path in row.paths.items()]
        nodes: dict[Node, int] = {}
        for number, item, path in scored:
            for node in path[-item.scored :]:
                nodes.setdefault((number, node), len(nodes))
        return scored, nodes

    @torch.inference_mode()
    def read_logprobs(self, shared: Shared, rows: Sequence[PackedRow], nodes: Sequence[Node]) -> torch.Tensor:
        """Log-probabilities of what follows nodes of a batch of rows, (nodes, vocabulary), nats.

        Args:
            shared: the trunk's keys and values.
            rows: the batch.
            nodes: the number of a row in the batch and of a node in it, each.
        """
        device, width = self.model.device, max(len(row.tokens) for row in rows)
        positions = [number * width + node for number, node in nodes]
        ids = np.zeros((len(rows), width), dtype=np.int64)
        for own, row in zip(ids, rows, strict=True):
            own[: len(row.tokens)] = row.tokens
        past = len(shared[0][0][0, 0]) if shared else 0
        options: dict[str, Any] = {"use_cache": False}
        if shared:
            cache = DynamicCache()
            cache.layers = [SharedLayer(keys, values) for keys, values in shared]
            options = {"past_key_values": cache, "use_cache": True}
        if (branched := any(row.is_branched for row in rows)) or (shared and self.can_pack(past + width)):
            sees, depths = see_ancestors(rows, width) if branched else see_causally(width, device)
            mask = torch.zeros(len(sees), 1, width, past + width, dtype=self.model.dtype, device=device)
            mask[:, 0, :, past:].masked_fill_(~send(sees, device), torch.finfo(self.model.dtype).min)
            options |= {"attention_mask": mask, "position_ids": send(depths, device) + past}
        with self._choose_positions(send(torch.tensor(positions), device)):
            logits = self.model(input_ids=send(torch.from_numpy(ids), device), **options).logits[0]
        return torch.log_softmax(logits, dim=-1, dtype=self.softmax_dtype)

    @contextmanager
    def _choose_positions(self, positions: torch.Tensor) -> Iterator[None]:
        """Apply the output layer at positions of the batch laid end to end alone; the logits are (1, positions, vocabulary).

        The model's own forward goes on from there, so whatever it does to its logits (scaling, a soft cap) is done.
        """

        def choose(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            return (inputs[0].flatten(0, 1)[positions.to(inputs[0].device)][None], *inputs[1:])

        handle = self.model.get_output_embeddings().register_forward_pre_hook(choose)
        try:
            yield
        finally:
            handle.remove()


def see_causally(width: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """What each token of a plain row sees, bool (1, width, width), and its depth (1, width); the same for all such rows."""
    return torch.ones(1, width, width, dtype=torch.bool, device=device).tril(), torch.arange(width, device=device)[None]


def see_ancestors(rows: Sequence[PackedRow], width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What each node of padded rows sees, itself and its ancestors: bool (rows, width, width); and its depth (rows, width)."""
    sees = np.tile(np.eye(width, dtype=bool), (len(rows), 1, 1))
    depths = np.zeros((len(rows), width), dtype=np.int64)
    for own, deep, row in zip(sees, depths, rows, strict=True):
        for node, parent in enumerate(row.parents):
            if parent >= 0:
                own[node] |= own[parent]
                deep[node] = deep[parent] + 1
    return torch.from_numpy(sees), torch.from_numpy(depths)


def _join_tokens(
    sizes: list[tuple[Input, list[int]]], found: Callable[[], torch.Tensor]
) -> Iterator[tuple[Input, list[Answer]]]:
    """Inputs with their answers, from what `_score` gives; `sizes` says how many tokens each continuation of an input has."""
    values, greedy = found().double().tolist()
    start = 0
    for item, lengths in sizes:
        ends = list(itertools.accumulate(lengths, initial=start))
        yield item, [(sum(values[first:end]), all(greedy[first:end])) for first, end in itertools.pairwise(ends)]
        start = ends[-1]
