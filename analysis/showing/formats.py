"""Numbers as readers see them in tables and sentences."""

from collections.abc import Mapping
from typing import Any

from analysis.measures.differences import is_found, limit_difference

DASH = "–"
DETECTABLE = (
    "Detectable: where p (Holm) is not significant, the smallest true difference that this design finds in 80% of repetitions, "
    "after correction; what is not known of the spread among few seeds is counted in. None: none that is possible."
)


def format_number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """A number for readers: fixed digits, a true minus sign, a dash where there is none.

    >>> format_number(-0.25), format_number(0.1234, 2, sign=True), format_number(None)
    ('−0.250', '+0.12', '–')
    """
    if value is None or value != value:
        return DASH
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text.replace("-", "−")


def format_interval(row: Mapping[str, Any], low: str = "low", high: str = "high", digits: int = 3, sign: bool = False) -> str:
    """An interval for readers, in brackets.

    >>> format_interval({"low": -0.1, "high": 0.25}, digits=2)
    '[−0.10, 0.25]'
    """
    return f"[{format_number(row[low], digits, sign)}, {format_number(row[high], digits, sign)}]"


def format_mean(row: Mapping[str, Any]) -> str:
    """A mean with its interval.

    >>> format_mean({"value": 0.2, "low": 0.1, "high": 0.3})
    '0.200 [0.100, 0.300]'
    """
    return f"{format_number(row['value'])} {format_interval(row)}"


def format_seeds(row: Mapping[str, Any]) -> str:
    """What single seeds gave: both of two, the least and the greatest of more; a dash where there is one.

    >>> format_seeds({"seeds": 2, "least": 0.5, "greatest": 0.75}), format_seeds({"seeds": 5, "least": 0.5, "greatest": 0.75})
    ('0.500, 0.750', '0.500 to 0.750')
    """
    if row["seeds"] < 2:
        return DASH
    return (", " if row["seeds"] == 2 else " to ").join(format_number(row[name]) for name in ("least", "greatest"))


def format_tail(row: Mapping[str, Any]) -> str:
    """What a mean hides, in brackets with a space before; nothing where a metric has a greatest value.

    >>> format_tail({"median": 0.5, "trimmed": 0.625, "infinite": 3, "all": 200})
    ' (median 0.500, trimmed 0.625, 1.5% infinite)'
    """
    if row["median"] is None:
        return ""
    infinite = f", {row['infinite'] / row['all']:.1%} infinite" if row["infinite"] else ""
    return f" (median {format_number(row['median'])}, trimmed {format_number(row['trimmed'])}{infinite})"


def format_p(p: float | None) -> str:
    """A p-value for readers.

    >>> format_p(0.0004), format_p(0.04)
    ('<0.001', '0.040')
    """
    return DASH if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def format_detectable(row: Mapping[str, Any]) -> str:
    """The smallest difference that a design finds, where it found none; "none" where it finds none that is possible."""
    if is_found(row):
        return DASH
    if row["mde"] is not None and row["mde"] > limit_difference(row["metric"]):
        return "none"
    return format_number(row["mde"])


def format_count(seeds: int) -> str:
    """A number of seeds; none for the base model, which has no seed."""
    return str(seeds) if seeds else DASH


def format_sizes(row: Mapping[str, Any]) -> str:
    """The numbers of questions on both sides of a contrast, once where they are the same."""
    return f"{row['n']:,}" if row["n"] == row["n_reference"] else f"{row['n']:,} / {row['n_reference']:,}"
