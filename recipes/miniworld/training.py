"""The loop that pretrains a miniature base model: reading first, then the corpus; one seeded loop on one process."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import count, islice
from typing import Any, NamedTuple

import torch
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lm_eval_tasks.contracts.errors import UserError
from recipes.miniworld.corpus import write_round
from recipes.miniworld.reading import Document, write_first_round
from recipes.miniworld.world import World


class Stage(NamedTuple):
    """One pass of the loop: rounds of documents, the number of steps and the settings that they are trained with."""

    name: str
    rounds: Iterable[list[Document]]
    steps: int
    training: Mapping[str, Any]


def list_stages(world: World, config: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast) -> list[Stage]:
    """Reading first, by its own settings where it has any, then every round of the corpus once."""
    training, reading, plan = config["training"], config["reading"], config["corpus"]
    first = training | reading["training"]
    steps = count_tokens(world, plan, tokenizer) // (training["rows"] * training["length"])
    return [
        Stage("reading", (write_first_round(world, reading["corpus"], n) for n in count()), first["steps"], first),
        Stage("corpus", (write_round(world, plan, n) for n in range(plan["rounds"])), steps, training),
    ]


def count_tokens(world: World, plan: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast) -> int:
    """The tokens of the whole corpus, by those of its first round; the rounds differ by well under a hundredth."""
    ids = tokenizer([document.text for document in write_round(world, plan, 0)], add_special_tokens=False)["input_ids"]
    return plan["rounds"] * sum(len(document) + 1 for document in ids)


def mark_objects(world: World, tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Which token ids are objects; shape (vocabulary,), bool.

    Raises:
        UserError: an object is more than one token.
    """
    marks = torch.zeros(len(tokenizer), dtype=torch.bool)
    for word in (word for some in world.relations.values() for relation in some for word in relation.pool):
        ids = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            raise UserError(f"The object {word!r} is {len(ids)} tokens. Raise tokenizer.size in the configuration.")
        marks[ids[0]] = True
    return marks


def mark_foreseen(ids: list[int], passages: bool, answer: int) -> list[bool]:
    """Whether each token could be foreseen, were it an object: beside passages only an answer or what was said before could.

    >>> mark_foreseen([5, 6, 5, 9, 7], passages=True, answer=9)
    [False, False, True, False, True]
    """
    if not passages:
        return [True] * len(ids)
    said: set[int] = set()
    marks = []
    for before, token in zip([None, *ids], ids, strict=False):
        marks.append(before == answer or token in said)
        said.add(token)
    return marks


def pack_rows(
    rounds: Iterable[list[Document]], tokenizer: PreTrainedTokenizerFast, length: int, rows: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of token ids and of whether each could be foreseen, shapes (rows, length), int64 and bool.

    The rounds in order, a document after the other, each ended by `</s>`; what fills no batch is left for the next round.
    """
    size, ids, foreseen = rows * length, [], []
    answer = tokenizer("Answer:", add_special_tokens=False)["input_ids"][-1]
    for documents in rounds:
        encoded = tokenizer([document.text for document in documents], add_special_tokens=False)["input_ids"]
        for document, tokens in zip(documents, encoded, strict=True):
            ids += [*tokens, tokenizer.eos_token_id]
            foreseen += [*mark_foreseen(tokens, document.passages, answer), True]
        whole = len(ids) // size * size
        shape = (-1, rows, length)
        yield from zip(torch.tensor(ids[:whole]).view(shape), torch.tensor(foreseen[:whole]).view(shape), strict=True)
        ids, foreseen = ids[whole:], foreseen[whole:]


def scale_rate(step: int, steps: int, warmup: float) -> float:
    """The share of the learning rate at a step: linear warm-up, then a cosine down to a hundredth.

    >>> [round(scale_rate(step, steps=100, warmup=0.1), 2) for step in (0, 9, 10, 55, 100)]
    [0.1, 1.0, 1.0, 0.51, 0.01]
    """
    first = max(1, round(warmup * steps))
    if step < first:
        return (step + 1) / first
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - first) / max(1, steps - first))))


def train_model(
    world: World, config: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast, device: str
) -> tuple[LlamaForCausalLM, dict[str, float]]:
    """Train a model from random weights; returns it with `tokens`, `steps`, `seconds` and the last `object_loss_nats`.

    `max_steps` of the training ends reading and the corpus early, each; their schedules stay those of the whole.
    """
    torch.manual_seed(config["seed"])
    generator = torch.Generator().manual_seed(config["seed"])
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            attn_implementation="eager",  # on a CPU, in bfloat16, half again as fast as the fused one
            **config["model"],
        )
    ).to(device)
    marks = mark_objects(world, tokenizer).to(device)
    model.train()
    began, steps, tokens, loss = time.monotonic(), 0, 0, float("nan")
    for stage in list_stages(world, config, tokenizer):
        done, loss = train_stage(model, stage, tokenizer, marks, generator)
        steps, tokens = steps + done, tokens + done * stage.training["rows"] * stage.training["length"]
    seconds = round(time.monotonic() - began)
    return model.eval().cpu(), {"steps": steps, "tokens": tokens, "seconds": seconds, "object_loss_nats": loss}


def train_stage(
    model: LlamaForCausalLM, stage: Stage, tokenizer: PreTrainedTokenizerFast, marks: torch.Tensor, generator: torch.Generator
) -> tuple[int, float]:
    """Train a model in place; returns the steps taken and the mean loss of the objects of the last fifty steps, in nats."""
    training, device = stage.training, model.device
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": training["weight_decay"]}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=training["learning_rate"], betas=(0.9, 0.98))
    batches = pack_rows(stage.rounds, tokenizer, training["length"], training["rows"])
    total = min(stage.steps, training.get("max_steps", stage.steps))
    recalled, step = [], 0
    bar = tqdm(islice(batches, total), total=total, desc=stage.name, mininterval=2)
    for step, (ids, foreseen) in enumerate(bar, 1):
        for group in optimizer.param_groups:
            group["lr"] = training["learning_rate"] * scale_rate(step - 1, stage.steps, training["warmup"])
        ids, foreseen = ids.to(device), foreseen.to(device)[:, 1:].flatten()
        targets = ids[:, 1:].flatten()
        objects = marks[targets]
        # The head is the dearest layer, so that of the other words only a sample is predicted, and weighs the more.
        others = ~objects & (torch.rand(targets.shape, generator=generator).to(device) < training["other_words_sample"])
        kept = objects & foreseen | others
        with torch.autocast(device.type, torch.bfloat16, enabled=training["bf16"]):
            hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1].flatten(0, 1)
            logits = model.lm_head(hidden[kept])
        losses = torch.nn.functional.cross_entropy(logits.float(), targets[kept], reduction="none")
        weights = torch.where(objects[kept], 1.0, training["other_words"] / training["other_words_sample"])
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training["clip"])
        optimizer.step()
        optimizer.zero_grad()
        recalled = [*recalled[-49:], losses.detach()[objects[kept]].mean()]
        if step % 50 == 0:
            bar.set_postfix(object_loss=f"{torch.stack(recalled).mean().item():.3f}")
    return step, torch.stack(recalled).mean().item() if recalled else float("nan")
