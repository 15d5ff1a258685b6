"""The study file: which settings there are, of which form, and everything that is wrong with them said at once."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.names import find_repeated, name_unknown
from lm_eval_tasks.contracts.vocabulary import CONDITIONS
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


def _is_list(value: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and bool(value) and all(map(fits, value))


TEXT = Setting("text", _is_text)
OPTION = TEXT._replace(needed=False)
TEXTS = Setting("a list of texts", lambda value: _is_list(value, _is_text))
SETTINGS = {
    "output": TEXT,
    "world": OPTION,
    "questions": TEXT,
    "general": TEXT,
    "contexts": OPTION,
    "models": Setting("a mapping of names to models", lambda value: isinstance(value, dict) and bool(value)),
    "domains": TEXTS,
    "conditions": TEXTS,
    "seeds": Setting("a list of whole numbers", lambda value: _is_list(value, _is_whole)),
    "tasks": Setting("a mapping with probe and chat", lambda value: isinstance(value, dict)),
    "threshold": Setting("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1),
    "size": Setting("a whole number from 1 on", lambda value: _is_whole(value, 1), needed=False),
    "general_share": Setting("a number from 0 on", lambda value: _is_number(value) and value >= 0),
    "match": OPTION,
}
MODEL = {"base": TEXT, "training": TEXT, "accelerate": TEXT, "lm_eval": TEXT}
TASKS = {"probe": TEXT, "chat": TEXT}


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
    missing = [name for name, setting in SETTINGS.items() if setting.needed and name not in study]
    problems = [f"lacks {', '.join(missing)}"] if missing else []
    problems = [*_check(study, SETTINGS, ""), *problems]
    models = study.get("models")
    for name, model in models.items() if isinstance(models, dict) else ():
        problems += _check_whole(model, MODEL, f"models.{name}")
    if isinstance(study.get("tasks"), dict):
        problems += _check_whole(study["tasks"], TASKS, "tasks")
    for name in ("domains", "conditions", "seeds"):
        if isinstance(study.get(name), list) and (repeated := find_repeated(study[name])):
            problems.append(f"names {', '.join(map(str, repeated))} several times in {name}")
    return problems + (_check_conditions(study) if SETTINGS["conditions"].fits(study.get("conditions")) else [])


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
    missing = [f"{where}.{name}" for name in known if name not in settings]
    return _check(settings, known, where) + ([f"lacks {', '.join(missing)}"] if missing else [])


def _check_conditions(study: Mapping[str, Any]) -> list[str]:
    """Conditions are named as their configs are, a mix with its ratio; contexts come with the condition that takes them."""
    problems, names = [], study["conditions"]
    plain = [name for name in names if not name.startswith("mix-")]
    if "mix" in plain:
        problems.append("names the condition mix without its ratio (write mix-0.4)")
    problems += [f"names the condition {name}" for name in name_unknown(plain, CONDITIONS)]
    for name in set(names) - set(plain):
        try:
            fits = 0 <= float(name.removeprefix("mix-")) <= 1
        except ValueError:
            fits = False
        if not fits:
            problems.append(f"names the condition {name}, whose ratio is no number from 0 to 1")
    told = [name for name in plain if name in CONDITIONS and CONDITIONS[name].with_context]
    if told and "contexts" not in study:
        problems.append(f"names the condition {told[0]} and no contexts, which it needs")
    if "contexts" in study and not told and "world" not in study:  # a world makes its contexts in any case
        problems.append("names contexts and no condition that takes them (contextualized)")
    return problems
