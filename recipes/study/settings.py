"""The study file: which settings there are, of which form, and everything that is wrong with them said at once."""

import itertools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.names import find_repeated, name_unknown
from lm_eval_tasks.contracts.rules import read_rule
from lm_eval_tasks.contracts.vocabulary import CONDITIONS, MATCHED, REFERENCE, SCORES, read_primary, read_ratio
from recipes.yaml_files import read_yaml


class Setting(NamedTuple):
    """One setting: what it has to be, in words and as a test, and whether a study can do without it."""

    form: str
    fits: Callable[[Any], bool]
    needed: bool = True


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_rule(value: Any) -> bool:
    try:
        return _is_text(value) and bool(read_rule(value))
    except UserError:
        return False


def _spell_rules(values: list[Any]) -> list[Any]:
    """Values with belief rules in one spelling each, so that the same one is seen to be named twice."""
    return [str(read_rule(value)) if _is_rule(value) else value for value in values]


def _is_match(value: Any) -> bool:
    return _is_text(value) and (value == "none" or {*value.split("+")} <= {*MATCHED})


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
    return _is_text(value) or (
        isinstance(value, dict) and {*value} == {"base", "lm_eval"} and all(map(_is_text, value.values()))
    )


EXPLAINED = ("paper", "model")  # by the base model: its wrong beliefs alone (a bank's explanations are gold's), or gold too
TEXT = Setting("text", _is_text)
OPTION = TEXT._replace(needed=False)
TEXTS = Setting("a list of texts", lambda value: _is_list(value, _is_text))
SETTINGS = {
    "output": TEXT,
    "world": OPTION,
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
    "belief_rule": Setting("a belief rule, or a list of them", lambda value: _is_one_or_list(value, _is_rule), needed=False),
    "score": Setting(f"one of {', '.join(SCORES)}", lambda value: value in [*SCORES], needed=False),
    "size": Setting("a whole number from 1 on", lambda value: _is_whole(value, 1), needed=False),
    "general_share": Setting("a number from 0 on", lambda value: _is_number(value) and value >= 0),
    "match": Setting(
        f"none, or of {', '.join(MATCHED)} joined by +, or a list", lambda v: _is_one_or_list(v, _is_match), needed=False
    ),
    "learning_rate": Setting(
        "a number above 0 (as 5.0e-4), or a list",
        lambda v: _is_one_or_list(v, _is_positive),
        needed=False,
    ),
    "until_fit": Setting("a share up to 1, or a list, with false for all epochs", lambda v: _is_end(v, 1), needed=False),
    "until_loss": Setting("nats above 0, or a list, with false for all epochs", lambda v: _is_end(v, math.inf), needed=False),
    "token_mask_threshold": Setting(
        "a probability below 1, or a list, with false for no mask", lambda v: _is_end(v, math.nextafter(1, 0)), needed=False
    ),
    "kl_to_base": Setting("a number above 0, or a list, with false for none", lambda v: _is_end(v, math.inf), needed=False),
    "resources": Setting(
        "what train and ask take: a mapping of each to gpu, mem_mb and runtime (minutes)", _is_resources, needed=False
    ),
    "primary": OPTION,
}
# The settings of which a study may name several: each combination, an arm, is a grid of runs of its own.
ARMS = ("belief_rule", "match", "learning_rate", "until_fit", "until_loss", "token_mask_threshold", "kl_to_base")
KEPT_NAMES = ("world", "facts", "questions", "report", "logs", "benchmarks")  # folders beside those of models
LETTER_MATCHED = ("letter", "rotation")  # what can be matched only where letters are scored
MODEL = {"base": TEXT, "training": TEXT, "accelerate": TEXT, "lm_eval": TEXT}
# What a model may have of its own: its revision on the Hub, its question set, the domains it is trained on, the tasks that ask
# it, the score by which its answers are read (of letters the sum), more of lm-eval's --model_args, what its jobs take, and its
# arms (of texts no letters are matched).
OWN = {
    "revision": OPTION,
    "model_args": OPTION,
    "questions": OPTION,
    "domains": TEXTS._replace(needed=False),
    "tasks": Setting("a mapping with probe and chat", lambda value: isinstance(value, dict), needed=False),
    "score": SETTINGS["score"],
    "resources": SETTINGS["resources"],
    **{name: SETTINGS[name] for name in ARMS},
}
# Train questions, whose answers become beliefs, may be asked in another way than the rest: in every order of their choices.
TASKS = {"probe": TEXT, "chat": TEXT, "beliefs": OPTION}


