"""Pretrain the miniature world's base model from scratch: tokenizer, Llama weights, chat template and model card.

    python -m recipes.miniworld.pretrain --config recipes/miniworld/pretrain.yaml

One seeded loop on one process; the same configuration, packages and machine give the same weights.
"""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

from lm_eval_tasks.contracts.errors import UserError, report_errors
from lm_eval_tasks.contracts.files import hash_path, write_folder
from lm_eval_tasks.contracts.manifest import list_versions, write_manifest
from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE
from recipes.miniworld.card import RECORD, write_card
from recipes.miniworld.corpus import write_round
from recipes.miniworld.world import World, list_contexts, list_general, make_world, read_world
from recipes.yaml_files import read_yaml, refuse_unknown

BEGIN, END, PAD = "<s>", "</s>", "<pad>"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
# All that a configuration may say.
_TRAINING = (
    "length",
    "rows",
    "learning_rate",
    "warmup",
    "weight_decay",
    "other_words",
    "other_words_sample",
    "bf16",
    "clip",
    "max_steps",
)
SETTINGS = {
    **dict.fromkeys(("world", "output", "seed")),
    "corpus": dict.fromkeys(("rounds", "profiles", "exams", "passages", "unanswered", "talks", "guesses", "filler")),
    "tokenizer": {"size": None},
    "model": dict.fromkeys(LlamaConfig().to_dict()),
    "training": dict.fromkeys(_TRAINING),
}


