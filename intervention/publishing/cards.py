"""The text of a data set's card, and what its header tells the Hub."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from intervention.publishing.licences import Terms, describe_licence, find_languages, note_clashes
from lm_eval_tasks.contracts.logs.probe_table import CLOZE
from lm_eval_tasks.contracts.logs.rescoring import find_score
from lm_eval_tasks.contracts.markdown import Markdown, escape_text, make_environment
from lm_eval_tasks.contracts.rules import find_rule
from lm_eval_tasks.contracts.vocabulary import ANSWERS, CONDITIONS, QUESTIONS, SCORES

# What the Hub's search goes by (https://github.com/huggingface/hub-docs/blob/main/datasetcard.md).
_QUESTIONS = {"task_categories": ["multiple-choice", "question-answering"], "tags": ["selfalign", "knowledge"]}
_INSTRUCTIONS = {"task_categories": ["text-generation"], "tags": ["selfalign", "knowledge", "instruction-tuning"]}
_FREE_FORM = _QUESTIONS | {"task_categories": ["question-answering"]}
_KINDS = {
    "questions.md.j2": _QUESTIONS,
    "free_form.md.j2": _FREE_FORM,
    "instructions.md.j2": _INSTRUCTIONS,
    "released.md.j2": _INSTRUCTIONS,
    "agreement.md.j2": _INSTRUCTIONS,
}
OPTIONS = ("belief_rule", "score", "size", "general_share", "match", "explanations", "response_format")
OPTIONS += ("allow_missing", "drop_contradictions", "keep_moved")  # those of `build` that stand in its configuration
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


def describe_set(template: str, rows: int, licence: str | None, terms: Sequence[Terms]) -> dict[str, Any]:
    """The header's lines about licence, language, task and size."""
    header: dict[str, Any] = describe_licence(licence) if licence else {}
    header |= {"language": languages} if (languages := find_languages(terms)) else {}
    header |= {name: list(values) for name, values in _KINDS.get(template, {}).items()}
    return header | {"size_categories": [next((name for limit, name in _SIZES if rows < limit), "n>10M")]}


def render_card(template: str, shown: Mapping[str, Any]) -> str:
    """The text of a card.

    Args:
        template: a file of `templates/`.
        shown: what it shows. They are text, neither markdown nor HTML nor templates, unless they are `Markdown`.
    """
    return _CARDS.get_template(template).render(shown)


def write_command(config: Mapping[str, Any], inputs: Mapping[str, str], seed: int) -> Markdown:
    """The command that makes an instruction set with this configuration from these inputs, which it names by placeholders."""
    given = dict.fromkeys(name.rstrip("-0123456789").replace("_", "-") for name in inputs)
    given |= {"general": None} if config.get("general") else {}  # a data set of the Hub is no file, and has no hash
    labels = config["conditions"]
    names = dict.fromkeys(label.partition("-")[0] for label in labels)
    options = [("domain", config["domain"]), ("conditions", ",".join(names))]
    options += [("ratio", label.partition("-")[2]) for label in labels if label.startswith("mix-")]
    options += [(name, config[name]) for name in OPTIONS if config.get(name) not in (None, False)]
    words = [shlex.join([f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]) for name, value in options]
    files = " ".join(f"--{name} {name.upper()}" for name in given)
    lines = [f"python -m intervention build {files}", *words, f"--seed {seed} --output FOLDER"]
    return Markdown(" \\\n  ".join(lines))


def name_rule(config: Mapping[str, Any]) -> Markdown:
    """What a belief is by the rule of a set's configuration."""
    return Markdown(find_rule(config).sentence)


def name_score(config: Mapping[str, Any]) -> Markdown:
    """What probabilities are made of by the score of a set's configuration; empty where letters were scored."""
    return Markdown(SCORES[find_score(config)][1] if config.get("scoring") == CLOZE else "")


_CARDS = make_environment(
    Path(__file__).parent / "templates",
    escape_text,
    {"clashes": note_clashes, "command": write_command},
)
_CARDS.globals |= {
    "conditions": CONDITIONS,
    "words": {"questions": QUESTIONS, "answers": ANSWERS, "rule": name_rule, "score": name_score},
}
