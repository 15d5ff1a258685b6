"""What tests of other folders made up, for these: tasks, question sets, tiny models, trainers; and a tokenizer that joins."""

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from conftest import BASE, ROOT
from lm_eval.api.instance import Instance
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lm_eval_tasks.tasks import QuestionTask

sys.path += [str(ROOT / "tests" / name) for name in ("lm_eval_tasks", "recipes")]

from pack import build, make_questions, write_questions
from tiny import LLAMA, make_requests
from tiny import make_model as make_tiny
from trainers import IGNORED, Recorder, load_base, make_rows, make_trainer
from trainers import make_model as make_untied

__all__ = (
    "IGNORED", "LLAMA", "Recorder", "build_requests", "build_task", "list_requests", "load_base", "load_tokenizer",
    "make_joining", "make_questions", "make_requests", "make_rows", "make_tiny", "make_trainer", "make_untied",
    "write_questions",
)  # fmt: skip


def list_requests(pairs: Sequence[tuple[str, str]]) -> list[Instance]:
    """Contexts and continuations as lm-eval asks a model for them."""
    return [Instance("loglikelihood", {}, pair, 0) for pair in pairs]


def build_task(name: str, questions: Path, **metadata: Any) -> QuestionTask:
    """A task as a run with the miniature base would build it."""
    return build(name, questions=str(questions), pretrained=str(BASE), **metadata)


def build_requests(task: QuestionTask, **run: Any) -> list[Instance]:
    """A task's requests; `run`: the `limit`, `rank` and `world_size` of the run."""
    chat = {"apply_chat_template": True, "chat_template": write_chat} if task.chat else {}
    task.build_all_requests(**chat, **run)
    return task.instances


def write_chat(turns: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
    return load_tokenizer().apply_chat_template(turns, tokenize=False, add_generation_prompt=add_generation_prompt)


@cache
def load_tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(BASE)


def make_joining(text: str) -> PreTrainedTokenizerBase:
    """A byte-level tokenizer that splits no text into words first, and so has a token for all of `text`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=["</s>"], show_progress=False)
    tokenizer.train_from_iterator([text] * 50, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")