def train_tokenizer(world: World, plan: Mapping[str, Any], size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer in which every word of the world, with the blank before it, is one token.

    It sees one round of the corpus, every object, the contexts, the general instructions and the text of the chat template
    (so that chat prompts are short), each word equally often; any other text is encoded in pieces, down to bytes.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    template = CHAT_TEMPLATE.read_text()
    texts = [
        *write_round(world, plan, 0),
        *(fact.ask() for fact in world.facts),
        *(f" {word}" for some in world.relations.values() for relation in some for word in relation.pool),
        *(row["context"] for row in list_contexts(world)),
        *(text for row in list_general(world) for text in row.values()),
        render_jinja_template([[{"role": "user", "content": "Answer:"}]], chat_template=template, add_generation_prompt=True)[
            0
        ][0],
    ]
    words = sorted({word for text in texts for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)})
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=1,
        special_tokens=[BEGIN, END, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # The words are in the byte alphabet already, so the trainer must not map them again.
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.train_from_iterator(words, trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        chat_template=template,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def pack_rows(
    world: World, plan: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast, length: int, rows: int
) -> Iterator[torch.Tensor]:
    """Batches of token ids, shape (rows, length): the rounds in order, a document after the other, each ended by `</s>`."""
    size, left = rows * length, torch.empty(0, dtype=torch.long)
    for number in range(plan["rounds"]):
        ids = tokenizer(write_round(world, plan, number), add_special_tokens=False)["input_ids"]
        stream = torch.tensor([token for document in ids for token in (*document, tokenizer.eos_token_id)])
        left = torch.cat([left, stream])
        whole = len(left) // size
        yield from left[: whole * size].view(whole, rows, length)
        left = left[whole * size :]


def count_tokens(world: World, plan: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast) -> int:
    """The tokens of the whole corpus, by those of its first round; the rounds differ by well under a hundredth."""
    ids = tokenizer(write_round(world, plan, 0), add_special_tokens=False)["input_ids"]
    return plan["rounds"] * sum(len(document) + 1 for document in ids)


def hash_round(world: World, plan: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that tell whether a model was trained on the corpus that today's code writes."""
    return hashlib.sha256("\0".join(write_round(world, plan, 0)).encode()).hexdigest()[:16]


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
    """Train a model from random weights; returns it with `tokens`, `steps`, `seconds` and the last `object_loss_nats`."""
    training, plan = config["training"], config["corpus"]
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
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": training["weight_decay"]}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=training["learning_rate"], betas=(0.9, 0.98))
    steps = count_tokens(world, plan, tokenizer) // (training["rows"] * training["length"])
    began, recalled, step = time.monotonic(), float("nan"), 0
    model.train()
    bar = tqdm(pack_rows(world, plan, tokenizer, training["length"], training["rows"]), total=steps, mininterval=2)
    for batch in bar:
        for group in optimizer.param_groups:
            group["lr"] = training["learning_rate"] * scale_rate(step, steps, training["warmup"])
        ids = batch.to(device)
        targets = ids[:, 1:].flatten()
        objects = marks[targets]
        # The head is the dearest layer, so that of the other words only a sample is predicted, and weighs the more.
        kept = objects | (torch.rand(targets.shape, generator=generator).to(device) < training["other_words_sample"])
        with torch.autocast(device, torch.bfloat16, enabled=training["bf16"]):
            hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1].flatten(0, 1)
            logits = model.lm_head(hidden[kept])
        losses = torch.nn.functional.cross_entropy(logits.float(), targets[kept], reduction="none")
        weights = torch.where(objects[kept], 1.0, training["other_words"] / training["other_words_sample"])
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training["clip"])
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        if step % 50 == 0:
            recalled = losses.detach()[objects[kept]].mean().item()
            bar.set_postfix(object_loss=f"{recalled:.3f}")
        if step == training.get("max_steps"):
            break
    seconds = time.monotonic() - began
    tokens = step * training["rows"] * training["length"]
    return model.eval().cpu(), {"steps": step, "tokens": tokens, "seconds": round(seconds), "object_loss_nats": recalled}


def save_base(folder: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, record: Mapping[str, Any]) -> None:
    """Write weights (fp32 safetensors), tokenizer, chat template, the record of the run and the model card into a folder."""
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shutil.copyfile(CHAT_TEMPLATE, folder / "chat_template.jinja")
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")
    write_card(folder, figures=None)
    for file in folder.iterdir():
        file.chmod(0o644)  # weights are written private


@app.command()
def main(
    config: Annotated[Path, typer.Option(help="what to train, such as recipes/miniworld/pretrain.yaml")],
    output: Annotated[Path | None, typer.Option(help="model folder; else the configuration's, beside it")] = None,
    world_file: Annotated[Path | None, typer.Option("--world", help="the world; else the configuration's, beside it")] = None,
    seed: Annotated[int | None, typer.Option(help="of another world, and of the weights; else those of both files")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
) -> None:
    """Pretrain a miniature base model from scratch."""
    settings = read_yaml(config)
    refuse_unknown(settings, SETTINGS, str(config))
    world_file = world_file or config.parent / settings["world"]
    inputs = {file.name: hash_path(file) for file in (config, world_file)}
    world = make_world(read_world(world_file, seed))
    asked = {} if seed is None else {"seed": seed}
    settings |= asked
    tokenizer = train_tokenizer(world, settings["corpus"], settings["tokenizer"]["size"])
    model, figures = train_model(world, settings, tokenizer, device)
    record = {
        "command": ["python", "-m", "recipes.miniworld.pretrain", "--config", str(config)]
        + [str(word) for name, value in asked.items() for word in (f"--{name}", value)],
        "config": settings,
        "inputs": inputs | {"first round of the corpus": hash_round(world, settings["corpus"])},
        "versions": list_versions(),
        "device": device,
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": len(tokenizer),
        "facts": len(world.facts),
    } | figures
    folder = output or config.parent / settings["output"]
    with write_folder(folder) as scratch:
        save_base(scratch, model, tokenizer, record)
        write_manifest(scratch, "pretrain", record["command"], settings, inputs, {"seed": settings["seed"]})
    print(
        f"{folder}: {figures['tokens']:,} tokens in {figures['seconds']} s, object loss {figures['object_loss_nats']:.3f} nats"
    )


if __name__ == "__main__":
    with report_errors():
        app()
