"""The base model asked again, with other demonstrations: what moves without any training, and what is left beyond that.

Questions whose answer was wrong in one probe are wrong a little less often in the next (regression to the mean), and every
distribution differs a little from itself. So each measure of a tuned model is set against what asking again gives, question
by question, of the trained questions too.
"""

import polars as pl

from analysis.chapters.chapter import PROMPTS, Chapter, Computed, Part, Whole
from analysis.measures.groups import MEAN_SCHEMA, summarise_columns
from analysis.measures.keys import GROUP, PART, QUESTION
from analysis.measures.metrics import CONSISTENCY, METRICS
from analysis.showing.formats import DASH, format_count, format_interval, format_number
from analysis.showing.labels import name_part, name_row
from analysis.showing.tables import Table, gather_cells
from lm_eval_tasks.contracts.vocabulary import PHASES, name_set

COMPARED = ("accuracy", *CONSISTENCY)
AGAIN_SCHEMA = pl.Schema(dict(MEAN_SCHEMA) | {"again": pl.Float64})


def compare_again(measures: pl.DataFrame, again: pl.DataFrame) -> pl.DataFrame:
    """Each measure of tuned models minus that of the base model asked again, on the same questions.

    Args:
        measures: as in `study.Study`.
        again: the base models asked again, likewise, also their train questions.

    Returns:
        `AGAIN_SCHEMA`: `value` is the mean difference, with its intervals over questions and seeds, and `again` the mean of
        asking again. No row where no base model was asked again.
    """
    if not again.height:
        return pl.DataFrame(schema=AGAIN_SCHEMA)
    floor = again.select(*PART, *QUESTION, *(pl.col(name).cast(pl.Float64).alias(f"{name}_again") for name in COMPARED))
    tuned = measures.filter(pl.col("run") != "").join(floor, on=[*PART, *QUESTION], how="inner", maintain_order="left")
    # Named otherwise than the metrics, whose bounds and shares are not those of differences.
    names = {f"{name}_beyond": name for name in COMPARED}
    differences = tuned.with_columns(
        (pl.col(name).cast(pl.Float64) - pl.col(f"{name}_again")).alias(beyond) for beyond, name in names.items()
    )
    known = [pl.when(pl.col(beyond).is_finite()).then(f"{name}_again").alias(name) for beyond, name in names.items()]
    means = differences.select(*GROUP, *known).group_by(GROUP).agg(pl.col(COMPARED).mean())
    floors = means.unpivot(COMPARED, index=GROUP, variable_name="metric", value_name="again")
    found = summarise_columns(differences, [*names]).with_columns(pl.col("metric").replace_strict(names))
    found = found.join(floors, on=[*GROUP, "metric"], how="left", nulls_equal=True, maintain_order="left")
    return found.select(AGAIN_SCHEMA.names())


def tabulate_again(compared: pl.DataFrame, phase: str) -> Table:
    """What asking again gives, and what tuned models differ by, of each measure: a row a condition and evaluation set."""
    rows = []
    key = ("condition", "ratio", "split")
    for (condition, ratio, split), by in gather_cells(compared.filter(phase=phase), key).items():
        row = [name_row(condition, ratio, phase), name_set(split)]
        for metric in COMPARED:
            cell = by.get(metric)
            beyond = f"{format_number(cell['value'], sign=True)} {format_interval(cell, sign=True)}" if cell else DASH
            row += [format_number(cell["again"]) if cell else DASH, beyond]
        first = next(iter(by.values()))
        rows.append([*row, f"{first['n']:,}", format_count(first["seeds"])])
    header = ["trained on", "split"]
    for metric in COMPARED:
        header += [f"{METRICS[metric].header}: asked again", "beyond it"]
    note = (
        "Asked again: the base model few-shot with other demonstrations, on the questions of the row, compared with its first "
        "probe as the tuned models are: what moves without any training. Of trained questions this holds the regression to "
        "the mean: they were chosen by what the first probe said. Beyond it: the tuned models minus that, question by "
        "question, with 95% intervals over questions, and over seeds where there are several."
    )
    title = f"Beyond the base model asked again, {PHASES[phase]}{name_part(compared)}"
    return Table(f"again-{phase}", title, [*header, "n", "seeds"], rows, note, left=2)


def compute_chapter(whole: Whole) -> Computed:
    """The table of `compare_again`, and a gap where no base model was asked again."""
    compared = compare_again(whole.study.measures, whole.study.again)
    asked = set(whole.study.again["model"])
    lacking = sorted(set(whole.study.runs["model"]) - asked)
    gaps = [
        f"The base model of {model} was not asked again, so that what moves without training is not known." for model in lacking
    ]
    return Computed({"again": compared}, gaps)


def tabulate_part(part: Part) -> list[Table]:
    """The tables of one part."""
    return [tabulate_again(part.frames["again"], phase) for phase in part.phases]


CHAPTER = Chapter(compute=compute_chapter, heading=PROMPTS, tables=tabulate_part)
