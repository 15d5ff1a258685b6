"""What is wrong with the texts that a model wrote about questions, counted: explanations of an answer, and contexts.

Small models answer a question that they are to write about, say one sentence over and over, or explain another choice than the
one that they were given. Which of the choices a text speaks of tells what no word like "answer" gives away.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from intervention.auditing.findings import add_shares, count_findings
from intervention.believing.asked import find_questions
from intervention.texts.statements import find_contradictions, find_leaks, find_letters, find_statements
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.generations import read_all, repeats_itself
from lm_eval_tasks.contracts.logs.requests import Kind
from lm_eval_tasks.contracts.prompts import EXPLANATION, KNOWLEDGE
from lm_eval_tasks.contracts.questions import check_rows, read_questions
from lm_eval_tasks.contracts.vocabulary import KEY

# What is found in texts of each kind: the column that marks it, and the column of those among which it is counted (all where
# None).
_ALL = {
    "empty": ("empty", None),
    "cut at the limit of tokens": ("cut", "told"),
    "repeats a sentence": ("repeats", None),
    "nothing but a choice": ("bare", None),
    "copies the prompt's demonstration": ("copied", None),
    "repeats the question": ("asked", None),
    "names a letter": ("letter", None),
}
COPIED_WORDS = 6  # so many words in a row that the demonstration has too are copied from it
WRITTEN: dict[Kind, dict[str, tuple[str, str | None]]] = {
    "explanation": _ALL
    | {"states another choice": ("contradicts", "states"), "names other choices and not its own": ("others", None)},
    "context": _ALL
    | {
        "gives the answer away": ("leaks", None),
        "names the answer and no other choice": ("only", None),
        "names other choices and not the answer": ("others", None),
    },
}


def list_named(text: str, choices: Sequence[str]) -> list[int]:
    """The indices of the choices whose text a text holds, as whole words; what is part of a longer choice does not count.

    >>> list_named("Wood holds lignin and alpha cellulose.", ["cellulose", "hemicellulose", "alpha cellulose", "lignin"])
    [2, 3]
    """
    rest, named = _flatten(text), []
    for i in sorted(range(len(choices)), key=lambda i: -len(choices[i])):
        words = re.escape(_flatten(choices[i]).rstrip(" .。"))
        rest, count = re.subn(rf"(?<!\w){words}(?!\w)", "\0", rest, flags=re.ASCII)
        named += [i] if count else []
    return sorted(named)


def find_written(log: str | Path, questions: str | Path) -> tuple[Kind, pl.DataFrame]:
    """What is wrong with the texts of a log.

    Args:
        log: a sample log of selfalign_explain or selfalign_context, JSON lines of texts, or a folder of either.
        questions: the question set that was asked.

    Returns:
        The kind of the texts, and one row a finding, domain and split (`FINDING_SCHEMA`).

    Raises:
        UserError: what `read_all` and `find_questions` find wrong, or an explanation of no choice.
    """
    kind, texts = read_all(log)
    if kind not in WRITTEN:
        raise UserError(f"{log} holds {kind} of instruction data; `requests own --claims` reads them, and says what is none.")
    table = read_questions(questions)
    find_questions(table, texts, questions, log, "texts")
    texts = texts.join(table.select(*KEY, "split", "question", "choices", "answer"), on=KEY, how="left", maintain_order="left")
    about = pl.col("response" if kind == "explanation" else "answer")
    strange = about.is_null() | (about < 0) | (about >= pl.col("choices").list.len())
    check_rows(texts, strange, "response", "is not the 0-based index of a choice of the question; mend it", log)
    marked = _mark(texts.with_columns(_about=about))
    counts = [count_findings(marked, name, column, among) for name, (column, among) in WRITTEN[kind].items()]
    return kind, add_shares(pl.concat(counts).filter(pl.col("of") > 0))


def _mark(texts: pl.DataFrame) -> pl.DataFrame:
    """The columns of `WRITTEN`, and `told` and `states`, among which some are counted. Texts are about the choice `_about`."""
    found = [_read(*row) for row in texts.select("text", "question", "choices", "_about").rows()]
    return texts.hstack(pl.DataFrame(found)).with_columns(
        find_letters(texts, "text").alias("letter"),
        find_leaks(texts, "text", "_about").alias("leaks"),
        find_contradictions(texts, "text", "_about").fill_null(False).alias("contradicts"),
        find_statements(texts, "text")["states"].is_not_null().alias("states"),
        empty=pl.col("text") == "",
        told=pl.col("finished").is_not_null(),
        cut=~pl.col("finished").fill_null(True),
    )


def _read(text: str, question: str, choices: Sequence[str], about: int) -> dict[str, bool]:
    named, shown = list_named(text, choices), _list_runs(f"{EXPLANATION}\n{KNOWLEDGE}")
    return {
        "repeats": repeats_itself(text),
        "bare": any(_keep_letters(text) == _keep_letters(choices[i]) for i in named),
        "copied": bool(_list_runs(text) & shown),
        "asked": _keep_letters(question) in _keep_letters(text),
        "only": named == [about],
        "others": bool(named) and about not in named,
    }


def _flatten(text: str) -> str:
    return " ".join(text.casefold().split())


def _keep_letters(text: str) -> str:
    """A text without what is no letter or digit: blanks to be filled, stops, quotes."""
    return re.sub(r"[\W_]", "", text.casefold())


def _list_runs(text: str) -> set[tuple[str, ...]]:
    """The runs of `COPIED_WORDS` words in a text."""
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[i : i + COPIED_WORDS]) for i in range(len(words) - COPIED_WORDS + 1)}
