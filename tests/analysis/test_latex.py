import re
import string
from collections.abc import Sequence
from pathlib import Path

import pytest
from studies import KEPT, write_study
from typesetting import check_latex, compile_latex, find_overruns

from analysis.reading.study import read_study
from analysis.reporting.contents import compute_frames, list_parts, list_tables, list_tables_across
from analysis.showing.latex import FLOAT_ROWS, choose_layout, escape_latex, write_latex
from analysis.showing.tables import Table

PRINTABLE = "".join(c for c in string.printable if c.isprintable())
LATIN = "".join(chr(i) for i in range(0xA0, 0x100) if chr(i) not in "«»ÐÞðþ")
WORDS = "KL(before || after), −0.5 – 5 % of $x_1^2$ & #2 {y} \\frac{a}{b} ~ `c` \"d\" 'e' <f> → ≤ ≥ ≈ ρ κ α β τ χ Δ …"
HOSTILE = "an_unbroken%name{of}$any#kind\\which~no^one&would|hyphenate<MMMMWWWWMMMMWWWWMMMMWWWW>--[x]"
NUMBERS = ["−0.123", "[−0.123, +0.456]", "[−0.123, +0.456]", "+0.12", "<0.001", "0.049", "0.061", "14,042 / 14,042", "2", "yes"]


def make_table(*cells: str) -> Table:
    """A table that has the same text in every cell, and rows that begin as each of `cells` does."""
    return Table("a_b %c", WORDS, ["[head]", "n"], [[cell, WORDS] for cell in cells], f"*{PRINTABLE}*", left=1)


def make_wide(names: Sequence[str], rows: int, numbers: int, note: str = "Said of it. " * 40) -> Table:
    """A table with a column for each of `names`, then columns of numbers, under headers of two words."""
    cells = [*names, *(NUMBERS * numbers)[:numbers]]
    header = ["trained on"] * len(names) + ["over questions"] * numbers
    return Table("wide", f"Of {names[0]}", header, [cells] * rows, note, left=len(names))


HARD = make_table(
    PRINTABLE, LATIN, WORDS, "[0.1, 0.2]", "*starred", "(round)", "", "two\n\nlines\tand\x00\x1b control", "?`!`--- ''"
)
SHAPES = {
    "small": (make_wide(["mix 0.4", "OOD"], 20, 3), False),
    "long": (make_wide(["mix 0.4", "OOD"], 150, 3), False),
    "wide": (make_wide(["self-aligning − incompatible", "OOD"], 20, 10), True),
    "wide and long": (make_wide(["self-aligning − incompatible", "OOD"], 150, 10), True),
    "of long names": (make_wide([HOSTILE * 2, "OOD"], 12, 3), False),
    "of long names, wide and long": (make_wide([HOSTILE * 2, HOSTILE, "OOD"], 60, 10), True),
    "of many columns": (make_wide([HOSTILE], 40, 24), True),
    "of words alone": (make_wide([HOSTILE * 3, WORDS], 5, 0), False),
    "of long heads": (Table("h", HOSTILE, [HOSTILE, WORDS, "n"], [["a", "1", "2"]]), False),
    "without rows": (make_wide(["mix"], 0, 3), False),
}


def test_tables_of_any_text_are_sound_latex():
    text = write_latex(HARD)
    check_latex(text)
    assert r"\label{tab:a_b-c}" in text
    assert "two lines and control" in text


@pytest.mark.parametrize("spoilt", ["5% of", "a_b", "$x", "a & b", "{", r"\alert", "#", "~", "^", r"\\"])
@pytest.mark.parametrize("table", [HARD, make_wide(["starred"], 2, 2)])
def test_the_check_finds_what_is_not_escaped(table: Table, spoilt: str):
    with pytest.raises(AssertionError):
        check_latex(write_latex(table).replace("starred", spoilt))


