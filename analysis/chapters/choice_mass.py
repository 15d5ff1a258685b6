"""Format and confidence: how much of the probability is on any choice, and how much of that on the first, as bars."""

from analysis.chapters.chapter import Chapter, Part
from analysis.showing.figures import Sketch
from analysis.showing.grids import Panel, sketch_grid

PANELS = (
    Panel("choice_mass", "probability on any choice", (0, 1)),
    Panel("confidence", "confidence in the first choice", (0, 1)),
)


def sketch_masses(part: Part) -> list[Sketch]:
    """Choice mass and confidence by condition."""
    words = (
        "The tuned models asked in the chat prompt: how much of their probability is on any choice, and how much of that on "
        "the first."
    )
    return sketch_grid("format", "Format and confidence", words, part.frames["summary"], part.frames["results"], PANELS)


CHAPTER = Chapter(figures=sketch_masses, shown=("summary", "results"))
