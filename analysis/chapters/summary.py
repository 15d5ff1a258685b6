"""The results in short: every condition on every evaluation set in the chat prompt, and accuracy as bars."""

import polars as pl

from analysis.chapters.chapter import RESULTS, Chapter, Computed, Part
from analysis.measures.metrics import CONSISTENCY, METRICS
from analysis.reading.study import summarise_results
from analysis.showing.figures import Sketch
from analysis.showing.formats import DASH, format_count, format_interval, format_number, format_seeds
from analysis.showing.grids import Panel, sketch_grid
from analysis.showing.labels import name_part, name_row
from analysis.showing.tables import Table, gather_cells
from lm_eval_tasks.contracts.vocabulary import BASE, name_set

PANELS = (Panel("accuracy", "accuracy", (0, 1)),)


def tabulate_summary(summary: pl.DataFrame) -> Table:
    """The compact result table of one part: a row a condition and evaluation set, in the chat prompt; the base model first."""
    base = summary.filter(pl.col("condition") == BASE, pl.col("phase").str.starts_with("base_"))
    cells = gather_cells(pl.concat([base, summary.filter(phase="tuned_chat")]), ("condition", "ratio", "phase", "split"))
    rows = []
    for (condition, ratio, phase, split), by in cells.items():
        if not (accuracy := by.get("accuracy")):
            continue
        kept = [_write_value(by.get(metric), accuracy["n"]) for metric in CONSISTENCY]
        both = [format_interval(accuracy), format_interval(accuracy, "low_questions", "high_questions")]
        counts = [f"{accuracy['n']:,}", format_count(accuracy["seeds"])]
        label = name_row(condition, ratio, phase)
        rows.append([label, name_set(split), format_number(accuracy["value"]), format_seeds(accuracy), *both, *kept, *counts])
    header = ["trained on", "split", "accuracy", "by seed", "95% interval", "over questions"]
    header += [*(METRICS[metric].header for metric in CONSISTENCY), "n", "seeds"]
    note = (
        "Mean over seeds, and by seed: both of two, the least and the greatest of more. The interval is over questions, and "
        "over seeds where there are several (crossed bootstrap, or t over the seeds where that is wider); the one over "
        "questions takes the seeds as given. KL, rank correlation and same answer compare with the base model's few-shot probe "
        "(their intervals: see their own tables). n: questions."
    )
    return Table("summary", f"{RESULTS.title}{name_part(summary)}", header, rows, note, left=2)


def _write_value(row: dict | None, n: int) -> str:
    """A mean, its median where it has no greatest value, and its number of questions where that is not the row's `n`.

    It is another where a question was not asked of the base model, or its KL is infinite.
    """
    if row is None:
        return DASH
    apart = [] if row["median"] is None else [f"median {format_number(row['median'])}"]
    apart += [] if row["n"] == n else [f"n = {row['n']:,}"]
    return format_number(row["value"]) + (f" ({', '.join(apart)})" if apart else "")


def sketch_accuracy(part: Part) -> list[Sketch]:
    """Accuracy by condition."""
    words = "The tuned models asked in the chat prompt. Lines: the base model before any training."
    title = "Accuracy by training condition"
    return sketch_grid("accuracy", title, words, part.frames["summary"], part.frames["results"], PANELS)


CHAPTER = Chapter(
    compute=lambda whole: Computed({"results": summarise_results(whole.study.measures)}),
    heading=RESULTS,
    tables=lambda part: [tabulate_summary(part.frames["summary"])],
    figures=sketch_accuracy,
    shown=("summary", "results"),
)
