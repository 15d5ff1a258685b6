"""How far each run learnt its own rows: conditions that clash with beliefs may be trained less far by the same steps."""

import polars as pl

from analysis.chapters.chapter import AGAINST, Chapter, Computed, Part, Whole
from analysis.measures.keys import CONDITION, PART, name_run, sort_by_words
from analysis.reading.fits import FIT_SCHEMA
from analysis.showing.formats import DASH, format_number
from analysis.showing.labels import name_part
from analysis.showing.tables import Table
from lm_eval_tasks.contracts.vocabulary import name_condition


def gather_fits(whole: Whole) -> Computed:
    """The runs with `fits.read_fits`, and gaps: runs that do not say how far they fitted, or did not get where they were to."""
    runs, fits = whole.study.runs, whole.study.fits
    if not fits.height:
        empty = pl.DataFrame(schema=runs.select(*PART, *CONDITION, "seed").schema | FIT_SCHEMA)
        return Computed({"fit": empty}, ["No run says how far it fitted its rows (fit.json): all are of an earlier version."])
    found = runs.select(*PART, *CONDITION, "seed", "run").join(fits, on="run", how="left", maintain_order="left")
    gaps = [
        f"{name_run(row)} does not say how far it fitted its rows."
        for row in found.filter(pl.col("steps").is_null()).iter_rows(named=True)
    ]
    gaps += [
        f"{name_run(row)} did not reach what it was to train until in {row['steps']} steps ({format_number(row['given'])} of "
        f"its rows given, {format_number(row['loss_nats'])} nats a token)."
        for row in found.filter(reached=False).iter_rows(named=True)
    ]
    return Computed({"fit": sort_by_words(found.filter(pl.col("steps").is_not_null()))}, gaps)


def tabulate_fit(fit: pl.DataFrame) -> Table:
    """A row a condition: the steps of its seeds, those it took to fit, and how far it was fitted in the end."""
    rows = []
    for (condition, ratio), part in fit.group_by(CONDITION, maintain_order=True):
        steps = [str(value) if value is not None else DASH for value in part["steps_to_fit"]]
        never = "" if part["steps_to_fit"].null_count() < part.height else f"none of {part.height}"
        numbers = [format_number(part["given"].mean()), format_number(part["loss_nats"].mean())]
        taken = sorted(set(part["steps"]))
        told = str(taken[0]) if len(taken) == 1 else f"{taken[0]} to {taken[-1]}"
        rows.append([name_condition(condition, ratio), told, never or ", ".join(steps), *numbers, str(part.height)])
    level = ", ".join(f"{value:g}" for value in sorted(set(fit["level"])))
    header = ["trained on", "steps", "steps to fit", "given in the last epoch", "loss, nats", "seeds"]
    note = (
        "Steps to fit, by seed: the first step at which, over an epoch's steps, each token of the response was the likeliest "
        f"in {level} of the condition's rows before the step that trained it; none: in no seed, a dash: not in this one. "
        "Given: that share in the last epoch; loss: of these rows' responses, a token. General instructions do not count. "
        "Where conditions are fitted unequally far, --until_fit and --until_loss train them equally far."
    )
    return Table("fit", f"How far the trained rows were fitted{name_part(fit)}", header, rows, note)


def tabulate_part(part: Part) -> list[Table]:
    """The table of one part, where its runs say how far they fitted."""
    return [tabulate_fit(part.frames["fit"])] if part.frames["fit"].height else []


CHAPTER = Chapter(compute=gather_fits, heading=AGAINST, tables=tabulate_part)
