"""Knowledge or format, at a glance: the accuracy of tuned models asked in the chat prompt, and asked few-shot."""

import matplotlib as mpl
import polars as pl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.chapters.chapter import Chapter, Part
from analysis.showing.figures import Sketch
from analysis.showing.grids import add_key, plot_base
from analysis.showing.panels import get_row, make_axes
from lm_eval_tasks.contracts.style import INK, STYLE, find_look
from lm_eval_tasks.contracts.vocabulary import BASE, NEW_SETS

CAPTION = (
    "Filled: asked in the chat prompt they were trained on. Open: asked few-shot, as the base model was. What is lost in "
    "both is knowledge, what is lost in one is format. Bars: 95% intervals over questions."
)
LANE = 0.17  # how far the two marks of a row lie from its middle


@mpl.rc_context(STYLE)
def plot_both_ways(tuned: pl.DataFrame, summary: pl.DataFrame, title: str) -> Figure:
    """Each condition asked in the chat prompt (filled) and few-shot (open), joined by a line; `tuned` without `seen`."""
    figure, axes, conditions, evaluations = make_axes(tuned, 1, title)
    base = summary.filter(pl.col("split").is_in(evaluations), condition=BASE, metric="accuracy")
    for axis, name in zip(axes[0], evaluations, strict=True):
        for y, (condition, ratio) in enumerate(conditions):
            colour, marker = find_look(condition)
            where = {"condition": condition, "ratio": ratio, "split": name}
            chat, probe = (get_row(tuned, phase=phase, **where) for phase in ("tuned_chat", "tuned_probe"))
            if chat and probe:
                axis.plot([chat["value"], probe["value"]], [y - LANE, y + LANE], color=colour, lw=1.5, zorder=2)
            for row, fill, height in ((chat, colour, y - LANE), (probe, "white", y + LANE)):
                if row:
                    axis.plot([row["low_questions"], row["high_questions"]], [height, height], color=INK, lw=1.4, zorder=2)
                    axis.plot(row["value"], height, marker=marker, ms=6, mfc=fill, mec=INK, mew=0.8, zorder=4, clip_on=False)
        plot_base(axis, base, "accuracy", name)
        axis.set_xlim(0, 1)
        axis.set_xlabel("accuracy", fontsize=8)
    filled = Line2D([], [], marker="o", ls="", color=INK, label="tuned, chat prompt")
    hollow = Line2D([], [], marker="o", ls="", mfc="white", mec=INK, label="tuned, few-shot")
    add_key(figure, base, [filled, hollow])
    return figure


def sketch_both_ways(part: Part) -> list[Sketch]:
    """Accuracy on questions that were not trained on, where tuned models were asked both ways."""
    summary = part.frames["summary"]
    asked = pl.col("phase").is_in(["tuned_chat", "tuned_probe"]) & pl.col("split").is_in(NEW_SETS)
    both = summary.filter(asked, metric="accuracy")
    if both["phase"].n_unique() != 2:
        return []
    title = "Knowledge or format? The tuned models asked both ways"
    return [Sketch("knowledge", title, CAPTION, plot_both_ways(both, summary, title))]


CHAPTER = Chapter(figures=sketch_both_ways, shown=("summary",))
