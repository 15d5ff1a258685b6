"""What `hf-prefix` has to compute and to move, counted operator by operator on a model without numbers, and the time it takes.

On the device `meta` a model has shapes and no weights, so the operators of a model of 7B are counted on any machine in
seconds. Whatever would wait for a number raises there.
"""

import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from lm_eval_tasks.models.prefix import AUTO_BATCH
from lm_eval_tasks.models.reader import Shared, TreeReader
from lm_eval_tasks.models.tree import Input, PackedRow, Tokens, Trunk, batch_rows, plan_trunks
from tests.gpu.shapes import make_random

LETTERS = 4  # continuations a question


@dataclass(eq=False)
class Counted(TorchDispatchMode):
    """Counts operators while it is entered; seconds are those of a device of given rates, whose operators follow each other.

    An operator takes as long as its products at `rate`, or its bytes at `bandwidth`, whichever is longer.
    """

    rate: float  # FLOP/s
    bandwidth: float  # bytes/s, read and written ones counted
    operators: int = 0  # those that move or compute anything
    flops: float = 0.0
    seconds: float = 0.0
    product_seconds: float = 0.0  # of them, those of matrix products and attention
    joined: float = 0.0  # bytes of keys and values that stand beside others in a new tensor
    joined_seconds: float = 0.0
    sent: list[int] = field(default_factory=list)  # bytes of each transfer to the device
    softmaxes: list[tuple[tuple[int, ...], torch.dtype]] = field(default_factory=list)  # shapes and dtypes of what they give

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        made = [one for one in tree_leaves(found) if isinstance(one, torch.Tensor)]
        self._count(function.__name__.partition(".")[0], given, made)
        return found

    def _count(self, name: str, given: list[torch.Tensor], made: list[torch.Tensor]) -> None:
        if not made or all(one.device.type == "cpu" for one in made):
            return
        if any(one.device.type == "cpu" and one.dim() for one in given):
            self.sent.append(sum(map(_measure, made)))
            return
        known = {one.untyped_storage()._cdata for one in given}
        if not name.endswith("_") and all(one.untyped_storage()._cdata in known for one in made):
            return  # another view of what is there
        flops, size = _count_flops(name, given, made[0]), sum(map(_measure, (*given, *made)))
        seconds = max(flops / self.rate, size / self.bandwidth)
        self.operators += 1
        self.flops += flops
        self.seconds += seconds
        if flops:
            self.product_seconds += seconds
        if name == "cat" and given[0].dim() == 4 and made[0].shape[2] > given[0].shape[2]:
            self.joined += _measure(made[0])
            self.joined_seconds += seconds
        if "log_softmax" in name:
            self.softmaxes.append((tuple(made[0].shape), made[0].dtype))


def _measure(one: torch.Tensor) -> int:
    """Bytes of a tensor; what is shown repeatedly counts once."""
    return min(one.numel() * one.element_size(), one.untyped_storage().nbytes())


def _count_flops(name: str, given: list[torch.Tensor], made: torch.Tensor) -> float:
    if name in ("linear", "mm", "addmm", "matmul", "bmm"):
        return 2.0 * made.numel() * given[0].shape[-1]
    if "scaled_dot_product" in name:
        queries, keys = given[0], given[1]
        return 4.0 * queries.numel() * keys.shape[-2]
    return 0.0


class Plan(NamedTuple):
    """How `hf-prefix` asks some prompts."""

    trunks: list[Trunk]
    batches: list[tuple[Trunk, list[PackedRow]]]
    host: float  # seconds in which nothing is on the device yet: tokenizing and planning

    @property
    def shapes(self) -> set[tuple[int, int, int]]:
        """Of the batches: tokens of the trunk, rows, tokens of the longest row."""
        return {(len(trunk.tokens), len(rows), max(len(row.tokens) for row in rows)) for trunk, rows in self.batches}

    @property
    def tokens(self) -> int:
        """That the model reads, padding counted."""
        read = sum(len(rows) * max(len(row.tokens) for row in rows) for _, rows in self.batches)
        return read + sum(len(trunk.tokens) for trunk in self.trunks)


def plan_prompts(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> Plan:
    """How prompts are asked on a GPU, at `--batch_size auto`."""
    reader, size = TreeReader(make_random(config, "meta", torch.bfloat16)), AUTO_BATCH["cuda"]
    start = time.perf_counter()
    inputs = {Input(tuple(ids)) for ids in tokenizer(list(prompts))["input_ids"]}
    trunks = list(plan_trunks(inputs, size, reader.find_ratio(), reader.can_pack(max(len(item.tokens) for item in inputs))))
    batches = [(trunk, rows) for trunk in trunks for rows in batch_rows(trunk.rows, size)]
    return Plan(trunks, batches, time.perf_counter() - start)


def count_batches(
    config: PreTrainedConfig,
    batches: Iterable[tuple[Trunk, list[PackedRow]]],
    rate: float,
    bandwidth: float,
    trunks: bool = True,
) -> Counted:
    """What some batches take and, where `trunks` says so, each trunk among them once."""
    reader = TreeReader(make_random(config, "meta", torch.bfloat16).eval())
    counted = Counted(rate, bandwidth)
    known: dict[Tokens, Shared] = {}
    for trunk, rows in batches:
        if trunk.tokens not in known:
            with counted if trunks else contextlib.nullcontext():
                known[trunk.tokens] = reader.read_trunk(trunk.tokens)
        with counted:
            _, nodes = reader.find_nodes(rows)
            logprobs = reader.read_logprobs(known[trunk.tokens], rows, list(nodes))
            reader._score(logprobs, torch.zeros(LETTERS * len(nodes), 2, dtype=torch.long))
    return counted


def predict_seconds(config: PreTrainedConfig, plan: Plan, rate: float, bandwidth: float) -> float:
    """Seconds that all of a plan takes: what the host does before, and what the device does; the rest is at the same time."""
    return plan.host + count_batches(config, plan.batches, rate, bandwidth).seconds
