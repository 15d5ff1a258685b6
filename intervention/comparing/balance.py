"""What the conditions of an instruction set differ in: a balance table, and standardised differences as clinical trials print.

A standardised difference is a difference in units of the pooled standard deviation, so that letters, confidence and lengths can
be put beside each other and no number of questions makes it larger (Austin 2009, Statistics in Medicine 28:3083). Above 0.1 it
is commonly called an imbalance.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from scipy.optimize import brentq
from scipy.stats import ncx2

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import LETTERS
from lm_eval_tasks.contracts.vocabulary import GENERAL

IMBALANCE = 0.1
MARK = "†"  # of what is above it
AGREEMENT = ("= belief", "= gold")  # what conditions are made to differ in
# A word is a run without blanks; Chinese and Japanese, which write none, are counted by the character.
WORD = r"[\p{Han}\p{Hiragana}\p{Katakana}]|[^\s\p{Han}\p{Hiragana}\p{Katakana}]+"
LETTER_COLUMNS = {"gold": "gold_letter", "says": "response_letter"}
_WORDS = ("prompt words", "response words", "explanation words")
MEASURES = ("confidence", *AGREEMENT, *LETTER_COLUMNS, *_WORDS, "explained", "contradicts", "domains")  # as they are shown
DIFFERENCE_SCHEMA = pl.Schema(
    {
        "condition": pl.String,
        "measure": pl.String,
        "value": pl.Float64,  # mean or share; null for "gold letters", "says letters" and "domains", which are several shares
        "reference_value": pl.Float64,
        "difference": pl.Float64,
        "smd": pl.Float64,  # null where the values differ and nothing varies within either condition
        "low": pl.Float64,  # of the 95% interval of smd; null where smd is, or where nothing varies
        "high": pl.Float64,
        "n": pl.Int64,  # rows that have the measure
        "n_reference": pl.Int64,
    }
)
_Z, _TAIL = 1.959964, 0.975
_ZERO = 1e-12


class Spread(NamedTuple):
    """One measure in one condition."""

    n: int
    mean: float
    variance: float  # of a share p it is p(1 - p)


Counts = Mapping[str, int]


class Summary(NamedTuple):
    """What is measured of one condition: far smaller than its rows, and enough for every table here."""

    questions: int
    general: int | None  # null where the rows do not say which are general instructions
    measures: dict[str, Spread | Counts]


Tables = Mapping[str, pl.DataFrame | Summary]


def describe_balance(tables: Tables) -> pl.DataFrame:
    """One row a condition: its size, and the mean or share of each measure; measures that no table has are left out.

    "= belief" and "= gold" are the shares of responses that say what the model believes and what is right; "gold A" and "says
    A" shares of the letters of gold and of the responses; "explained" the share of responses with an explanation, and
    "contradicts" the share of the explanations naming an answer that name another one than the response.

    Args:
        tables: name of a condition -> rows of an instruction set, with all of its columns or some of them; or what
            `summarise_rows` says of them, so that they are read once where both tables are wanted.

    >>> rows = pl.DataFrame({"gold_letter": ["A", "B"], "confidence": [0.6, 0.8]})
    >>> describe_balance({"harmonious": rows}).row(0, named=True)
    {'condition': 'harmonious', 'questions': 2, 'confidence': 0.7, 'gold A': 0.5, 'gold B': 0.5}
    """
    summaries = _summarise(tables)
    columns = [name for name in list_measures(summaries) if any(_get_value(s, name) is not None for s in summaries.values())]
    sizes = {"questions": pl.Int64} | ({"general": pl.Int64} if any(s.general is not None for s in summaries.values()) else {})
    rows = [
        (label, *(getattr(summary, name) for name in sizes), *(_get_value(summary, name) for name in columns))
        for label, summary in summaries.items()
    ]
    return pl.DataFrame(rows, {"condition": pl.String, **sizes, **dict.fromkeys(columns, pl.Float64)}, orient="row")


def measure_differences(tables: Tables, reference: str) -> pl.DataFrame:
    """Standardised differences of each condition from one of them: a row a condition and measure (`DIFFERENCE_SCHEMA`).

    Means: (m1 - m0) / sqrt((s1^2 + s0^2) / 2); shares likewise, with p(1 - p) as the variance (Austin 2009). Letters and
    domains as a whole ("gold letters", "says letters", "domains"): the Mahalanobis distance between the shares of all
    categories, 0 or more (Yang and Dalton 2012, SAS Global Forum 335). Intervals: d +- 1.96 sqrt((n1 + n0) / (n1 n0) + d^2 /
    (2 (n1 + n0))), also theirs; the lower end of a distance, which chance alone makes positive, inverts the noncentral
    chi-squared distribution instead. Rows count as independent, so that intervals are too wide for conditions of the same
    questions.

    Args:
        tables: as for `describe_balance`.
        reference: the condition with which the others are compared.

    Raises:
        UserError: the reference is none of the conditions, or a condition has no measure in common with it.
    """
    if reference not in tables:
        raise UserError(f"the reference {reference!r} is none of the conditions {', '.join(tables)}. Name one of these.")
    summaries = _summarise(tables)
    rows, names = [], list_measures(summaries)
    for label in (label for label in tables if label != reference):
        found = [_compare(summaries[label], summaries[reference], name) for name in names]
        if not any(found):
            raise UserError(
                f"{label} and {reference} have no measure in common: no column has values in both. Compare sets that "
                "`python -m intervention build` writes."
            )
        rows += [{"condition": label} | row for row in found if row]
    return pl.DataFrame(rows, schema=DIFFERENCE_SCHEMA, orient="row")


def tabulate_differences(differences: pl.DataFrame) -> pl.DataFrame:
    """Standardised differences as text for a card: a row a measure, a column a condition, those above 0.1 marked †.

    What conditions are made to differ in is left out, and so are single letters, of which "gold letters" and "says letters"
    are the sum.
    """
    shown = differences.filter(~pl.col("measure").is_in(AGREEMENT) & ~is_letter())
    texts = pl.Series("smd", map(write_smd, shown.iter_rows(named=True)), dtype=pl.String)
    table = shown.with_columns(texts).pivot("condition", index="measure", values="smd", maintain_order=True)
    return table.with_columns(pl.exclude("measure").fill_null(""))


def write_smd(row: Mapping[str, Any]) -> str:
    """A standardised difference as text: two digits, a sign unless it is a distance, † above 0.1.

    "n/a†" where neither condition varies, but they differ.

    >>> write_smd({"smd": 0.25, "value": 0.8}), write_smd({"smd": -0.02, "value": 0.5})
    ('+0.25†', '−0.02')
    """
    if (smd := row["smd"]) is None:
        return f"n/a{MARK}"
    digits = f"{abs(smd):.2f}"
    sign = "" if row["value"] is None or digits == "0.00" else "+" if smd > 0 else "−"
    return f"{sign}{digits}{MARK if abs(smd) > IMBALANCE else ''}"


def is_letter() -> pl.Expr:
    """Whether a measure is the share of one letter."""
    return pl.col("measure").str.contains(rf"^(gold|says) [{LETTERS}]$")


# --- what is measured


def summarise_rows(table: pl.DataFrame) -> Summary:
    """The measures that a table's columns allow: mean and variance of numbers and shares, counts of letters and domains."""
    own, have = table.filter(pl.col("condition") != GENERAL) if "condition" in table.columns else table, set(table.columns)
    wanted = {
        "confidence": ("confidence", pl.col("confidence")),
        "= belief": ("agrees_with_belief", pl.col("agrees_with_belief")),
        "= gold": ("agrees_with_gold", pl.col("agrees_with_gold")),
        "prompt words": ("prompt", _count_words("prompt")),
        "response words": ("completion", _count_words("completion")),
        "explained": ("explanation_from", pl.col("explanation_from").is_not_null()),
        "contradicts": ("contradicts", pl.col("contradicts")),
    }
    columns = {name: expression for name, (needs, expression) in wanted.items() if needs in have}
    if {"completion", "explanation_from"} <= have:
        columns["explanation words"] = pl.when(pl.col("explanation_from").is_not_null()).then(_count_explanation())
    values = own.select(expression.alias(name) for name, expression in columns.items())
    measures: dict[str, Spread | Counts] = {c.name: _measure_spread(c) for c in values if c.count()}
    for name, column in (*LETTER_COLUMNS.items(), ("domains", "domain")):
        if column in have and own[column].count():
            measures[name] = dict(own.group_by(column).len().drop_nulls().sort(column).rows())
    return Summary(own.height, table.height - own.height if "condition" in have else None, measures)


