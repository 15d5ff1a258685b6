"""The figures of a report, plotted beside the main process as soon as the numbers that they show are known."""

from pathlib import Path
from typing import Self, TypedDict

from markupsafe import Markup
from tqdm import tqdm

from analysis.chapters.chapter import Frames, Part
from analysis.reading.study import Study
from analysis.reporting.contents import CHAPTERS, list_parts
from analysis.reporting.workers import Task, Workers
from analysis.showing.figures import Sketch, write_figure

ACROSS = -1  # in place of a part's position: over all parts


class Plotted(TypedDict):
    """A figure as the page shows it."""

    name: str
    title: str
    caption: str
    svg: Markup


class Plotter:
    """Has all figures of a study written into a folder. After the context nothing is written any more."""

    def __init__(self, study: Study, folder: Path, workers: Workers) -> None:
        """Nothing is plotted yet."""
        self._study, self._folder, self._workers = study, folder, workers
        self._tasks: dict[tuple[int, int], Task] = {}  # by the positions of their part and of their chapter

    def __enter__(self) -> Self:
        """Nothing is begun by entering."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for what is being written, and have the rest not begun."""
        for task in reversed(self._tasks.values()):  # those last begun first, so that none begins meanwhile
            task.drop()

    def begin(self, frames: Frames) -> None:
        """Begin every figure that has not begun and of which all numbers are among `frames`."""
        for i, chapter in enumerate(CHAPTERS):
            if (0, i) not in self._tasks and {*chapter.shown} <= {*frames}:
                shown = {name: frames[name] for name in chapter.shown}
                parts = list_parts(self._study, shown)
                self._tasks |= {
                    (j, i): self._workers.submit(plot_chapter, i, part, self._folder) for j, part in enumerate(parts)
                }
                if chapter.figures_across:
                    self._tasks[ACROSS, i] = self._workers.submit(plot_across, i, shown, self._folder)

    def finish(self) -> dict[int, list[Plotted]]:
        """All figures, in the order of the page, by the position of their part or `ACROSS`; what has not begun is done here."""
        for key in tqdm(sorted(self._tasks, reverse=True), "Plotting", leave=False, disable=None):
            self._tasks[key].help()
        figures: dict[int, list[Plotted]] = {}
        for part, chapter in sorted(self._tasks):
            figures.setdefault(part, []).extend(self._tasks[part, chapter].get())
        return figures


def plot_chapter(position: int, part: Part, folder: Path) -> list[Plotted]:
    """Plot and write the figures that a chapter has of a part; the chapter is named by its position in `CHAPTERS`."""
    return [write_plotted(sketch, folder, part.prefix) for sketch in CHAPTERS[position].figures(part)]


def plot_across(position: int, frames: Frames, folder: Path) -> list[Plotted]:
    """Plot and write the figures that a chapter has over all parts."""
    return [write_plotted(sketch, folder) for sketch in CHAPTERS[position].figures_across(frames)]


def write_plotted(sketch: Sketch, folder: Path, prefix: str = "") -> Plotted:
    """Write a figure's files, and tell the page of it."""
    name = f"{prefix}{sketch.name}"
    svg = Markup(write_figure(sketch, folder / name))
    return Plotted(name=name, title=sketch.title, caption=sketch.caption, svg=svg)
