"""The keys of `--metadata`: one that nothing looks up would change nothing, and nobody would be told."""

from collections.abc import Iterable
from difflib import get_close_matches

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.names import name_unknown

# What a run may say of questions, requests and benchmarks (README.md), and of questions that are too long or flawed.
KEYS = ("questions", "domain", "splits", "trained_on", "contexts", "order", "shots", "draw", "phase")
KEYS += ("samples", "temperature", "requests", "mmlu", "cmmlu", "ceval", "too_long", "too_long_to", "may_leave_out")
# Arguments of a model, which tasks look up too; where a model is behind an API, --metadata is where they are named.
MODEL_KEYS = ("pretrained", "peft", "model", "tokenizer", "revision", "trust_remote_code", "max_length", "max_model_len")
MODEL_KEYS += ("add_bos_token", "chat_template")
# What a task's own file says.
OWN_KEYS = ("version", "task", "kind", "prompt", "scoring", "bos", "paper", "demonstrations_by", "begins", "greedy")
NEAR = 0.8  # how alike a typo and what is meant are


def check_keys(given: Iterable[str]) -> None:
    """Raise a `UserError` that names every key of a command line's `--metadata` that no task of the pack looks up."""
    given = list(given)
    if fixed := [key for key in given if key in OWN_KEYS]:
        raise UserError(
            f"--metadata: {', '.join(fixed)} is fixed by each task's own file. Leave it out, or ask with another task."
        )
    if unknown := name_unknown(given, (*KEYS, *MODEL_KEYS)):
        raise UserError(f"--metadata has no key {', '.join(unknown)}. Its keys are {', '.join(KEYS)}.")


def check_typos(given: Iterable[str], task: str) -> None:
    """Raise a `UserError` where a key looks like a misspelt one; a model's arguments stand among them, whatever they are.

    >>> check_typos(["questions", "dtype", "gpu_memory_utilization"], "selfalign_probe")
    """
    known = (*KEYS, *MODEL_KEYS, *OWN_KEYS)
    for key in given:
        if key not in known and (near := get_close_matches(key, KEYS, 1, NEAR)):
            raise UserError(f"{task}: nothing looks up {key!r} in --metadata; {near[0]!r} is meant, it seems. Mend it.")
