"""The study file: which settings there are and of which form, and the arms that they make."""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.rules import read_rule
from lm_eval_tasks.contracts.vocabulary import MATCHED, SCORES


class Setting(NamedTuple):
    """One setting: what it has to be, in words and as a test, and whether a study can do without it."""

    form: str
    fits: Callable[[Any], bool]
    needed: bool = True


def is_text(value: Any) -> bool:
    """Whether it is text that is not blank."""
    return isinstance(value, str) and bool(value.strip())


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_rule(value: Any) -> bool:
    """Whether it is a belief rule as `contracts.rules` reads one."""
    try:
        return is_text(value) and bool(read_rule(value))
    except UserError:
        return False


def is_match(value: Any) -> bool:
    """Whether it says by what conditions are matched."""
    return is_text(value) and (value == "none" or {*value.split("+")} <= {*MATCHED})


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_one_or_list(value: Any, fits: Callable[[Any], bool]) -> bool:
    return _is_list(value, fits) if isinstance(value, list) else fits(value)


def _is_end(value: Any, most: float) -> bool:
    return _is_one_or_list(value, lambda end: end is False or (_is_positive(end) and end <= most))


def _is_list(value: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and bool(value) and all(map(fits, value))


def _is_resources(value: Any) -> bool:
    needs = value.values() if isinstance(value, dict) and {*value} <= {"train", "ask"} else [None]
    return all(isinstance(n, dict) and {*n} <= {"gpu", "mem_mb", "runtime"} and all(map(_is_whole, n.values())) for n in needs)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_contexts(value: Any) -> bool:
    return is_text(value) or (isinstance(value, dict) and {*value} == {"base", "lm_eval"} and all(map(is_text, value.values())))


EXPLAINED = ("paper", "model")  # by the base model: its wrong beliefs alone (a bank's explanations are gold's), or gold too
TEXT = Setting("text", is_text)
OPTION = TEXT._replace(needed=False)
TEXTS = Setting("a list of texts", lambda value: _is_list(value, is_text))
SETTINGS = {
    "output": TEXT,
    "world": OPTION,
    "worlds": Setting("a list of whole numbers, each the seed of a world", lambda v: _is_list(v, _is_whole), needed=False),
    "pretraining": OPTION,
    "questions": OPTION,
    "free_form": Setting("true or false: whether questions are free-form", _is_bool, needed=False),
    "general": OPTION,
    "explanations": Setting(f"one of {', '.join(EXPLAINED)}", lambda value: value in EXPLAINED, needed=False),
    "contexts": Setting("a file, or the model that writes them: a mapping with base and lm_eval", _is_contexts, needed=False),
    "models": Setting("a mapping of names to models", lambda value: isinstance(value, dict) and bool(value)),
    "domains": TEXTS,
    "conditions": TEXTS,
    "seeds": Setting("a list of whole numbers", lambda value: _is_list(value, _is_whole)),
    "seeds_together": Setting("true or false: whether one process trains the seeds of a condition", _is_bool, needed=False),
    "tasks": Setting("a mapping with probe and chat", lambda value: isinstance(value, dict)),
    "threshold": Setting("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1, needed=False),
    "belief_rule": Setting("a belief rule, or a list of them", lambda value: _is_one_or_list(value, is_rule), needed=False),
    "score": Setting(f"one of {', '.join(SCORES)}", lambda value: value in [*SCORES], needed=False),
    "size": Setting(
        "a whole number from 1 on, or a list", lambda v: _is_one_or_list(v, lambda n: _is_whole(n, 1)), needed=False
    ),
    "general_share": Setting("a number from 0 on, or a list", lambda v: _is_one_or_list(v, lambda n: _is_number(n) and n >= 0)),
    "match": Setting(
        f"none, or of {', '.join(MATCHED)} joined by +, or a list", lambda v: _is_one_or_list(v, is_match), needed=False
    ),
    "learning_rate": Setting(
        "a number above 0 (as 5.0e-4), or a list",
        lambda v: _is_one_or_list(v, _is_positive),
        needed=False,
    ),
    "num_train_epochs": Setting("a number above 0, or a list", lambda v: _is_one_or_list(v, _is_positive), needed=False),
    "until_fit": Setting("a share up to 1, or a list, with false for all epochs", lambda v: _is_end(v, 1), needed=False),
    "until_loss": Setting("nats above 0, or a list, with false for all epochs", lambda v: _is_end(v, math.inf), needed=False),
    "token_mask_threshold": Setting(
        "a probability below 1, or a list, with false for no mask", lambda v: _is_end(v, math.nextafter(1, 0)), needed=False
    ),
    "kl_to_base": Setting("a number above 0, or a list, with false for none", lambda v: _is_end(v, math.inf), needed=False),
    "one_at_a_time": Setting("true or false: whether an arm differs from the first in one setting", _is_bool, needed=False),
    "resources": Setting(
        "what train and ask take: a mapping of each to gpu, mem_mb and runtime (minutes)", _is_resources, needed=False
    ),
    "primary": OPTION,
}
# The settings of which a study may name several: each combination, an arm, is a grid of runs of its own; with `one_at_a_time`
# those combinations alone in which at most one value is not the first.
ARMS = ("belief_rule", "match", "size", "general_share", "learning_rate", "num_train_epochs", "until_fit", "until_loss")
ARMS += ("token_mask_threshold", "kl_to_base")
KEPT_NAMES = ("world", "worlds", "facts", "questions", "report", "logs", "benchmarks")  # folders beside those of models
LETTER_MATCHED = ("letter", "rotation")  # what can be matched only where letters are scored
MODEL = {"base": TEXT, "training": TEXT, "accelerate": TEXT, "lm_eval": TEXT}
MADE = ("base", "questions", "general", "contexts")  # by the workflow, of each of a study's worlds: they are not named then
# What a model may have of its own: its revision on the Hub, its question set, the domains it is trained on, the tasks that ask
# it, the score by which its answers are read (of letters the sum), more of lm-eval's --model_args, what its jobs take, and its
# arms (of texts no letters are matched).
OWN = {
    "revision": OPTION,
    "pretraining": OPTION,
    "model_args": OPTION,
    "questions": OPTION,
    "domains": TEXTS._replace(needed=False),
    "tasks": Setting("a mapping with probe and chat", lambda value: isinstance(value, dict), needed=False),
    "score": SETTINGS["score"],
    "resources": SETTINGS["resources"],
    **{name: SETTINGS[name]._replace(needed=False) for name in ARMS},
}
# Train questions, whose answers become beliefs, may be asked in another way than the rest: in every order of their choices.
TASKS = {"probe": TEXT, "chat": TEXT, "beliefs": OPTION}


def list_arms(study: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The arms of a study, or of a study with a model's own settings: the part of a path that names each, and its value of each
    of `ARMS` that is named.

    >>> [*list_arms({"learning_rate": [0.001, 0.01], "match": "letter"}).items()][1]
    ('/learning_rate-0.01', {'match': 'letter', 'learning_rate': 0.01})
    >>> [*list_arms({"one_at_a_time": True, "size": [64, 256], "learning_rate": [0.1, 0.2]})]
    ['/size-64/learning_rate-0.1', '/size-64/learning_rate-0.2', '/size-256/learning_rate-0.1']
    >>> list_arms({})
    {'': {}}
    """
    named = {name: study[name] if isinstance(study[name], list) else [study[name]] for name in ARMS if name in study}
    arms = [dict(zip(named, values, strict=True)) for values in itertools.product(*named.values())]
    if study.get("one_at_a_time"):
        arms = [arm for arm in arms if sum(arm[name] != named[name][0] for name in named) <= 1]
    return {name_arm({name: arm[name] for name in named if len(named[name]) > 1}): arm for arm in arms}


def name_arm(arm: Mapping[str, Any]) -> str:
    """What an arm's folders are called, below that of the domain: "/match-letter/until_fit-0.9", or nothing."""
    return "".join(f"/{name}-{'no' if value is False else str(value).replace(':', '-')}" for name, value in arm.items())
