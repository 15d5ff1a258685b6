"""Whether a model can read what its tokenizer writes, and whose chat template it is asked in."""

import logging
from collections.abc import Iterable
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

from lm_eval_tasks.checking.protocol import Demonstrating, Question
from lm_eval_tasks.checking.rendering import name_model
from lm_eval_tasks.checking.tokenizer import load_config
from lm_eval_tasks.contracts.bases import tell_rowless
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import read_template

logger = logging.getLogger(__name__)


def check_base(
    task: Demonstrating, rows: Iterable[Question], prompts: Iterable[str], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Raise a `UserError` where the tokenizer has tokens for which the model has no row; say whose template is replaced.

    Args:
        task: the task.
        rows: the questions that are asked.
        prompts: one of each group.
        tokenizer: the model's.
    """
    metadata, model = task.config.metadata, name_model(task)
    if config := load_config(metadata):
        own = (text for row in rows for text in (row["question"], *row.get("choices", ())))
        if wrong := tell_rowless(tokenizer, config.get_text_config().vocab_size, (*prompts, *own)):
            raise UserError(
                f"{task.config.task}: the tokenizer of {model} {wrong}. Name the tokenizer that belongs to the model "
                "(--model_args ...,tokenizer=FOLDER), or a model whose embeddings were resized to this one."
            )
    given, template = metadata.get("chat_template"), tokenizer.chat_template
    if task.chat and given and template and template != read_template(given):
        say_replaced(model, given)


@lru_cache
def say_replaced(model: str, given: str) -> None:
    """Say once that a chat model is asked in another template than its own."""
    logger.warning(
        "%s has a chat template of its own, as chat models have. It is asked in %s in its place: the template of training, so "
        "that before and after are asked alike.", model, given,
    )  # fmt: skip
