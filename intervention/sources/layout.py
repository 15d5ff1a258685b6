"""How the columns of a file of one's own become those of the contract: the words of the command line, read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.free_form import FREE_FORM_SCHEMA
from lm_eval_tasks.contracts.questions import QUESTION_SCHEMA
from lm_eval_tasks.contracts.vocabulary import SPLITS

FILE_SCHEMA = pl.Schema(dict(QUESTION_SCHEMA) | {"split": pl.String})
FREE_FILE_SCHEMA = pl.Schema(dict(FREE_FORM_SCHEMA) | {"split": pl.String})
CONSTANT = ("source", "domain", "subject", "split")


@dataclass(frozen=True)
class Layout:
    """How the columns of a file become those of the contract."""

    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)  # the contract's -> the file's: several for choices
    constants: Mapping[str, str] = field(default_factory=dict)  # the contract's column -> its value in every row
    separator: str | None = None  # what stands between the choices, or the accepted answers, where they are one text
    answers: str | None = None  # a key of `FORMS`; inferred where None; of multiple-choice questions alone

    @property
    def plain(self) -> bool:
        """Whether the file has the contract's own columns and forms."""
        return not self.columns and self.separator is None and self.answers is None


def make_layout(
    columns: Sequence[str] = (),
    constants: Sequence[str] = (),
    split: str | None = None,
    separator: str | None = None,
    answers: str | None = None,
) -> Layout:
    r"""A layout from the words of the command line.

    Args:
        columns: `question=stem`, `choices=opa,opb,opc,opd`.
        constants: `domain=herbs`.
        split: the split of every question.
        separator: what stands between the choices or the accepted answers; `\n` and `\t` are a line break and a tab.
        answers: a key of `FORMS`.

    Raises:
        UserError: a word that is no `name=value`, a name that the contract has not, or one that is named twice.
    """
    known = list(dict.fromkeys([*FILE_SCHEMA, *FREE_FILE_SCHEMA]))
    mapped = {name: value.split(",") for name, value in _split_words("--column", columns, known).items()}
    if "answers" in mapped and (other := next((name for name in ("choices", "answer") if name in mapped), None)):
        raise UserError(
            f"--column answers= is for questions without choices, but --column {other}= is named too. Leave out one of them."
        )
    if several := [name for name, value in mapped.items() if name != "choices" and len(value) > 1]:
        raise UserError(f"--column {several[0]}={','.join(mapped[several[0]])}: only choices can come from several columns.")
    named = _split_words("--set", constants, CONSTANT)
    if split is not None:
        named |= {"split": split}
    if both := sorted(mapped.keys() & named.keys()):
        raise UserError(f"{both[0]!r} is mapped to a column and set to a value. Leave out one of them.")
    if named.get("split", SPLITS[0]) not in SPLITS:
        raise UserError(f"--split {named['split']} is none of {', '.join(SPLITS)}.")
    if separator is not None:
        separator = separator.replace("\\n", "\n").replace("\\t", "\t")
        if not separator:
            raise UserError(r"--separator is empty. Name what stands between the choices, such as '\n' or ' | '.")
    return Layout(mapped, named, separator, answers)


def _split_words(option: str, words: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not value or name not in names:
            raise UserError(f"{option} {word}: write NAME=VALUE, with one of the names {', '.join(names)}.")
        if name in found:
            raise UserError(f"{option} names {name!r} twice. Leave out one of them.")
        found[name] = value
    return found