def test_what_latex_would_change_is_kept():
    assert escape_latex("a--b---c") == "a-{}-b-{}-{}-c"
    assert escape_latex("−1.0 – 2 → ρ") == r"$-$1.0 -- 2 $\rightarrow$ $\rho$"
    assert escape_latex("\\") == r"\textbackslash{}"


def test_other_scripts_are_told():
    latin, other = (write_latex(Table("t", name, ["a"], [["b"]])) for name in ("Médecine", "医学"))
    assert not latin.startswith("%")
    assert other.startswith("% Holds letters that pdfLaTeX's usual fonts lack")


@pytest.mark.parametrize("name", SHAPES)
def test_a_table_of_any_shape_is_sound_and_whole(name: str):
    table, landscape = SHAPES[name]
    text = write_latex(table)
    check_latex(text)
    assert (r"\begin{landscape}" in text) == landscape
    assert (r"\begin{longtable}" in text) == (landscape or len(table.rows) > FLOAT_ROWS or "p{" in text)
    plain = text.replace(r"\hspace{0pt}", "")
    for cell in {cell for row in table.rows for cell in row}:
        assert plain.count(escape_latex(cell)) >= sum(row.count(cell) for row in table.rows)
    # A header is stacked; its words are all there, in their order.
    lines = [line.removesuffix(r" \\").split(" & ") for line in text.splitlines() if line.endswith(r" \\")]
    stacked = lines[: text.split(r"\midrule")[0].count(" \\\\\n")]
    for i, head in enumerate(table.header):
        joined = re.sub(r"\s|\{\}", "", "".join(line[i] for line in stacked))
        assert joined == re.sub(r"\s|\{\}", "", escape_latex(head).replace("-{}-", "--"))


def test_numbers_stay_on_their_line_and_names_break():
    layout, widths = choose_layout(SHAPES["of long names"][0])
    assert (layout.landscape, [width is not None for width in widths]) == (False, [True, False, False, False, False])
    layout, widths = choose_layout(SHAPES["wide"][0])
    assert (layout.landscape, widths[1:]) == (True, [None] * 11)
    layout, widths = choose_layout(SHAPES["of long names, wide and long"][0])
    assert [width is not None for width in widths] == [True, True, *[False] * 11]


def test_tables_of_any_text_and_shape_compile_within_the_page(tmp_path: Path):
    tables = [HARD, *(table for table, _ in SHAPES.values())]
    log = compile_latex("\\clearpage\n".join(map(write_latex, tables)), tmp_path)
    assert "Missing character" not in log


def test_a_table_that_leaves_the_page_would_be_seen(tmp_path: Path):
    wide = write_latex(SHAPES["wide"][0]).replace("landscape", "center")
    with pytest.raises(AssertionError, match="Overfull"):
        compile_latex(wide, tmp_path)
    long = re.sub(r"(?s)(\\midrule\n)(.*)(\\bottomrule)", lambda f: f[1] + f[2] * 12 + f[3], write_latex(SHAPES["small"][0]))
    with pytest.raises(AssertionError, match="Float too large"):
        compile_latex(long, tmp_path)
    assert find_overruns("Overfull \\hbox (4.2pt too wide) in paragraph") == []


def test_all_tables_of_nine_conditions_of_any_name_compile_within_the_page(tmp_path: Path):
    conditions = [*KEPT, ("gold", None, 0.6), ("mix", 0.05, 0.6), (f"odd {HOSTILE[:50]}", None, 0.5)]
    write_study(tmp_path / "runs", n=24, conditions=conditions)
    study = read_study(tmp_path / "runs")
    frames = compute_frames(study).frames
    sections = [tables for part in list_parts(study, frames) for tables in list_tables(part).values()]
    tables = [table for section in [*sections, list_tables_across(frames)] for table in section]
    assert len(tables) > 20
    texts = [write_latex(table) for table in tables]
    for text in texts:
        check_latex(text)
    compile_latex("\\clearpage\n".join(texts), tmp_path)
