"""Which model was asked which questions, and how: what probes and texts have to agree in before anything is made of them."""

from pathlib import Path

import numpy as np
import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import list_varying, name_question
from lm_eval_tasks.contracts.vocabulary import KEY


def check_single(probes: pl.DataFrame, where: str, noun: str = "probes") -> None:
    """Raise a `UserError` unless one base model was probed in one way; calls the rows `noun`."""
    if other := [phase for phase in probes["phase"].unique(maintain_order=True) if phase != "base_probe"]:
        raise UserError(
            f"{where}: these are {noun} of phase {other[0]!r}, but a belief comes from phase 'base_probe' (the base model, "
            "asked few-shot). Name only its logs."
        )
    check_one_model(probes, where, noun)


def check_one_model(probes: pl.DataFrame, where: str, noun: str = "probes") -> None:
    """Raise a `UserError` unless one model was asked in one way; answers in free words have no scoring."""
    told = {"model": "models", "run": "runs", "scoring": "ways of scoring"}
    for name, several in ((name, several) for name, several in told.items() if name in probes.columns):
        if len(values := probes[name].unique(maintain_order=True)) > 1:
            shown = " and ".join(map(repr, values[:2]))
            raise UserError(f"{where}: {noun} of {len(values)} {several}: {shown}. Name the logs of one.")


def find_questions(
    questions: pl.DataFrame, probes: pl.DataFrame, folder: str | Path, where: str | Path, noun: str = "probes"
) -> np.ndarray:
    """Which row of the question set each probe (or text, with its `question_hash` where that is known) is of, (n,).

    Raises:
        UserError: one is of a question that the question set lacks or has in another form; calls them `noun`.
    """
    own = questions.select(*KEY, question_hash_own="question_hash").with_row_index("_position")
    key = list_varying(pl.concat([questions.select(KEY), probes.select(KEY)]), KEY)
    found = probes.select(*KEY, "question_hash").join(own.drop(set(KEY) - {*key}), on=key, how="left", maintain_order="left")
    strangers = found.filter(pl.col("_position").is_null())
    if strangers.height:
        raise UserError(
            f"{where}: {strangers.height} of {probes.height} {noun} are of questions that {folder} does not have; the first is "
            f"{name_question(strangers.row(0, named=True))}. Name the question set that was asked."
        )
    changed = found.filter(pl.col("question_hash") != pl.col("question_hash_own"))
    if changed.height:
        first = name_question(changed.row(0, named=True))
        raise UserError(
            f"{where}: {first} was asked with another text, choices or answer than {folder} has (its question_hash "
            f"differs; so do {changed.height - 1} more). Ask again, or name the question set that was asked."
        )
    return found["_position"].to_numpy().astype(np.int64)
