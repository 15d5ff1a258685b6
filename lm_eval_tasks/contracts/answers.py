"""Whether a text is an accepted answer, and which say the same: texts are compared without what does not change their meaning.

After the normalisation of SQuAD's evaluation (Rajpurkar et al. 2016, arXiv 1606.05250: case, articles, punctuation, white
space) and of TriviaQA's (Joshi et al. 2017, arXiv 1705.03551: also hyphens, and every alias of the answer), but:
signs that tell answers apart stay (C and C++, 20 and -20), an article counts only where a word follows it (Vitamin A), and
numbers and dates are read, so that "three" is "3", and "4 July 1776" is "July 4, 1776".
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

import polars as pl

from lm_eval_tasks.contracts.numbers import join_numbers

ARTICLES = ("a", "an", "the")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
    r"(?:uary|ruary|ch|il|e|y|ust|t|tember|ober|ember)?\.?"
)
_DAY = r"(?P<day>0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>\d{3,4})\b(?![.,]\d)"
_DATES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"\b{_DAY}\s+(?:of\s+)?{_MONTH},?\s+{_YEAR}",
        rf"\b{_MONTH}\s+{_DAY},?\s+{_YEAR}",
        r"(?<![\d-])(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})(?![\d-])",
    )
)
_DASHES = re.compile(r"[‐‑‒–—−]")
_RANGE = re.compile(r"(?<=\d)\s*-\s*(?=\d)")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!,?\d)")
_DECIMAL = re.compile(r"(?<![\d.])(\d*)\.(\d+)(?!\.?\d)")
_INITIALS = re.compile(r"\b(?:[^\W\d_]\.\s?)+(?:[^\W\d_]\.|(?<=\.)[^\W\d_]\b)")  # "U.S.", "u.s", "J. R. R."
_APOSTROPHES = re.compile(r"['‘’`´]")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
# A point or dash inside a number, a minus before one; any other sign.
_SIGN = re.compile(r"(?P<kept>(?<=\d)[.-](?=\d)|(?<!\S)-(?=\d))|[^\w\s]|_")


@lru_cache(2**16)
def normalise_answer(text: str) -> str:
    """A text as two answers are compared. Nothing is left only of a text without a letter, digit or sign.

    >>> normalise_answer("The Beatles") == normalise_answer("beatles!")
    True
    >>> [normalise_answer(text) for text in ("1,000", "3.0", "twenty-one", "two hundred and five", "3 million", "-20")]
    ['1000', '3', '21', '205', '3000000', '-20']
    >>> {normalise_answer(date) for date in ("4 July 1776", "July 4, 1776", "the 4th of July, 1776", "1776-07-04")}
    {'1776-07-04'}
    >>> [normalise_answer(text) for text in ("St. Louis", "U.S.", "J. R. R. Tolkien", "Vitamin A", "C++", "Jean-Paul")]
    ['st louis', 'us', 'jrr tolkien', 'vitamin a', 'c++', 'jean paul']
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    plain = _DASHES.sub("-", plain)
    for pattern in _DATES:
        plain = pattern.sub(_write_date, plain)
    plain = _RANGE.sub("-", plain)
    plain = _THOUSANDS.sub(lambda found: found[0].replace(",", ""), plain)
    plain = _DECIMAL.sub(_write_decimal, plain)
    plain = _INITIALS.sub(lambda found: re.sub(r"[.\s]", "", found[0]) + " ", plain)
    plain = _APOSTROPHES.sub("", plain).replace("&", " and ")
    words = _SIGN.sub(_keep_sign, plain).split()
    if not words:  # of punctuation alone
        return " ".join("".join(c for c in plain if unicodedata.category(c)[0] != "C" or c.isspace()).split())
    words = [word for word, following in zip(words, [*words[1:], None]) if word not in ARTICLES or following is None]
    return " ".join(join_numbers(words))


