"""A table as LaTeX (booktabs), whatever its text holds, that fits a page of the class article."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from analysis.showing.tables import Table

_ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "%": r"\%", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "`": r"\textasciigrave{}",
    "−": "$-$", "–": "--", "→": r"$\rightarrow$", "≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$", "…": r"\dots{}",
    "α": r"$\alpha$", "β": r"$\beta$", "κ": r"$\kappa$", "ρ": r"$\rho$", "τ": r"$\tau$", "χ": r"$\chi$", "Δ": r"$\Delta$",
}  # fmt: skip
_SPECIAL = re.compile("-(?=-)|[" + re.escape("".join(_ESCAPES)) + "]")
# What pdfLaTeX's usual fonts have beyond ASCII: most of Latin-1.
_USUAL = {chr(i) for i in range(0xA0, 0x100)} - set("«»ÐÞðþ")
# At most how wide characters are in Computer Modern Roman, in ems of its size of 10 points; all others: an em.
_CHARACTERS = {
    0.28: "ijl.,:;'!|[]", 0.34: " f-", 0.4: "Irst()", 0.45: "cez", 0.5: "0123456789ago/*–", 0.56: "bdhknpquvxy_",
    0.8: "ABCDEFGHJKLNOPQRSTUVXYZ+−=<>",
}  # fmt: skip
_WIDTHS = {c: width for width, some in _CHARACTERS.items() for c in some}


class Layout(NamedTuple):
    """One way to set a table, in points of the class article at 10 points; `em` is what an em of `_WIDTHS` becomes."""

    landscape: bool
    size: str
    em: float
    gap: float  # half of what lies between two columns


LAYOUTS = (  # first what is read most easily
    Layout(False, "footnotesize", 8.5, 4),
    Layout(False, "scriptsize", 8, 2),
    Layout(True, "footnotesize", 8.5, 4),
    Layout(True, "scriptsize", 8, 2),
    Layout(True, "tiny", 6.9, 2),
)
TEXT_POINTS = {
    False: 342,
    True: 545,
}  # a page's text, upright and in landscape, less a rest for what is not measured
FLOAT_ROWS = 30  # that fit on a page below a long caption
NARROW = 7  # ems below which a column of broken lines is hard to read
LONG_WORD = 15  # ems above which a word in a caption may be broken anywhere


class Parts(NamedTuple):
    """What a table is made of, in LaTeX."""

    caption: str
    size: list[str]
    columns: str
    head: list[str]  # with its rules
    rows: list[str]


def escape_latex(text: str) -> str:
    r"""Text that LaTeX shows as it is, on one line; control characters are left out.

    >>> print(escape_latex("50% of a_b"))
    50\% of a\_b
    """
    return _SPECIAL.sub(lambda found: _ESCAPES.get(found[0], "-{}"), _clean(text))  # else two hyphens become a dash


def write_latex(table: Table) -> str:
    """A table as LaTeX that needs the package booktabs; its label is `tab:` and the table's name.

    It fits a page of the class article at 10 points. A short and narrow table floats. A long one breaks over pages (package
    longtable), one that is too wide for small letters stands in landscape (pdflscape), and where that is not enough the
    widest columns break their lines. A comment on top says what is needed beyond booktabs, and where names hold letters that
    pdfLaTeX's usual fonts lack, what to compile it with.
    """
    layout, widths = choose_layout(table)
    kinds = ["l" if i < table.left else "r" for i in range(len(table.header))]
    columns = "".join(k if width is None else f"p{{{width * layout.em:.0f}pt}}" for k, width in zip(kinds, widths, strict=True))
    label = re.sub(r"[^\w.-]+", "-", table.name, flags=re.ASCII)
    caption = _break_words(f"{table.title}. {table.note}".strip(), LONG_WORD)
    parts = Parts(
        caption=rf"\caption{{{caption}}}\label{{tab:{label}}}",
        size=[rf"\{layout.size}", rf"\setlength{{\tabcolsep}}{{{layout.gap}pt}}"],
        columns=f"{{@{{}}{columns}@{{}}}}",
        head=[r"\toprule", *(_write_row(map(escape_latex, line)) for line in stack_header(table, widths)), r"\midrule"],
        rows=_write_rows(table, kinds, widths),
    )
    if len(table.rows) <= FLOAT_ROWS and not layout.landscape and not any(widths):
        lines = _write_float(parts)
    else:
        lines = _write_long(parts, len(kinds), layout.landscape)
    if not all(c.isascii() or c in _USUAL for line in lines for c in line):
        lines.insert(0, "% Holds letters that pdfLaTeX's usual fonts lack: compile with LuaLaTeX or XeLaTeX.")
    return "\n".join(lines) + "\n"


def _write_rows(table: Table, kinds: list[str], widths: list[float | None]) -> list[str]:
    """The rows of the body, with lines that may break in the columns that have a width."""
    starts = [r"\raggedright " if kind == "l" else r"\raggedleft " for kind in kinds]
    starts[-1] = starts[-1].strip() + r"\let\\\tabularnewline "  # ragged lines take the end of a row for their own
    return [
        _write_row(
            escape_latex(cell) if width is None else start + _break_words(cell, width)
            for cell, start, width in zip(row, starts, widths, strict=True)
        )
        for row in table.rows
    ]


def _write_float(parts: Parts) -> list[str]:
    body = [rf"\begin{{tabular}}{parts.columns}", *parts.head, *parts.rows, r"\bottomrule", r"\end{tabular}"]
    return [r"\begin{table}", r"\centering", parts.caption, r"\medskip", *parts.size, *body, r"\end{table}"]


def _write_long(parts: Parts, columns: int, landscape: bool) -> list[str]:
    """A table that breaks over pages, each of which has the header."""
    again = rf"\multicolumn{{{columns}}}{{@{{}}l@{{}}}}{{\tablename~\thetable, continued}}\\"
    heads = [parts.caption + r"\\", *parts.head, r"\endfirsthead", again, *parts.head, r"\endhead", r"\bottomrule", r"\endfoot"]
    size = [*parts.size, r"\setlength{\LTcapwidth}{\linewidth}"]
    lines = ["{", *size, rf"\begin{{longtable}}{parts.columns}", *heads, *parts.rows, r"\end{longtable}", "}"]
    if not landscape:
        return ["% Needs the packages booktabs, longtable.", *lines]
    return ["% Needs the packages booktabs, longtable, pdflscape.", r"\begin{landscape}", *lines, r"\end{landscape}"]


def choose_layout(table: Table) -> tuple[Layout, list[float | None]]:
    """The first layout in which a table fits the page, and a width (ems) for each column whose lines must break for that."""
    natural = [max(_measure_body(table, i), _measure_words(name)) for i, name in enumerate(table.header)]
    limits = {a: _limit_widths(natural, (TEXT_POINTS[a.landscape] - 2 * a.gap * (len(natural) - 1)) / a.em) for a in LAYOUTS}
    widest = max(natural)
    whole = max([NARROW, *natural[table.left :]])  # numbers stay on their line while anything else helps
    tries = [(a, least) for side in (False, True) for least in (widest, whole) for a in LAYOUTS[:-1] if a.landscape == side]
    tries += [(a, least) for least in (widest, whole, NARROW) for a in LAYOUTS]
    layout = next((a for a, least in tries if limits[a] >= min(least, widest)), LAYOUTS[-1])
    return layout, [limits[layout] if width > limits[layout] else None for width in natural]


def _limit_widths(widths: list[float], room: float) -> float:
    """The greatest width at which all columns fit, when those that are wider are cut to it."""
    narrower = 0.0
    for done, width in enumerate(sorted(widths)):
        if narrower + width * (len(widths) - done) > room:
            return max((room - narrower) / (len(widths) - done), 1)
        narrower += width
    return room


def stack_header(table: Table, widths: list[float | None]) -> list[list[str]]:
    """The header as lines of cells that are no wider than what stands below them, where words allow it; the last is full."""
    columns = []
    for i, (name, width) in enumerate(zip(table.header, widths, strict=True)):
        room = width or max(_measure_body(table, i), _measure_words(name))
        lines = [""]
        for part in (part for word in name.split() for part in _cut_word(word, room)):
            longer = f"{lines[-1]} {part}".strip()
            lines = [*lines[:-1], longer] if measure_text(longer) <= room else [*lines, part]
        columns.append([line for line in lines if line])
    deep = max(map(len, columns))
    return [[column[i - deep + len(column)] if i >= deep - len(column) else "" for column in columns] for i in range(deep)]


def _measure_body(table: Table, column: int) -> float:
    return max((measure_text(row[column]) for row in table.rows), default=0)


def _measure_words(text: str) -> float:
    return max(map(measure_text, text.split()), default=0)


def measure_text(text: str) -> float:
    """About how wide a text is, in ems of Computer Modern Roman at 10 points; rather too wide than too narrow."""
    return sum(_WIDTHS.get(c, 1) for c in _clean(text))


def _clean(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "", re.sub(r"\s+", " ", text))


def _cut_word(word: str, width: float) -> list[str]:
    """A word in parts that are no wider than `width` (ems)."""
    parts, used = [""], 0.0
    for c in word:
        used += measure_text(c)
        if used > width and parts[-1]:
            parts.append("")
            used = measure_text(c)
        parts[-1] += c
    return parts


def _break_words(text: str, width: float) -> str:
    """Escaped text in which words that are wider than `width` (ems) may be broken."""
    return " ".join(r"\hspace{0pt}".join(map(escape_latex, _cut_word(word, width))) for word in _clean(text).split())


def _write_row(cells: Iterable[str]) -> str:
    r"""A row of escaped cells. What follows a rule or `\\` must not start with a bracket or a star, which these would take."""
    return re.sub(r"^(?=[\[*])", "{}", " & ".join(cells)) + r" \\"
