"""How figures look: each condition's colour and marker, and the style of axes, for every stage that draws."""

# Okabe and Ito's colours, which most colour-blind readers tell apart.
COLOURS = {
    "harmonious": "#009E73",
    "self_aligning": "#0072B2",
    "mix": "#56B4E9",
    "contextualized": "#CC79A7",
    "gold": "#E69F00",
    "incompatible": "#D55E00",
    "random_wrong": "#8A8F98",
}
MARKERS = dict(zip(COLOURS, "osDP*vX", strict=True))
INK, GRID = "#20262d", "#d5dae0"
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9.5, "axes.titlelocation": "left", "figure.dpi": 150,
    "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "grid.color": GRID,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False, "axes.grid": True, "axes.grid.axis": "x",
    "axes.axisbelow": True, "svg.fonttype": "path", "pdf.fonttype": 42,
    "text.parse_math": False,  # a dollar in a name is a dollar
}  # fmt: skip
