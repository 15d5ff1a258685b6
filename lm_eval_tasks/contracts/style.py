"""How figures look: each condition's colour and marker, and the style of axes, for every stage that plots."""

from lm_eval_tasks.contracts.vocabulary import CONDITIONS

# By the name of a condition.
COLOURS = {name: condition.colour for name, condition in CONDITIONS.items()}
MARKERS = {name: condition.marker for name, condition in CONDITIONS.items()}
OTHER = ("#999999", "o")  # what a condition that is not of this project looks like
INK, GRID = "#20262d", "#d5dae0"
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9.5, "axes.titlelocation": "left", "figure.dpi": 150,
    "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "grid.color": GRID,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False, "axes.grid": True, "axes.grid.axis": "x",
    "axes.axisbelow": True, "svg.fonttype": "path", "pdf.fonttype": 42,
    "text.parse_math": False,  # a dollar in a name is a dollar
}  # fmt: skip


def find_look(condition: str) -> tuple[str, str]:
    """The colour and the marker of a condition, grey and a circle where it is not of this project.

    >>> find_look("mix"), find_look("mine")
    (('#56B4E9', 'D'), ('#999999', 'o'))
    """
    return (COLOURS[condition], MARKERS[condition]) if condition in CONDITIONS else OTHER
