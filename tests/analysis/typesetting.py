"""Whether LaTeX takes a table: read strictly, and compiled where an engine is installed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

# What TeX itself does with a character, outside of a command.
SPECIAL = "\\{}$&#_^~%"
CHARACTERS = {
    *("textbackslash", "textasciicircum", "textasciitilde", "textless", "textgreater", "textbar", "textasciigrave", "dots"),
    *("rightarrow", "leq", "geq", "approx", "alpha", "beta", "kappa", "rho", "tau", "chi", "Delta"),
}
# What may stand on a line that is no row, besides the caption.
LINES = (
    r"\\(begin|end)\{(table|tabular|longtable|landscape)\}",
    r"\\begin\{(tabular|longtable)\}\{@\{\}(?:l|r|p\{\d+pt\})+@\{\}\}",
    r"\\(centering|medskip|footnotesize|scriptsize|tiny|toprule|midrule|bottomrule|endfirsthead|endhead|endfoot)",
    r"\\setlength\{(\\tabcolsep\}\{\d+pt|\\LTcapwidth\}\{\\linewidth)\}",
    r"\\multicolumn\{\d+\}\{@\{\}l@\{\}\}\{\\tablename~\\thetable, continued\}\\\\",
    "[{}]",
)
CAPTION = re.compile(r"\\caption\{(.*)\}\\label\{tab:[A-Za-z0-9_.-]+\}(\\\\)?")
PACKAGES = {"longtable": "longtable", "landscape": "pdflscape"}  # by the environment that needs it, beside booktabs
OVERFULL = 5  # points; less is not seen


def check_latex(text: str) -> None:
    """Read a table as TeX would: known commands, balanced braces, mathematics and environments, as many cells as columns."""
    notes = [line for line in text.splitlines() if line.startswith("%")]
    body = [line for line in text.splitlines() if not line.startswith("%")]
    opened, columns = [], None
    for line in body:
        if line.endswith(r" \\"):
            check_row(line.removesuffix(r" \\"), columns)
        elif found := CAPTION.fullmatch(line):
            check_text(found[1])
            assert bool(found[2]) == ("longtable" in opened), line
        else:
            assert any(re.fullmatch(pattern, line) for pattern in LINES), line
            if found := re.fullmatch(r"\\(begin|end)\{(\w+)\}.*|([{}])", line):
                name = found[2] or "{"
                if found[1] == "begin" or found[3] == "{":
                    opened.append(name)
                else:
                    assert opened.pop() == name, line
            if found := re.search(r"@\{\}(.*)@\{\}\}$", line):
                columns = columns or len(re.findall(r"[lr]|p\{\d+pt\}", found[1]))
    assert not opened
    for name, package in PACKAGES.items():
        assert (rf"\begin{{{name}}}" in text) == any(package in note for note in notes)
    assert len(re.findall(CAPTION, text)) == 1


def check_row(row: str, columns: int | None) -> None:
    """Raise where a row has other than `columns` cells, or one that is not escaped."""
    assert not re.match(r"\s*[\[*]", row), row
    cells = re.split(r"(?<!\\)&", row)
    assert len(cells) == columns, row
    for cell in cells:
        check_text(re.sub(r"^ ?\\ragged(right|left)(\\let\\\\\\tabularnewline)? ", "", cell))


def check_text(text: str) -> None:
    """Raise where a text holds a special character that is not escaped, an unknown command, an unbalanced brace or dollar."""
    text = text.replace(r"\hspace{0pt}", "")
    assert set(re.findall(r"(?<!\\)\\([A-Za-z]+)", text)) <= CHARACTERS, text
    plain = re.sub(r"\\([A-Za-z]+)(\{\}|(?=\$))|\\[{}$&#_%]", "", text)
    plain = re.sub(r"\$[^$\\]*\$", "", plain).replace("{}", "")
    assert not set(plain) & set(SPECIAL), text


def compile_latex(text: str, folder: Path) -> str:
    """The log of compiling tables with what is installed, nothing of them off the page; skips where nothing is."""
    engine = shutil.which("pdflatex") or shutil.which("tectonic")
    if not engine:
        pytest.skip("neither pdflatex nor tectonic here")
    packages = ",".join(("booktabs", *PACKAGES.values()))
    (folder / "all.tex").write_text(
        f"\\documentclass{{article}}\\usepackage{{{packages}}}\\begin{{document}}{text}\\end{{document}}"
    )
    options = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in engine else ["--keep-logs"]
    for _ in range(2 if "pdflatex" in engine else 1):  # the widths of a long table's columns are known after the first
        done = subprocess.run(
            [engine, *options, "all.tex"], cwd=folder, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (folder / "all.pdf").read_bytes()[:4] == b"%PDF"
    log = (folder / "all.log").read_text(errors="replace")
    overruns = find_overruns(log)
    assert not overruns, "\n".join(overruns)
    return log


def find_overruns(log: str) -> list[str]:
    """What a compiler's log says of lines and tables that leave the page."""
    found = re.finditer(r"Overfull \\[hv]box \(([\d.]+)pt too (?:wide|high).*|Float too large.*", log)
    return [line[0] for line in found if line[1] is None or float(line[1]) > OVERFULL]
