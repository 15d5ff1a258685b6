"""How far answers moved by class of question: what was believed before training, the asked domain, the asked subject."""

import polars as pl

from analysis.chapters.transitions import choose_rows, name_row
from analysis.measures.intervals import BOUNDS
from analysis.measures.seeds import summarise_seeds
from analysis.measures.states import STATES, THRESHOLD, add_states
from analysis.showing.labels import BASE, GROUP, PHASES, QUESTION, name_split, sort_by_words
from analysis.showing.tables import DASH, Table, format_count, format_interval, format_number

PARTS = {"belief": "state_before", "domain": "question_domain", "subject": "subject"}  # and the column of its classes
METRICS = {
    "kl_nats": "KL, nats",
    "rank_pearson": "rank corr.",
    "top1_agreement": "same answer",
    "accuracy": "accuracy",
}
STATE_COLUMNS = ("answer", "probs_before", "prediction_before", "confidence", "prediction")  # which `add_states` reads
CLASS_SCHEMA = pl.Schema(
    dict.fromkeys(GROUP, pl.String)
    | {"ratio": pl.Float64}
    | dict.fromkeys(("part", "class", "metric"), pl.String)
    | dict.fromkeys(("value", "low", "high"), pl.Float64)
    | dict.fromkeys(("n", "seeds"), pl.Int64)
)


def compute_classes(measures: pl.DataFrame) -> pl.DataFrame:
    """Consistency with the base model's few-shot probe, and accuracy, of each class of questions.

    The interval is over questions and takes these seeds as given (see `seeds.summarise_seeds`): Wilson's for the two shares,
    Student's t over questions, each averaged over its seeds first, for KL and the rank correlation.

    Args:
        measures: as in `results.Study`; answers of which the base model was not asked before are left out.

    Returns:
        `CLASS_SCHEMA`: a row a condition, phase, split, class and metric, of the tuned models, and of the base model in its
        other phases. Infinite KLs are left out of its mean, which then has a smaller `n`; questions without a subject are left
        out of that part. n: different questions. seeds: 0 for the base model.
    """
    asked = measures.select(*GROUP, *QUESTION, "run", "subject", *METRICS, *STATE_COLUMNS)
    asked = add_states(asked.filter(pl.col("kl_nats").is_not_null()))
    who, questions = (asked.select(names).unique(maintain_order=True) for names in (GROUP, QUESTION))
    # Numbers instead of names: the same groups are made for every part.
    asked = (
        asked.join(who.with_row_index("_who"), on=GROUP, nulls_equal=True, maintain_order="left")
        .join(questions.with_row_index("_question"), on=QUESTION, maintain_order="left")
        .select("_who", "_question", "run", *PARTS.values(), *METRICS)
    )
    frames = []
    for part, column in PARTS.items():
        held = asked.filter(pl.col(column).is_not_null())
        means = summarise_seeds(held, ["_who", column], ["_question"], {metric: BOUNDS[metric] for metric in METRICS})
        named = means.rename({column: "class"}).with_columns(part=pl.lit(part)).join(who.with_row_index("_who"), on="_who")
        place = pl.col("class").replace_strict(STATES, range(len(STATES)), default=None)
        frames.append(sort_by_words(named.sort(place if part == "belief" else "class")))
    base = pl.when(pl.col("condition") == BASE).then(0).otherwise("seeds")
    return pl.concat(frames).with_columns(seeds=base).select(pl.col(name).cast(kind) for name, kind in CLASS_SCHEMA.items())


def tabulate_classes(classes: pl.DataFrame, part: str = "belief", phase: str = "tuned_chat") -> Table:
    """One part of one base model and one trained domain in one phase: a row a condition, split and class.

    Args:
        classes: as `compute_classes` gives it.
        part: `belief` or `domain`.
        phase: of the tuned models; the base model's chat prompt stands above them.
    """
    rows: dict[tuple, dict[str, dict]] = {}
    for row in choose_rows(classes.filter(part=part), phase).iter_rows(named=True):
        key = row["condition"], row["ratio"], row["phase"], row["split"], row["class"]
        rows.setdefault(key, {})[row["metric"]] = row
    body = []
    for (condition, ratio, row_phase, split, name), by in rows.items():
        whole = by["accuracy"]
        cells = [_write_cell(by.get(metric), whole["n"]) for metric in METRICS]
        counts = [f"{whole['n']:,}", format_count(whole["seeds"])]
        body.append([name_row(condition, ratio, row_phase), name_split(split), name, *cells, *counts])
    words = {
        "belief": f"Before: what the base model's few-shot probe of the question was: right or wrong with a probability above "
        f"{THRESHOLD:g}, else unsure.",
        "domain": "Asked: the domain of the questions that were asked.",
    }
    note = (
        f"{words[part]} KL, rank correlation and same answer compare with the base model's few-shot probe. Mean over seeds, "
        "with 95% intervals over questions (seeds taken as given): Wilson's for shares, Student's t for the others. n: "
        "different questions; an n beside a KL: that of the questions whose KL is finite."
    )
    title = f"Consistency by {'what was believed before' if part == 'belief' else 'the domain asked'}, {PHASES[phase]}"
    header = ["trained on", "split", "before" if part == "belief" else "asked", *METRICS.values(), "n", "seeds"]
    return Table(f"classes-{part}-{phase}", title, header, body, note, left=3)


def _write_cell(row: dict | None, n: int) -> str:
    if row is None:
        return DASH
    other = f" (n = {row['n']:,})" if row["n"] != n else ""
    return f"{format_number(row['value'])} {format_interval(row)}{other}"
