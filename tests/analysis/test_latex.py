import string
from pathlib import Path

import pytest
from typesetting import check_latex, compile_latex

from analysis.latex import escape_latex, write_latex
from analysis.tables import Table

PRINTABLE = "".join(c for c in string.printable if c.isprintable())
LATIN = "".join(chr(i) for i in range(0xA0, 0x100) if chr(i) not in "«»ÐÞðþ")
WORDS = "KL(before || after), −0.5 – 5 % of $x_1^2$ & #2 {y} \\frac{a}{b} ~ `c` \"d\" 'e' <f> → ≤ ≥ ≈ ρ κ α β τ χ Δ …"


def make_table(*cells: str) -> Table:
    """A table that has the same text in every place, and rows that begin as each of `cells` does."""
    return Table("a_b %c", WORDS, ["[head]", "n"], [[cell, WORDS] for cell in cells], f"*{PRINTABLE}*", left=1)


HARD = make_table(
    PRINTABLE, LATIN, WORDS, "[0.1, 0.2]", "*starred", "(round)", "", "two\n\nlines\tand\x00\x1b control", "?`!`--- ''"
)


def test_tables_of_any_text_are_sound_latex():
    text = write_latex(HARD)
    check_latex(text)
    assert r"\label{tab:a_b-c}" in text
    assert "two lines and control &" in text


@pytest.mark.parametrize("spoilt", ["5% of", "a_b", "$x", "a & b", "{", r"\alert", "#", "~", "^"])
def test_the_check_finds_what_is_not_escaped(spoilt: str):
    with pytest.raises(AssertionError):
        check_latex(write_latex(HARD).replace("starred", spoilt))


def test_what_latex_would_change_is_kept():
    assert escape_latex("a--b---c") == "a-{}-b-{}-{}-c"
    assert escape_latex("−1.0 – 2 → ρ") == r"$-$1.0 -- 2 $\rightarrow$ $\rho$"
    assert escape_latex("\\") == r"\textbackslash{}"


def test_other_scripts_are_told():
    latin, other = (write_latex(Table("t", name, ["a"], [["b"]])) for name in ("Médecine", "医学"))
    assert not latin.startswith("%")
    assert other.startswith("% Holds letters that pdfLaTeX's usual fonts lack")


def test_tables_of_any_text_compile(tmp_path: Path):
    log = compile_latex(write_latex(HARD), tmp_path)
    assert "Missing character" not in log
