"""Copies of the miniature base that are like real models in one thing: more rows, fewer, weights in a GGUF file."""

import json
import shutil
from pathlib import Path

from conftest import BASE
from transformers import AutoModelForCausalLM, AutoTokenizer

OWN_TEMPLATE = "{% for turn in messages %}<|{{ turn.role }}|>{{ turn.content }}{% endfor %}<|assistant|>"


def copy_base(folder: Path, **settings: object) -> Path:
    """The base with other settings in its configuration."""
    shutil.copytree(BASE, folder)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return folder


def resize_base(folder: Path, rows: int) -> Path:
    """The base with another number of rows in its vocabulary, of which it has 2,903, as its tokenizer has tokens."""
    shutil.copytree(BASE, folder)
    model = AutoModelForCausalLM.from_pretrained(BASE)
    model.resize_token_embeddings(rows, mean_resizing=False)
    model.save_pretrained(folder)
    return folder


def add_tokens(folder: Path, *tokens: str, **special: str) -> Path:
    """The base with a tokenizer that has more tokens than it has rows."""
    shutil.copytree(BASE, folder)
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    tokenizer.add_tokens([*tokens])
    tokenizer.add_special_tokens(special)
    tokenizer.save_pretrained(folder)
    return folder


def give_template(folder: Path, template: str = OWN_TEMPLATE) -> Path:
    """The base with a tokenizer that has a chat template of its own."""
    shutil.copytree(BASE, folder)
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def write_gguf(folder: Path, name: str = "model.Q4_1.gguf") -> Path:
    """A folder that holds nothing but the beginning of a GGUF file."""
    folder.mkdir()
    (folder / name).write_bytes(b"GGUF\x03\x00\x00\x00")
    return folder