def _summarise(tables: Tables) -> dict[str, Summary]:
    return {name: table if isinstance(table, Summary) else summarise_rows(table) for name, table in tables.items()}


def _measure_spread(values: pl.Series) -> Spread:
    n, mean = values.count(), float(values.mean())
    variance = mean * (1 - mean) if values.dtype == pl.Boolean else values.var()
    return Spread(n, mean, math.nan if variance is None else float(variance))


def _read_content() -> pl.Expr:
    return pl.element().struct.field("content")


def _count_words(column: str) -> pl.Expr:
    """Words of all messages of a conversation."""
    return pl.col(column).list.eval(_read_content().str.count_matches(WORD)).list.sum()


def _count_explanation() -> pl.Expr:
    """Words after the blank line that ends the answer."""
    parts = pl.col("completion").list.eval(_read_content().str.splitn("\n\n", 2).struct.field("field_1"))
    return parts.list.eval(pl.element().str.count_matches(WORD)).list.sum()


def list_measures(summaries: Mapping[str, Summary]) -> list[str]:
    """The measures that some condition has, in the order in which they are shown."""
    measures = [summary.measures for summary in summaries.values()]
    counts = [found[name] for found in measures for name in LETTER_COLUMNS if name in found]
    last = max((LETTERS.index(letter) for letters in counts for letter in letters), default=-1)
    letters = {name: [f"{name} letters", *(f"{name} {letter}" for letter in LETTERS[: last + 1])] for name in LETTER_COLUMNS}
    domains = {domain for found in measures for domain in found.get("domains", ())}
    have = {name for found in measures for name in found}
    names: list[str] = []
    for name in MEASURES:
        shown = name in have and (name != "domains" or len(domains) > 1)
        names += letters.get(name, [name]) if shown else []
    return names


