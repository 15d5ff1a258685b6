"""How far answers moved by class of question: what was believed before training, the asked domain, the asked subject."""

import polars as pl

from analysis.chapters.chapter import BELIEFS, Chapter, Computed
from analysis.measures.keys import GROUP, QUESTION, sort_by_words
from analysis.measures.metrics import BOUNDS, CONSISTENCY, METRICS
from analysis.measures.seeds import summarise_seeds
from analysis.measures.states import add_states, name_thresholds, rank_state
from analysis.showing.formats import DASH, format_count, format_mean
from analysis.showing.labels import choose_rows, name_row
from analysis.showing.tables import Table, gather_cells
from lm_eval_tasks.contracts.vocabulary import BASE, PHASES, name_set

PARTS = {"belief": "state_before", "domain": "question_domain", "subject": "subject"}  # and the column of its classes
MEASURED = (*CONSISTENCY, "accuracy")
STATE_COLUMNS = (
    "answer",
    "probs_before",
    "prediction_before",
    "confidence",
    "prediction",
    "threshold",
)  # which `add_states` reads
CLASS_SCHEMA = pl.Schema(
    dict.fromkeys(GROUP, pl.String)
    | {"ratio": pl.Float64}
    | dict.fromkeys(("part", "class", "metric"), pl.String)
    | dict.fromkeys(("value", "low", "high"), pl.Float64)
    | {"n": pl.Int64, "seeds": pl.Int64, "threshold": pl.Float64}
)


def compute_classes(measures: pl.DataFrame) -> pl.DataFrame:
    """Consistency with the base model's few-shot probe, and accuracy, of each class of questions.

    The interval is over questions and takes these seeds as given (see `seeds.summarise_seeds`): Wilson's for the two shares,
    Student's t over questions, each averaged over its seeds first, for KL and the rank correlation.

    Args:
        measures: as in `study.Study`; answers of which the base model was not asked before are left out.

    Returns:
        `CLASS_SCHEMA`: a row a condition, phase, evaluation set, class and metric, of the tuned models, and of the base model
        in its other phases. Infinite KLs are left out of its mean, which then has a smaller `n`; questions without a subject
        are left out of that part. n: different questions. seeds: 0 for the base model. threshold: of beliefs (see `states`).
    """
    asked = measures.select(*GROUP, *QUESTION, "run", "subject", *MEASURED, *STATE_COLUMNS)
    asked = add_states(asked.filter(pl.col("kl_nats").is_not_null()))
    who, questions = (asked.select(names).unique(maintain_order=True) for names in ((*GROUP, "threshold"), QUESTION))
    # Numbers instead of names: the same groups are made for every part.
    asked = (
        asked.join(who.with_row_index("_who"), on=GROUP, nulls_equal=True, maintain_order="left")
        .join(questions.with_row_index("_question"), on=QUESTION, maintain_order="left")
        .select("_who", "_question", "run", *PARTS.values(), *MEASURED)
    )
    frames = []
    for part, column in PARTS.items():
        held = asked.filter(pl.col(column).is_not_null())
        means = summarise_seeds(held, ["_who", column], ["_question"], {metric: BOUNDS[metric] for metric in MEASURED})
        named = means.rename({column: "class"}).with_columns(part=pl.lit(part)).join(who.with_row_index("_who"), on="_who")
        frames.append(sort_by_words(named.sort(rank_state("class") if part == "belief" else "class")))
    base = pl.when(pl.col("condition") == BASE).then(0).otherwise("seeds")
    return pl.concat(frames).with_columns(seeds=base).select(pl.col(name).cast(kind) for name, kind in CLASS_SCHEMA.items())


def tabulate_classes(classes: pl.DataFrame, part: str = "belief", phase: str = "tuned_chat") -> Table:
    """One part of one base model and one trained domain in one phase: a row a condition, evaluation set and class.

    Args:
        classes: as `compute_classes` gives it.
        part: `belief` or `domain`.
        phase: of the tuned models; the base model's chat prompt stands above them.
    """
    key = ("condition", "ratio", "phase", "split", "class")
    body = []
    for (condition, ratio, row_phase, split, name), by in gather_cells(
        choose_rows(classes.filter(part=part), phase), key
    ).items():
        whole = by["accuracy"]
        numbers = [_write_cell(by.get(metric), whole["n"]) for metric in MEASURED]
        counts = [f"{whole['n']:,}", format_count(whole["seeds"])]
        body.append([name_row(condition, ratio, row_phase), name_set(split), name, *numbers, *counts])
    words = {
        "belief": "Before: what the base model's few-shot probe of the question was: right or wrong with a probability above "
        f"{name_thresholds(classes['threshold'])}, else unsure.",
        "domain": "Asked: the domain of the questions that were asked.",
    }
    note = (
        f"{words[part]} KL, rank correlation and same answer compare with the base model's few-shot probe. Mean over seeds, "
        "with 95% intervals over questions (seeds taken as given): Wilson's for shares, Student's t (corrected for "
        "skewness) for the others. n: different questions; an n beside a KL: that of the questions whose KL is finite."
    )
    title = f"Consistency by {'what was believed before' if part == 'belief' else 'the domain asked'}, {PHASES[phase]}"
    header = ["trained on", "split", "before" if part == "belief" else "asked"]
    header += [*(METRICS[metric].header for metric in MEASURED), "n", "seeds"]
    return Table(f"classes-{part}-{phase}", title, header, body, note, left=3)


def _write_cell(row: dict | None, n: int) -> str:
    if row is None:
        return DASH
    other = f" (n = {row['n']:,})" if row["n"] != n else ""
    return f"{format_mean(row)}{other}"


CHAPTER = Chapter(
    compute=lambda whole: Computed({"classes": compute_classes(whole.study.measures)}),
    heading=BELIEFS,
    tables=lambda part: [
        tabulate_classes(part.frames["classes"], name, phase) for name in ("belief", "domain") for phase in part.phases
    ],
)
