"""Reading a study file: everything that is wrong with its settings is said at once."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.names import find_repeated, name_unknown
from lm_eval_tasks.contracts.rules import read_rule
from lm_eval_tasks.contracts.vocabulary import CONDITIONS, REFERENCE, read_primary, read_ratio
from recipes.study.settings import (
    ARMS,
    KEPT_NAMES,
    LETTER_MATCHED,
    MADE,
    MODEL,
    OPTION,
    OWN,
    SETTINGS,
    TASKS,
    Setting,
    is_match,
    is_rule,
    is_text,
)
from recipes.yaml_files import read_yaml


def read_study(file: Path) -> dict[str, Any]:
    """A study file, with all that the workflow needs.

    Raises:
        UserError: no such file, no YAML mapping, or settings that are missing, unknown, of another form, or at odds.
    """
    study = read_yaml(file, "the study file")
    if problems := list_problems(study):
        raise UserError(f"{file} {'; it '.join(problems)}. See recipes/study/miniworld.yaml.")
    return study


def list_problems(study: Mapping[str, Any]) -> list[str]:
    """All that is wrong with the settings of a study, as what "it" does.

    >>> list_problems({"output": 3, "thresold": 0.5})[:2]
    ["has no setting 'thresold' (is 'threshold' meant?)", 'has 3 for output, which is text']
    """
    models = study["models"] if isinstance(study.get("models"), dict) else {}
    own = {f" in models.{name}": model for name, model in models.items() if isinstance(model, dict)}
    asked = [where for where, model in own.items() if "questions" in model]  # questions of their own
    spread = "worlds" in study
    needed = [
        name for name, setting in SETTINGS.items() if setting.needed or (name == "questions" and not asked and not spread)
    ]
    missing = [name for name in needed if name not in study]
    problems = [f"lacks {', '.join(missing)}"] if missing else []
    problems = [*_check(study, SETTINGS, ""), *problems]
    if asked and "questions" not in study:
        problems += [f"names no questions, neither for all nor{where}" for where in own if where not in asked]
    for name, model in models.items():
        if name in KEPT_NAMES:
            problems.append(f"has a model named {name}, which is a folder of the study's own")
        problems += _check_whole(model, MODEL | OWN | ({"base": OPTION} if spread else {}), f"models.{name}")
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
    problems += _check_worlds(study, own) if spread else []
    share = study.get("general_share")
    if (any(share) if isinstance(share, list) else share) and "general" not in study and not spread:
        problems.append("has a general_share and names no file of general instructions (general)")
    if SETTINGS["conditions"].fits(study.get("conditions")):
        problems += _check_conditions(study) + (_check_primary(study) if is_text(study.get("primary")) else [])
    return problems


def _check_worlds(study: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Of each world the workflow makes questions, texts and bases, from what the study names."""
    problems = [] if "world" in study else ["names worlds and no world, of which they are"]
    if study.get("free_form"):
        problems.append("names worlds of free_form questions, which are asked in one world alone (leave worlds out)")
    for where, settings in [("", study), *own.items()]:
        problems += [f"names worlds, and {name}{where}, which each world brings" for name in MADE if name in settings]
    if "pretraining" not in study:
        lacking = [where for where, settings in own.items() if "pretraining" not in settings]
        problems += [f"names worlds, and no pretraining of a base{where}" for where in lacking]
    return problems


def _check_repeated(settings: Mapping[str, Any], where: str) -> list[str]:
    return [
        f"names {', '.join(map(str, repeated))} several times in {name}{where}"
        for name in ("domains", "conditions", "seeds", "worlds", *ARMS)
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
        if is_match(text) and {*text.split("+")} & {*LETTER_MATCHED}
    ]
    if shown and is_text(probe) and probe.endswith("_cloze"):
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
    if told and not {"contexts", "worlds"} & {*study}:
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


def _spell_rules(values: list[Any]) -> list[Any]:
    """Values with belief rules in one spelling each, so that the same one is seen to be named twice."""
    return [str(read_rule(value)) if is_rule(value) else value for value in values]