def is_accepted(text: str, answers: Iterable[str]) -> bool:
    """Whether a text is one of the accepted answers.

    >>> is_accepted("the 1,000 islands.", ["Thousand Islands", "1000 Islands"])
    True
    """
    own = normalise_answer(text)
    return any(own == normalise_answer(answer) for answer in answers)


def holds_answer(text: str, answer: str) -> bool:
    """Whether an answer stands in a text, word for word, as answers are compared. Marks of HTML in the text are passed over.

    >>> holds_answer("It is in <b>St. Louis</b>, Missouri.", "st louis"), holds_answer("Saint-Louisville", "Louis")
    (True, False)
    """
    own, plain = normalise_answer(_TAG.sub(" ", text)), normalise_answer(answer)
    return bool(plain) and f" {plain} " in f" {own} "


def name_groups(texts: pl.DataFrame, questions: pl.DataFrame, on: Sequence[str]) -> pl.DataFrame:
    """Tell which answers to a question say the same: those that are equal after normalisation, or are both accepted.

    Args:
        texts: a row an answer: `text`, and the columns `on`.
        questions: a row a question: `answers` (the accepted ones), and the columns `on`.
        on: what tells questions apart.

    Returns:
        `texts` in their order, then `plain` (as answers are compared), `gold` (whether the answer is accepted), and `group`:
        the same text for all answers to a question that say the same.

    >>> questions = pl.DataFrame({"id": ["1"], "answers": [["Rome", "Roma"]]})
    >>> texts = pl.DataFrame({"id": ["1"] * 4, "text": ["Roma", "the Rome", "Oslo!", ""]})
    >>> name_groups(texts, questions, ["id"]).select("gold", "group").rows()
    [(True, 'rome'), (True, 'rome'), (False, 'oslo'), (False, '')]
    """
    # The first accepted answer names the group of all of them: no text but an accepted one is equal to it.
    accepted = questions.select(*on, plain="answers", gold=True, group=_normalise(questions["answers"].list.first()))
    accepted = accepted.explode("plain")
    accepted = accepted.with_columns(plain=_normalise(accepted["plain"])).unique([*on, "plain"])
    texts = texts.with_columns(plain=_normalise(texts["text"]))
    texts = texts.join(accepted, on=[*on, "plain"], how="left", maintain_order="left")
    return texts.with_columns(pl.col("gold").fill_null(False), pl.col("group").fill_null(pl.col("plain")))


def _normalise(texts: pl.Series) -> pl.Series:
    """Each text as answers are compared, every different one once."""
    different = texts.unique()
    plain = pl.Series([normalise_answer(text) for text in different.to_list()], dtype=pl.String)
    return texts.replace_strict(different, plain, return_dtype=pl.String)


def merge_answers(answers: Iterable[str | None]) -> list[str]:
    """The answers that differ, each as it is written first; blank ones are left out.

    >>> merge_answers(["Sinclair Lewis", "sinclair lewis", " ", "Harry Sinclair Lewis"])
    ['Sinclair Lewis', 'Harry Sinclair Lewis']
    """
    found: dict[str, str] = {}
    for answer in answers:
        if answer is not None and (plain := normalise_answer(answer)):
            found.setdefault(plain, answer.strip())
    return list(found.values())


def _write_date(found: re.Match[str]) -> str:
    month, day = found["month"], int(found["day"])
    number = int(month) if month.isdigit() else _MONTHS.index(month) + 1
    if not (1 <= number <= 12 and 1 <= day <= 31):
        return found[0]
    return f" {int(found['year']):04d}-{number:02d}-{day:02d} "


def _write_decimal(found: re.Match[str]) -> str:
    """A number with a point, without the zeros at its end: 3 for 3.0, and 0.5 for .5."""
    part = found[2].rstrip("0")
    return f"{found[1] or 0}.{part}" if part else found[1] or "0"


def _keep_sign(found: re.Match[str]) -> str:
    """A sign that tells answers apart, and a space for any other."""
    sign = found[0]
    return sign if found["kept"] or sign in "#%" or unicodedata.category(sign)[0] in "SM" else " "
