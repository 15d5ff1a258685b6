"""Pretrain the miniature world's base model from scratch: tokenizer, Llama weights, chat template and model card.

    python -m recipes.miniworld.pretrain --config recipes/miniworld/pretrain.yaml

The same configuration, packages and machine give the same weights.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

from lm_eval_tasks.contracts.errors import report_errors
from lm_eval_tasks.contracts.files import hash_path, write_folder
from lm_eval_tasks.contracts.manifest import list_versions, write_manifest
from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE
from recipes.miniworld.card import RECORD, write_card
from recipes.miniworld.corpus import write_round
from recipes.miniworld.reading import write_first_round
from recipes.miniworld.training import train_model
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
READ = ("scattered", "lists", "echoes", "passages", "open_exams")
SETTINGS = {
    **dict.fromkeys(("world", "output", "seed")),
    "reading": {"corpus": dict.fromkeys(READ), "training": dict.fromkeys((*_TRAINING, "steps"))},
    "corpus": dict.fromkeys((*READ, "rounds", "profiles", "exams", "unanswered", "talks", "guesses", "filler")),
    "tokenizer": {"size": None},
    "model": dict.fromkeys(LlamaConfig().to_dict()),
    "training": dict.fromkeys(_TRAINING),
}


def first_texts(world: World, config: Mapping[str, Any]) -> list[str]:
    """The texts of the first round of what is read, and of the corpus."""
    read = write_first_round(world, config["reading"]["corpus"], 0)
    return [document.text for document in (*read, *write_round(world, config["corpus"], 0))]


def train_tokenizer(world: World, config: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer in which every word of the world, with the blank before it, is one token.

    It sees one round of what is read and of the corpus, every object, the contexts, the general instructions and the text of
    the chat template (so that chat prompts are short), each word equally often; any other text is encoded in pieces, down to
    bytes.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    template = CHAT_TEMPLATE.read_text()
    texts = [
        *first_texts(world, config),
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
        vocab_size=config["tokenizer"]["size"],
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


def hash_texts(world: World, config: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that tell whether a model was trained on the texts that today's code writes."""
    return hashlib.sha256("\0".join(first_texts(world, config)).encode()).hexdigest()[:16]


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
    output: Annotated[
        Path | None, typer.Option(help="model folder; else the configuration's, beside it, or with --seed worlds/SEED")
    ] = None,
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
    tokenizer = train_tokenizer(world, settings)
    model, figures = train_model(world, settings, tokenizer, device)
    record = {
        "command": ["python", "-m", "recipes.miniworld.pretrain", "--config", str(config)]
        + [str(word) for name, value in asked.items() for word in (f"--{name}", value)],
        "config": settings,
        "inputs": inputs | {"first texts": hash_texts(world, settings)},
        "versions": list_versions(),
        "device": device,
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": len(tokenizer),
        "facts": len(world.facts),
    } | figures
    folder = output or config.parent / (settings["output"] if seed is None else f"worlds/{seed}")
    with write_folder(folder) as scratch:
        save_base(scratch, model, tokenizer, record)
        write_manifest(scratch, "pretrain", record["command"], settings, inputs, {"seed": settings["seed"]})
    print(
        f"{folder}: {figures['tokens']:,} tokens in {figures['seconds']} s, object loss {figures['object_loss_nats']:.3f} nats"
    )


if __name__ == "__main__":
    with report_errors():
        app()