# --- how far apart two conditions are


def get_spread(summary: Summary, name: str) -> Spread | Counts | None:
    """What a summary says of a measure, a single letter's share among them."""
    kind, _, letter = name.partition(" ")
    if kind not in LETTER_COLUMNS or (counts := summary.measures.get(kind)) is None:
        return summary.measures.get(name)
    if letter == "letters":
        return counts
    n = sum(counts.values())
    share = counts.get(letter, 0) / n
    return Spread(n, share, share * (1 - share))


def _get_value(summary: Summary, name: str) -> float | None:
    spread = get_spread(summary, name)
    return spread.mean if isinstance(spread, Spread) else None


def _compare(own: Summary, reference: Summary, name: str) -> dict[str, float | str | None] | None:
    """A row of differences without its condition; None where one of the two has no such measure."""
    one, other = get_spread(own, name), get_spread(reference, name)
    if one is None or other is None:
        return None
    if isinstance(one, Spread):
        n, n_reference = one.n, other.n
        values = {"value": one.mean, "reference_value": other.mean, "difference": one.mean - other.mean}
        smd, varies, low = _standardise(one, other), one.variance + other.variance > _ZERO, None
    else:
        n, n_reference = sum(one.values()), sum(other.values())
        values = {}
        smd, rank = measure_distance(one, other)
        varies, low = rank > 0, None if smd is None else _find_low(smd, rank, n, n_reference)
    row = {"measure": name, **values, "smd": smd, "n": n, "n_reference": n_reference}
    if smd is None or not varies:
        return row
    reach = _Z * math.sqrt((n + n_reference) / (n * n_reference) + smd**2 / (2 * (n + n_reference)))
    return row | {"low": smd - reach if low is None else low, "high": smd + reach}


def _standardise(one: Spread, other: Spread) -> float | None:
    difference, variance = one.mean - other.mean, (one.variance + other.variance) / 2
    if abs(difference) < _ZERO:  # such as the same rows in another order
        return 0.0
    return difference / math.sqrt(variance) if variance > _ZERO else None  # None too where one row has no variance


def measure_distance(one: Counts, other: Counts) -> tuple[float | None, int]:
    """The standardised distance between the shares of categories, and its degrees of freedom (Yang and Dalton 2012).

    All categories are kept and the pseudo-inverse taken, which is the same as leaving any one of them out.

    Args:
        one: rows a category.
        other: the same of the reference.

    Returns:
        The distance, None where the shares differ in a direction in which neither varies (such as all A against all B).
    """
    names = sorted(set(one) | set(other))
    p, q = (_list_shares(counts, names) for counts in (one, other))
    covariance = sum(np.diag(shares) - np.outer(shares, shares) for shares in (p, q)) / 2
    values, vectors = np.linalg.eigh(covariance)
    varies = values > _ZERO
    moved = vectors.T @ (p - q)
    if np.abs(moved[~varies]).max(initial=0) > 1e-9:
        return None, int(varies.sum())
    return math.sqrt((moved[varies] ** 2 / values[varies]).sum()), int(varies.sum())


def _list_shares(counts: Counts, names: Sequence[str]) -> np.ndarray:
    found = np.array([counts.get(name, 0) for name in names], dtype=float)
    return found / found.sum()


def _find_low(distance: float, rank: int, n: int, n_reference: int) -> float:
    """The smallest true distance of which a larger one than this is seen in 2.5% of samples; 0 where chance suffices."""
    size = n * n_reference / (n + n_reference)
    seen = size * distance**2
    if rank == 0 or ncx2.cdf(seen, rank, 0) <= _TAIL:
        return 0.0
    return math.sqrt(brentq(lambda noncentral: ncx2.cdf(seen, rank, noncentral) - _TAIL, 0, seen) / size)
