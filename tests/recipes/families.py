"""Tokenizers of three families, with the template of training, and texts that try them."""

import random
from pathlib import Path

from conftest import BASE
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE

FAMILIES = ("byte-level", "sentencepiece", "miniature")
PIECES = (
    "USER:",
    " USER: ",
    "ASSISTANT:",
    "ASSISTANT: ",
    "{{ x }}",
    "{% if y %}",
    "{# z #}",
    "\n",
    "\n\n",
    " ",
    "  ",
    "\t",
    "\r\n",
)
PIECES += (
    "é",
    "漢字",
    "🙂",
    "e\u0301",
    "\u200b",
    "\u00a0",
    "\u202e",
    "\x1b",
    "ﬁ",
    "A.",
    "B. ",
    "a herb",
    "<b>",
    "</",
    "1234",
    "...",
)
PIECES += ("'s", "\\n", '"', "▁", "Ġ", "s>", "[INST]", "<|x|>")


def load_family(family: str, sentencepiece: Path) -> PreTrainedTokenizerBase:
    """A tokenizer: a byte-level BPE trained here, a real SentencePiece one, or the shipped base's."""
    if family == "byte-level":
        tokenizer = train_byte_level()
    else:
        tokenizer = AutoTokenizer.from_pretrained(sentencepiece if family == "sentencepiece" else BASE)
    tokenizer.chat_template = CHAT_TEMPLATE.read_text()
    return tokenizer


# How Qwen and Llama 3 divide a text before its parts become tokens: newlines stay with the punctuation before them.
JOINING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def train_joining() -> PreTrainedTokenizerBase:
    """A byte-level BPE of Qwen's kind, which writes a full stop and the blank line after it as one token."""
    ends = [".", ")", "%", "”", "?", "。", ");", " ", ";"]
    divided = pre_tokenizers.Split(Regex(JOINING), "isolated")
    whole = pre_tokenizers.Sequence([divided, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer = train_byte_level(whole, [f"a leaf{end}\n\nIt is" for end in ends] * 99)
    tokenizer.chat_template = CHAT_TEMPLATE.read_text()
    return tokenizer


def train_byte_level(
    pre_tokenizer: pre_tokenizers.PreTokenizer | None = None, texts: list[str] | None = None
) -> PreTrainedTokenizerBase:
    """A byte-level BPE, of GPT-2's kind where nothing is said, trained on this project's own words and on `texts`."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizer or pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    text = [file.read_text() for file in sorted(CHAT_TEMPLATE.parents[1].rglob("*.py"))]
    text += [f"A chat between a user and an assistant. USER: Which? ASSISTANT: {letter}. It is." for letter in "ABCD"] * 99
    text += ["Thank you:]"] * 99 + (texts or [])
    names = {"bos_token": "<s>", "eos_token": "</s>"}
    raw.train_from_iterator(
        text,
        trainers.BpeTrainer(
            vocab_size=1500,
            special_tokens=[*names.values()],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=raw, **names)


def make_texts(count: int, seed: int = 1) -> list[str]:
    """Texts of random pieces, none of them blank."""
    rng = random.Random(seed)
    texts = ("".join(rng.choices(PIECES, k=rng.randint(1, 30))) for _ in range(10 * count))
    return [text for text in texts if text.strip()][:count]


def make_pair(name: str, asked: str, said: str) -> dict:
    """A row."""
    turns = {"prompt": [{"role": "user", "content": asked}], "completion": [{"role": "assistant", "content": said}]}
    return turns | {"id": name}


def make_pairs(count: int) -> list[dict]:
    """Rows of such texts."""
    texts = make_texts(2 * count)
    return [make_pair(f"pair {i}", *texts[2 * i : 2 * i + 2]) for i in range(count)]
