"""Arms side by side: the contrasts of a study that trains in several ways (matched or not, learning rates, until it fits)."""

import polars as pl

from analysis.chapters.chapter import Chapter, Computed, Whole
from analysis.showing.formats import DASH, format_interval, format_number
from analysis.showing.labels import name_contrast
from analysis.showing.tables import Table, gather_cells
from lm_eval_tasks.contracts.vocabulary import NEW_SETS, PHASES, REFERENCE, name_set

ROW = ("base", "domain", "condition", "ratio", "reference", "phase", "split")


def compare_arms(whole: Whole) -> pl.DataFrame:
    """The accuracy contrasts of base models and domains that have several arms, with `base` and `arm`; no row elsewhere."""
    runs = whole.study.runs.select("model", "base", "arm", "domain").unique(maintain_order=True)
    several = runs.filter(pl.col("arm") != "")
    found = whole.frames["contrasts"].filter(pl.col("split").is_in(NEW_SETS), metric="accuracy")
    return found.join(several, on=["model", "domain"], how="inner", maintain_order="left").select(
        *ROW, "arm", "difference", "low", "high", "low_questions", "high_questions", "n", "n_reference", "seeds"
    )


def tabulate_arms(arms: pl.DataFrame) -> list[Table]:
    """A table a base model and domain: a row a contrast, prompt and evaluation set, a column an arm."""
    tables = []
    for number, ((base, domain), part) in enumerate(arms.group_by("base", "domain", maintain_order=True), start=1):
        names = part["arm"].unique(maintain_order=True).to_list()
        rows = []
        for key, by in gather_cells(part, ROW, "arm").items():
            row = dict(zip(ROW, key, strict=True))
            cells = [
                f"{format_number(by[arm]['difference'], sign=True)} {format_interval(by[arm], sign=True)}"
                if arm in by
                else DASH
                for arm in names
            ]
            seeds = ", ".join(sorted({str(cell["seeds"]) for cell in by.values()}))
            rows.append([name_contrast(row), PHASES[row["phase"]], name_set(row["split"]), *cells, seeds])
        note = (
            "Differences of accuracy with 95% intervals over questions, and over seeds where there are several. Arms share "
            "questions and the base model, so that they are not tested against each other."
        )
        title = f"Accuracy against {REFERENCE.label} training, by the way of training ({base}, {domain})"
        suffix = f"-{number}" if arms.select("base", "domain").n_unique() > 1 else ""
        tables.append(Table(f"arms{suffix}", title, ["contrast", "prompt", "split", *names, "seeds"], rows, note, left=3))
    return tables


CHAPTER = Chapter(
    compute=lambda whole: Computed({"arms": compare_arms(whole)}),
    across=lambda frames: tabulate_arms(frames["arms"]),
)
