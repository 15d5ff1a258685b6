"""Whether LaTeX takes a table: read strictly, and compiled where an engine is installed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

# What TeX itself does with a character, outside of a command.
SPECIAL = "\\{}$&#_^~%"
COMMANDS = {
    *("textbackslash", "textasciicircum", "textasciitilde", "textless", "textgreater", "textbar", "textasciigrave", "dots"),
    *("rightarrow", "leq", "geq", "approx", "alpha", "beta", "kappa", "rho", "tau", "chi", "Delta"),
    *("begin", "end", "centering", "caption", "label", "footnotesize", "toprule", "midrule", "bottomrule"),
}


def check_latex(text: str) -> None:
    """Read a table as TeX would: known commands, balanced braces, mathematics and environments, as many cells as columns."""
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert set(re.findall(r"\\([A-Za-z]+)", body)) <= COMMANDS
    opened = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", body):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    columns = len(re.search(r"\\begin\{tabular\}\{([lr]+)\}", body)[1])
    rows = [line for line in body.splitlines() if line.endswith(r" \\")]
    for row in rows:
        assert not re.match(r"\s*[\[*]", row), row
        cells = re.split(r"(?<!\\)&", row.removesuffix(r" \\"))
        assert len(cells) == columns, row
        for cell in cells:
            check_text(cell)
    check_text(re.search(r"\\caption\{(.*)\}", body)[1])
    assert re.fullmatch(r"tab:[\w.-]+", re.search(r"\\label\{(.*)\}", body)[1], re.ASCII)


def check_text(text: str) -> None:
    """Raise where a text holds a special character that is not escaped, or an unbalanced brace or dollar."""
    plain = re.sub(r"\\([A-Za-z]+)(\{\}|(?=\$))|\\[{}$&#_%]", "", text)
    plain = re.sub(r"\$[^$\\]*\$", "", plain).replace("{}", "")
    assert not set(plain) & set(SPECIAL), text


def compile_latex(text: str, folder: Path) -> str:
    """The log of compiling tables with what is installed; skips where nothing is."""
    engine = shutil.which("pdflatex") or shutil.which("tectonic")
    if not engine:
        pytest.skip("neither pdflatex nor tectonic here")
    (folder / "all.tex").write_text(
        f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}{text}\\end{{document}}"
    )
    options = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in engine else ["--keep-logs"]
    done = subprocess.run([engine, *options, "all.tex"], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (folder / "all.pdf").read_bytes()[:4] == b"%PDF"
    return (folder / "all.log").read_text()
