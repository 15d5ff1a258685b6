"""A table as LaTeX (booktabs), whatever its text holds."""

import re

from analysis.tables import Table

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


def escape_latex(text: str) -> str:
    """Text that LaTeX shows as it is, on one line; control characters are left out."""
    text = re.sub(r"[\x00-\x1f\x7f-\x9f]", "", re.sub(r"\s+", " ", text))
    return _SPECIAL.sub(lambda found: _ESCAPES.get(found[0], "-{}"), text)  # else two hyphens become a dash


def write_latex(table: Table) -> str:
    """A table as a LaTeX float that needs the package booktabs; its label is `tab:` and the table's name.

    Names in data may hold letters that pdfLaTeX's usual fonts lack: a comment on top then says what to compile it with.
    """
    columns = "l" * table.left + "r" * (len(table.header) - table.left)
    header, *rows = (_write_row(row) for row in (table.header, *table.rows))
    caption = escape_latex(f"{table.title}. {table.note}".strip())
    label = re.sub(r"[^\w.-]+", "-", table.name, flags=re.ASCII)
    body = [r"\toprule", header, r"\midrule", *rows, r"\bottomrule"]
    top = [r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", rf"\label{{tab:{label}}}", r"\footnotesize"]
    lines = [*top, rf"\begin{{tabular}}{{{columns}}}", *body, r"\end{tabular}", r"\end{table}"]
    if not all(c.isascii() or c in _USUAL for line in lines for c in line):
        lines.insert(0, "% Holds letters that pdfLaTeX's usual fonts lack: compile with LuaLaTeX or XeLaTeX.")
    return "\n".join(lines) + "\n"


def _write_row(cells: list[str]) -> str:
    """A row of cells. What follows a rule or `\\\\` must not start with a bracket or a star, which these would take."""
    return re.sub(r"^(?=[\[*])", "{}", " & ".join(map(escape_latex, cells))) + r" \\"
