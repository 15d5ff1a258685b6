"""What is checked of a task that has texts written: whether prompt and text fit into the model's window, and its own limit."""

import logging
from collections.abc import Sequence
from functools import lru_cache

from lm_eval.models.utils import has_bos_prefix
from transformers import GenerationConfig

from lm_eval_tasks.checking.lengths import count_added, find_long
from lm_eval_tasks.checking.protocol import Asking, Question
from lm_eval_tasks.checking.tokenizer import find_window, load_tokenizer
from lm_eval_tasks.checking.too_long import Choice, leave_out

logger = logging.getLogger(__name__)


def leave_out_long(
    task: Asking, prompts: Sequence[tuple[Question, str]], limit: int, choice: Choice, remedies: Sequence[str] = ()
) -> None:
    """Raise a `UserError` where a prompt and a text exceed the model's window, or leave such questions out, as the user chose.

    lm-eval would cut the beginning of such a prompt.

    Args:
        task: the task, whose `left_out` is set.
        prompts: the questions that are to be asked, and their prompts.
        limit: how many tokens a text can have.
        choice: what the user chose.
        remedies: how a question takes fewer tokens, beside a lower limit.
    """
    metadata = task.config.metadata
    window, tokenizer, found = find_window(metadata), load_tokenizer(metadata), None
    if window and tokenizer is not None:
        begun = has_bos_prefix(prompts[0][1], tokenizer.bos_token)  # by a chat template; lm-eval adds no other
        found = find_long(prompts, tokenizer, limit + (0 if begun else count_added(task, tokenizer)), window)
    told = ["lower max_gen_toks (--gen_kwargs)", *remedies]
    leave_out(task, [row for row, _ in prompts], found, window, choice, f"prompt and a text of {limit} tokens", told)


@lru_cache
def find_own_limit(pretrained: str | None, revision: str) -> int | None:
    """How many tokens a model writes at most by its own `generation_config.json`, which `hf` obeys before any task; says so."""
    try:
        limit = GenerationConfig.from_pretrained(pretrained, revision=revision).max_new_tokens if pretrained else None
    except (OSError, ValueError):
        return None
    if limit is not None:
        logger.warning(
            "%s: its generation_config.json sets max_new_tokens to %d, which `--model hf` obeys whatever the task asks for. "
            "Remove it there if texts come back cut.",
            pretrained,
            limit,
        )
    return limit
