"""How much of the base model's beliefs is left: consistency with its few-shot probe as bars."""

from analysis.chapters.chapter import Chapter, Part
from analysis.showing.figures import Sketch
from analysis.showing.grids import Panel, sketch_grid

PANELS = (
    Panel("kl_nats", "KL(before || after), nats", (0, None)),
    Panel("rank_pearson", "correlation of choice ranks", (0, 1)),
    Panel("top1_agreement", "same first choice as before", (0, 1)),
)


def sketch_consistency(part: Part) -> list[Sketch]:
    """The three measures of consistency by condition."""
    words = (
        "The tuned models in the chat prompt, compared question by question with the base model's few-shot probe. Low KL, high "
        "rank correlation and many same answers mean that little moved. Broken lines: the base model itself, asked with other "
        "demonstrations: what moves without training."
    )
    title = "How much of the base model's beliefs is left"
    return sketch_grid("consistency", title, words, part.frames["summary"], part.frames["results"], PANELS)


CHAPTER = Chapter(figures=sketch_consistency, shown=("summary", "results"))