def read_study(file: Path) -> dict[str, Any]:
    """A study file, with all that the workflow needs.

    Raises:
        UserError: no such file, no YAML mapping, or settings that are missing, unknown, of another form, or at odds.
    """
    study = read_yaml(file, "the study file")
    if problems := list_problems(study):
        raise UserError(f"{file} {'; it '.join(problems)}. See recipes/study/miniworld.yaml.")
    return study


def list_arms(study: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The arms of a study, or of a study with a model's own settings: the part of a path that names each, and its value of each
    of `ARMS` that is named.

    >>> [*list_arms({"learning_rate": [0.001, 0.01], "match": "letter"}).items()][1]
    ('/learning_rate-0.01', {'match': 'letter', 'learning_rate': 0.01})
    >>> list_arms({})
    {'': {}}
    """
    named = {name: study[name] if isinstance(study[name], list) else [study[name]] for name in ARMS if name in study}
    arms = [dict(zip(named, values, strict=True)) for values in itertools.product(*named.values())]
    return {name_arm({name: arm[name] for name in named if len(named[name]) > 1}): arm for arm in arms}


def name_arm(arm: Mapping[str, Any]) -> str:
    """What an arm's folders are called, below that of the domain: "/match-letter/until_fit-0.9", or nothing."""
    return "".join(f"/{name}-{'no' if value is False else str(value).replace(':', '-')}" for name, value in arm.items())


def list_problems(study: Mapping[str, Any]) -> list[str]:
    """All that is wrong with the settings of a study, as what "it" does.

    >>> list_problems({"output": 3, "thresold": 0.5})[:2]
    ["has no setting 'thresold' (is 'threshold' meant?)", 'has 3 for output, which is text']
    """
    models = study["models"] if isinstance(study.get("models"), dict) else {}
    own = {f" in models.{name}": model for name, model in models.items() if isinstance(model, dict)}
    asked = [where for where, model in own.items() if "questions" in model]  # questions of their own
    needed = [name for name, setting in SETTINGS.items() if setting.needed or (name == "questions" and not asked)]
    missing = [name for name in needed if name not in study]
    problems = [f"lacks {', '.join(missing)}"] if missing else []
    problems = [*_check(study, SETTINGS, ""), *problems]
    if asked and "questions" not in study:
        problems += [f"names no questions, neither for all nor{where}" for where in own if where not in asked]
    for name, model in models.items():
        if name in KEPT_NAMES:
            problems.append(f"has a model named {name}, which is a folder of the study's own")
        problems += _check_whole(model, MODEL | OWN, f"models.{name}")
        if isinstance(model, dict) and isinstance(model.get("tasks"), dict):
            problems += _check_whole(model["tasks"], TASKS, f"models.{name}.tasks")
        if isinstance(model, dict) and OWN["domains"].fits(model.get("domains")):
            unknown = [domain for domain in model["domains"] if domain not in (study.get("domains") or ())]
            problems += [f"names the domain {domain} in models.{name} and not in domains" for domain in unknown]
    if isinstance(study.get("tasks"), dict):
        problems += _check_whole(study["tasks"], TASKS, "tasks")
    problems += [line for where, settings in [("", study), *own.items()] for line in _check_repeated(settings, where)]
    # What all models share is said once.
    together = [_check_together(study, ""), *(_check_together(study | settings, where) for where, settings in own.items())]
    problems += together[0] or [line for lines in together[1:] for line in lines]
    if study.get("explanations") and study.get("free_form"):
        problems.append("has explanations of free-form questions, whose beliefs nobody explains yet (leave explanations out)")
    if study.get("general_share") and "general" not in study:
        problems.append("has a general_share and names no file of general instructions (general)")
    if SETTINGS["conditions"].fits(study.get("conditions")):
        problems += _check_conditions(study) + (_check_primary(study) if _is_text(study.get("primary")) else [])
    return problems


def _check_repeated(settings: Mapping[str, Any], where: str) -> list[str]:
    return [
        f"names {', '.join(map(str, repeated))} several times in {name}{where}"
        for name in ("domains", "conditions", "seeds", *ARMS)
        if isinstance(settings.get(name), list) and (repeated := find_repeated(_spell_rules(settings[name])))
    ]


def _check_together(settings: Mapping[str, Any], where: str) -> list[str]:
    """Settings that do not go together, of a study or of a model in it."""
    problems = []
    if all(name in settings and settings[name] is not False for name in ("until_fit", "until_loss")):
        problems.append(f"names until_fit and until_loss{where}, which are two ends of one run")
    if {"threshold", "belief_rule"} <= {*settings}:
        problems.append(f"names threshold and belief_rule{where}: write belief_rule: threshold:0.5 (or a list with it) alone")
    tasks, match = settings.get("tasks"), settings.get("match", "none")
    probe = tasks.get("probe") if isinstance(tasks, dict) else None
    if settings.get("free_form") and (not str(probe).endswith("_cloze") or settings.get("score") != "sum"):
        problems.append(
            f"asks free-form questions{where}, whose answers are scored as whole texts: name tasks that do "
            "({probe: selfalign_probe_cloze, chat: selfalign_chat_cloze}) and score: sum"
        )
    shown = [
        text
        for text in (match if isinstance(match, list) else [match])
        if _is_match(text) and {*text.split("+")} & {*LETTER_MATCHED}
    ]
    if shown and _is_text(probe) and probe.endswith("_cloze"):
        problems.append(
            f"matches {shown[0]}{where}, where {probe} shows no letters (match confidence or none; a model may have a "
            "match of its own)"
        )
    return problems


def _check(settings: Mapping[str, Any], known: Mapping[str, Setting], where: str) -> list[str]:
    problems = [f"has no setting {name}{f' in {where}' if where else ''}" for name in name_unknown(settings, known)]
    for name, value in settings.items():
        if name in known and not known[name].fits(value):
            path = f"{where}.{name}" if where else name
            problems.append(f"has {value!r} for {path}, which is {known[name].form}")
    return problems


def _check_whole(settings: Any, known: Mapping[str, Setting], where: str) -> list[str]:
    if not isinstance(settings, dict):
        return [f"has {settings!r} for {where}, which is a mapping with {', '.join(known)}"]
    missing = [f"{where}.{name}" for name, setting in known.items() if setting.needed and name not in settings]
    return _check(settings, known, where) + ([f"lacks {', '.join(missing)}"] if missing else [])


def _check_conditions(study: Mapping[str, Any]) -> list[str]:
    """Conditions are named as their configs are, a mix with its ratio; contexts come with the condition that takes them."""
    problems, names = [], study["conditions"]
    ratios = {name: _read_ratio(name) for name in names}
    plain = [name for name, ratio in ratios.items() if ratio is None]
    if "mix" in plain:
        problems.append("names the condition mix without its ratio (write mix-0.4)")
    problems += [f"names the condition {name}" for name in name_unknown(plain, CONDITIONS)]
    problems += [
        f"names the condition {name}, whose ratio is no number from 0 to 1"
        for name, ratio in ratios.items()
        if ratio is not None and not 0 <= ratio <= 1
    ]
    told = [name for name in plain if name in CONDITIONS and CONDITIONS[name].with_context]
    if told and "contexts" not in study:
        problems.append(f"names the condition {told[0]} and no contexts, which it needs")
    own = [name for name in plain if name in CONDITIONS and CONDITIONS[name].own_words]
    if own and study.get("explanations") == "model":
        problems.append(f"names the condition {own[0]} and explanations: model, by which all have the model's own words")
    if own and study.get("free_form"):
        problems.append(f"names the condition {own[0]} of free-form questions, which nobody explains yet (leave it out)")
    if "contexts" in study and not told and "world" not in study:  # a world makes its contexts in any case
        problems.append("names contexts and no condition that takes them (contextualized)")
    return problems


def _read_ratio(name: str) -> float | None:
    """The ratio of a mix, NaN where it is no number, None of another condition."""
    try:
        return read_ratio(name)
    except ValueError:
        return math.nan


def _check_primary(study: Mapping[str, Any]) -> list[str]:
    """The contrast that is named beforehand is one that the study makes."""
    try:
        primary = read_primary(study["primary"])
    except UserError as error:
        return [f"has a primary contrast that cannot be read: {str(error).rstrip('.')}"]
    needed = {primary.condition, REFERENCE.config} - {*study["conditions"]}
    if needed:
        return [f"names the primary contrast {study['primary']} and not the condition {' nor '.join(sorted(needed))}"]
    return []
