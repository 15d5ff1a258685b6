"""Free-form answers: what models say in words rather than by a choice, before and after.

There is no distribution over choices here, and so no KL: sampled answers are grouped by what they say, and the shares of the
groups are compared. Their total variation is above 0 by chance alone, so that beside it stands what asking the base model again
gives, on the same questions.
"""

import polars as pl

from analysis.chapters.chapter import WORDS, Chapter, Computed, Part, Whole
from analysis.measures.groups import MEAN_SCHEMA, summarise_columns
from analysis.measures.keys import GROUP, PART, QUESTION
from analysis.measures.metrics import ANSWERED
from analysis.showing.formats import DASH, format_count, format_mean, format_number
from analysis.showing.labels import name_part, name_row
from analysis.showing.panels import name_range
from analysis.showing.tables import Table, gather_cells
from lm_eval_tasks.contracts.vocabulary import BASE, PHASES, name_set

SUMMARY_SCHEMA = pl.Schema(dict(MEAN_SCHEMA) | {"again": pl.Float64})
COMPARED = [name for name, metric in ANSWERED.items() if metric.consistency]  # with the base model's few-shot answers


def summarise_answers(answered: pl.DataFrame) -> pl.DataFrame:
    """Means over questions and seeds of all that was answered in words.

    Args:
        answered: `answered.ANSWERED_SCHEMA`.

    Returns:
        `SUMMARY_SCHEMA`; `again` is the mean that the base model asked again has on the same questions, null where it was not
        asked all of them.
    """
    floor = answered.filter(phase="base_again").select(*PART, *QUESTION, pl.col(*ANSWERED).name.suffix("_again"))
    answered = answered.filter(pl.col("split") != "train")
    both = answered.join(floor, on=[*PART, *QUESTION], how="left", maintain_order="left")
    held = [pl.col(f"{name}_again").filter(pl.col(name).is_not_null()) for name in ANSWERED]
    means = both.group_by(GROUP).agg(
        pl.when(known.null_count() == 0).then(known.mean()).alias(name) for name, known in zip(ANSWERED, held, strict=True)
    )
    floors = means.unpivot([*ANSWERED], index=GROUP, variable_name="metric", value_name="again")
    found = summarise_columns(answered, [*ANSWERED])
    found = found.join(floors, on=[*GROUP, "metric"], how="left", nulls_equal=True, maintain_order="left")
    return found.select(SUMMARY_SCHEMA.names())


def tabulate_answers(summary: pl.DataFrame, phase: str) -> Table:
    """What tuned models answer in words in one phase, below their base model: a row a condition and evaluation set."""
    shown = pl.concat([summary.filter(condition=BASE), summary.filter(pl.col("condition") != BASE, phase=phase)])
    rows = []
    for (condition, ratio, asked, split), by in gather_cells(shown, ("condition", "ratio", "phase", "split")).items():
        row = [name_row(condition, ratio, asked), name_set(split)]
        for metric in ANSWERED:
            cell = by.get(metric)
            row.append(format_mean(cell) if cell else DASH)
            row += [format_number(cell["again"]) if cell else DASH] if metric in COMPARED else []
        counts = [cell["n"] for cell in by.values()]
        rows.append([*row, name_range(pl.Series(counts)), format_count(next(iter(by.values()))["seeds"])])
    header = ["trained on", "split"]
    for name, metric in ANSWERED.items():
        header += [metric.header, f"{metric.header}: asked again"] if name in COMPARED else [metric.header]
    note = (
        "Answers in words, not choices, and so no KL. Exact match: the likeliest answer (greedy) is an accepted one. Accepted "
        "samples: the share of the sampled answers that is. Same answer: the likeliest one says the same as the base model's "
        "few-shot one (equal after normalisation, or both accepted). Total variation: half the sum over groups of sampled "
        "answers that say the same of |share before − share after|, where before are the base model's few-shot samples: from 0 "
        "(the same shares) to 1 (no answer in common). Two sets of samples of one and the same model differ by chance, so that "
        "it is not 0 even where nothing moved. Asked again: what the base model gives few-shot with other demonstrations, on "
        "the questions of the row. Means over seeds with 95% intervals over questions, and over seeds where there are several. "
        "n: questions."
    )
    title = f"Free-form answers (in words, not choices), {PHASES[phase]}{name_part(summary)}"
    return Table(f"answered-{phase}", title, [*header, "n", "seeds"], rows, note, left=2)


def compute_chapter(whole: Whole) -> Computed:
    """The table of `summarise_answers` where anything was answered in words, and base models without a floor."""
    answered = whole.study.answered
    if not answered.height:
        return Computed({})
    sampled = answered.drop_nulls("samples")
    lacking = sorted(set(sampled["model"]) - set(sampled.filter(phase="base_again")["model"]))
    gaps = [
        f"The base model of {model} was not asked its free-form questions again (base_again), so that the total variation by "
        "chance alone is not known."
        for model in lacking
    ]
    return Computed({"answered": summarise_answers(answered)}, gaps)


def tabulate_part(part: Part) -> list[Table]:
    """The tables of one part, a phase each in which tuned models answered in words."""
    summary = part.frames.get("answered", pl.DataFrame(schema=SUMMARY_SCHEMA))
    asked = set(summary.filter(pl.col("condition") != BASE)["phase"])
    return [tabulate_answers(summary, phase) for phase in PHASES if phase in asked]


CHAPTER = Chapter(compute=compute_chapter, heading=WORDS, tables=tabulate_part)
