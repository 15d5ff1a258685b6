"""The right answer as files write it, an index, a number, a letter or the choice's text: read as asked, or inferred."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import LETTERS
from lm_eval_tasks.contracts.questions import MAX_CHOICES, MIN_CHOICES, check_rows

FORMS = {
    "index": "a whole number that counts the choices from 0",
    "number": "a whole number that counts the choices from 1",
    "letter": "the letter of a choice",
    "text": "the text of a choice",
}


def find_text(table: pl.DataFrame, text: str = "answer") -> pl.DataFrame:
    """Where a text stands among the choices of its row.

    Args:
        table: with the columns `choices` (lists of text) and `text`.
        text: the column.

    Returns:
        `position` (0-based, the first; null where it is no choice) and `times` (how many choices are that text).
    """
    same = (
        table.select("choices", text)
        .with_row_index("_row")
        .with_columns(_position=pl.int_ranges(0, pl.col("choices").list.len()))
        .explode("choices", "_position")
        .filter(pl.col("choices") == pl.col(text))
    )
    found = same.group_by("_row").agg(position=pl.col("_position").min(), times=pl.len())
    rows = table.select(pl.int_range(pl.len(), dtype=same.schema["_row"]).alias("_row"))
    found = rows.join(found, on="_row", how="left", maintain_order="left")
    return found.select(pl.col("position").cast(pl.Int64), pl.col("times").fill_null(0).cast(pl.Int64))


def read_answers(table: pl.DataFrame, form: str) -> pl.Series:
    """The 0-based index of the answer; null where `answer` (text) is not of the form, or is no choice of its row.

    Args:
        table: with the columns `choices` and `answer`.
        form: a key of `FORMS`.
    """
    if form == "text":
        return find_text(table)["position"].rename("answer")
    word = pl.col("answer").str.strip_chars()
    if form == "letter":
        letters = {letter: index for index, letter in enumerate(LETTERS[:MAX_CHOICES])}
        index = word.str.to_uppercase().replace_strict(letters, default=None, return_dtype=pl.Int64)
    else:
        digits = pl.when(word.str.contains(r"^\d{1,9}$")).then(word)
        index = digits.cast(pl.Int64) - (form == "number")
    within = (index >= 0) & (index < pl.col("choices").list.len())
    return table.select(answer=pl.when(within).then(index)).to_series()


def convert_answers(table: pl.DataFrame, form: str | None, where: str | Path) -> tuple[pl.Series, str, bool]:
    """The 0-based index of every answer.

    Args:
        table: with the columns `choices`, `answer` (text) and `id`.
        form: a key of `FORMS`; inferred where None, if the answers fit one form alone.
        where: the file, for errors.

    Returns:
        The answers, their form, and whether it was inferred.

    Raises:
        UserError: an answer is missing or not of the form, or the form cannot be told.
    """
    if form is not None and form not in FORMS:
        raise UserError(f"--answers {form} is none of {', '.join(FORMS)}.")
    check_rows(table, pl.col("answer").is_null(), "answer", "is missing; give it a value", where)
    if form is not None:
        return _check(table, read_answers(table, form), form, where), form, False
    found = {name: read_answers(table, name) for name in FORMS}
    fitting = [name for name, answers in found.items() if not answers.null_count()]
    if not fitting:
        likely = min(found, key=lambda name: found[name].null_count())
        return _check(table, found[likely], likely, where), likely, True
    # `A` can be the letter and the text of the same choice: what says the same is no other form. Digits are never taken so.
    digits = len(fitting) > 1 and {"index", "number"} & set(fitting)
    if digits or any(not found[name].equals(found[fitting[0]]) for name in fitting):
        raise UserError(_explain_forms(table, {name: found[name] for name in fitting}, where))
    return found[fitting[0]], fitting[0], True


def check_index(table: pl.DataFrame, where: str | Path) -> None:
    """Raise a `UserError` where answers that are numbers, and so indices by the contract, are none or may be texts as well.

    Args:
        table: with the columns `choices`, `answer` (whole numbers) and `id`.
        where: the file, for errors.
    """
    remedy = "is not the 0-based index of a choice; mend it, or say how answers are written: --answers number, letter or text"
    n = pl.col("choices").list.len()
    outside = (n >= MIN_CHOICES) & ((pl.col("answer") < 0) | (pl.col("answer") >= n))
    check_rows(table, outside, "answer", remedy, where)
    texts = table.with_columns(pl.col("answer").cast(pl.String))
    found = {"index": table["answer"], "text": read_answers(texts, "text")}
    if not found["text"].null_count() and not found["text"].equals(found["index"]):
        raise UserError(_explain_forms(texts, found, where))


def _explain_forms(table: pl.DataFrame, found: Mapping[str, pl.Series], where: str | Path) -> str:
    """The message where answers can be read in several forms, with the first row in which these differ."""
    names = list(found)
    differ = [row for row in range(table.height) if len({found[name][row] for name in names}) > 1]
    row = differ[0] if differ else 0
    choices = table["choices"][row].to_list()
    forms = "; or ".join(f"{name} ({FORMS[name]}): {choices[found[name][row]]!r}" for name in names)
    return (
        f"{where}: the answers are ambiguous. {table['answer'][row]!r} in row {row + 1}, among the choices "
        f"{', '.join(map(repr, choices))}, can be read as {forms}. Say which with --answers {' or --answers '.join(names)}."
    )


def _check(table: pl.DataFrame, answers: pl.Series, form: str, where: str | Path) -> pl.Series:
    right = len(answers) - answers.null_count()
    others = f"{right} of {len(answers)} answers are" if right else "no answer is"
    complaint = f"is not {FORMS[form]} of its row ({others}: --answers {form}); mend it, or name another form with --answers"
    check_rows(table.with_columns(_index=answers), pl.col("_index").is_null(), "answer", complaint, where)
    return answers
