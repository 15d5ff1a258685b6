"""How tokens are shown: blanks and control characters made visible, in a terminal and on a page that needs no other file."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from lm_eval_tasks.contracts.public import make_public

SPACE, NEWLINE, TAB = "·", "↵", "⇥"
PART = "◌"  # a token that ends within a character
# A role's two styles, which alternate so that one token is told from the next, and what it is.
ROLES = {
    "prompt": ("grey50", "grey66", "prompt, no loss"),
    "context": ("black on yellow", "black on bright_yellow", "knowledge, in training alone, no loss"),
    "trained": ("black on green", "black on bright_green", "trained: the loss is on these"),
    "masked": ("black on magenta", "black on bright_magenta", "masked: of the response, no loss"),
    "cut": ("strike grey50", "strike grey66", "beyond --max_length: training refuses the row"),
    "scored": ("white on blue", "black on bright_blue", "scored in evaluation"),
}
DIFFERS = "bold white on red"
NARROWEST = 38  # columns of a terminal


@dataclass(frozen=True)
class Token:
    """A token as it is shown.

    Attributes:
        text: what it adds to the text.
        number: its id.
        role: one of `ROLES`.
        differs: whether it is the first in which training and evaluation differ.
    """

    text: str
    number: int
    role: str
    differs: bool = False

    @property
    def shown(self) -> str:
        """Its text with blanks and control characters made visible; a line ends after a newline."""
        return show_text(self.text) or PART


@dataclass(frozen=True)
class Cell:
    """A text in tokens: of one condition, or of the evaluation, with the choices that are scored after it."""

    title: str
    tokens: list[Token]
    endings: list[list[Token]] = field(default_factory=list)
    details: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """A question or a general instruction: how it is asked, and how each condition trains it."""

    title: str
    cells: list[Cell]


def show_text(text: str) -> str:
    """A text in which blanks, and characters that show nothing or change how others are shown, are visible.

    >>> print(show_text("so\\tit is\\u200b"))
    so⇥it·is⟨U+200B⟩
    """
    return "".join(map(_show_character, text))


def _show_character(character: str) -> str:
    if character == "\n":
        return f"{NEWLINE}\n"
    if character in " \t":
        return SPACE if character == " " else TAB
    if unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp", "Zs"):
        return f"⟨U+{ord(character):04X}⟩"
    return character


def print_sections(sections: Sequence[Section], console: Console | None = None) -> None:
    """Print sections, their cells side by side as far as the terminal is wide."""
    console = console or Console(highlight=False)
    key = [Text(f" {words} ", style) for style, _, words in ROLES.values()]
    console.print(Columns([*key, Text(" first difference ", DIFFERS)]))
    for section in sections:
        console.rule(Text(show_line(section.title)), align="left")
        width = max(NARROWEST, console.width // max(1, min(len(section.cells), console.width // NARROWEST)) - 1)
        console.print(Columns([_frame_cell(cell, min(width, console.width)) for cell in section.cells], padding=(0, 1)))


def _frame_cell(cell: Cell, width: int) -> Panel:
    text = Text(overflow="fold")
    for name, value in cell.details.items():
        text.append(f"{name} {show_line(value)}  ", "italic")
    text.append("\n" if cell.details else "")
    for line in (cell.tokens, *cell.endings):
        text.append("" if line is cell.tokens else "\n")
        for position, token in enumerate(line):
            text.append(token.shown, DIFFERS if token.differs else ROLES[token.role][position % 2])
    for style, lines in (("", cell.notes), ("bold red", cell.warnings)):
        for line in lines:
            text.append(f"\n\n{show_line(line)}", style)
    return Panel(text, title=Text(show_line(cell.title)), width=width, border_style="red" if cell.warnings else "dim")


def show_line(line: str) -> str:
    """A sentence of ours, in which only what would not be seen is made visible."""
    return "".join(character if character == " " else _show_character(character) for character in line)


def write_page(sections: Sequence[Section], title: str) -> str:
    """The sections as one HTML page, which loads nothing and runs no script; all text is escaped, the title made public."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    words = {name: words for name, (*_, words) in ROLES.items()}
    return environment.get_template("preview.html.jinja").render(
        sections=sections, title=make_public(title), roles=words, show=show_text, line=show_line
    )
