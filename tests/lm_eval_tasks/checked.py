"""What the checks before a run are tried on: a model without weights, tokenizers, and questions; and how a run is refused."""

import json
import shutil

from bases import copy_base
from conftest import BASE
from pack import make_questions, refuse_run, write_questions
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

ROWS = 32000  # of the model's vocabulary, enough for every tokenizer here
PROBE, CLOZE, CHAT, CHAT_CLOZE = "selfalign_probe", "selfalign_probe_cloze", "selfalign_chat", "selfalign_chat_cloze"


def fill_folder(folder, sentencepiece):
    """Write a model without weights, tokenizers, and a question set into a folder, which is returned."""
    copy_base(folder / "model", vocab_size=ROWS)
    (folder / "model/model.safetensors").unlink()
    shutil.copytree(sentencepiece, folder / "sentencepiece")
    make_tokenizer(pre_tokenizers.Split(" ", "isolated")).save_pretrained(folder / "spaces_apart")
    make_tokenizer(None, normalizers.Lowercase()).save_pretrained(folder / "lowercase")
    make_tokenizer(None).save_pretrained(folder / "bytes")
    save_template(folder / "no_template", None)
    save_template(folder / "other_ending", "{% for m in messages %}USER: {{ m.content }}{% endfor %} ASSISTANT: ")
    save_template(folder / "refusing", "{{ raise_exception('no users here') }}")
    rows = {"dev": make_questions(6, 4, "dev"), "test": make_questions(30, 5, "test")}
    write_questions(folder / "good", {"herbs": rows, "annals": rows})
    return folder


def make_tokenizer(before, normalizer=None, text="Answer: A B C D E What does it bring? luck salt gold "):
    """A small byte-level tokenizer that knows a text, with a step before it."""
    tokenizer = Tokenizer(models.BPE())
    own = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=before is None)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([before, own]) if before else own
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<s>"], show_progress=False
    )
    tokenizer.train_from_iterator([text] * 9, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")


def save_template(folder, template):
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


def refuse(folder, task, *options, questions="good", model_args="", **metadata):
    """The message with which a run is refused."""
    metadata = {"questions": str(folder / questions)} | metadata
    words = ["--model", "hf", "--model_args", f"pretrained={folder / 'model'}{model_args}", "--device", "cpu"]
    return refuse_run(*words, "--tasks", task, "--metadata", json.dumps(metadata), *options)
