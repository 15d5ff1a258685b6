"""What of the divergence from base to tuned models is a change of letter prior (see `measures.priors`), over a study."""

import polars as pl

from analysis.chapters.chapter import PROMPTS, Chapter, Computed, Whole
from analysis.measures.keys import CONDITION, PART, QUESTION, name_run, sort_by_words
from analysis.measures.priors import BOUNDS, PARTS, are_finite, divide_letters
from analysis.measures.seeds import summarise_seeds
from analysis.reading.letters import Letterings
from analysis.reading.sets import find_set
from analysis.showing.formats import format_mean
from analysis.showing.tables import Table, gather_cells
from lm_eval_tasks.contracts.vocabulary import name_condition, name_set

# The phases before and after, and what a table calls the two.
COMPARED = {
    ("base_probe", "tuned_probe"): "few-shot to few-shot",
    ("base_chat", "tuned_chat"): "chat prompt to chat prompt",
    ("base_probe", "tuned_chat"): "few-shot to chat prompt",
}
GROUP = (*PART, *CONDITION, "phase_before", "phase", "split")
PRIOR_SCHEMA = pl.Schema(
    dict.fromkeys(GROUP, pl.String)
    | {"ratio": pl.Float64, "metric": pl.String}
    | dict.fromkeys(("value", "low", "high"), pl.Float64)
    | dict.fromkeys(("n", "seeds"), pl.Int64)
)


def compute_prior_parts(letterings: Letterings, runs: pl.DataFrame, evaluation_set: pl.Expr) -> tuple[pl.DataFrame, list[str]]:
    """The parts of the divergence from base to tuned models, by condition, comparison (`COMPARED`) and evaluation set.

    The mean over seeds of each seed's own mean; the interval is Student's t over questions and takes these seeds as given (see
    `seeds.summarise_seeds`).

    Args:
        letterings: what models said letter by letter, as `letters.read_letterings` gives it.
        runs: `runs.RUN_SCHEMA`.
        evaluation_set: of a question; null for what is not evaluated (see `sets.find_set`).

    Returns:
        `PRIOR_SCHEMA`, and sentences on what is not given and why. n: different questions.
    """
    frames, notes = [], []
    for run in runs.iter_rows(named=True):
        for (phase_before, phase), words in COMPARED.items():
            before, after = letterings.get((run["base"], phase_before)), letterings.get((run["run"], phase))
            if not before or not after:
                continue
            names = {name: run[name] for name in ("run", "model", "condition", "ratio", "seed")}
            names |= {"trained_domain": run["domain"], "trained_source": run["source"]}
            names |= {"phase_before": phase_before, "phase": phase}
            parts = divide_letters(before, after)
            if not parts.height:
                notes.append(
                    f"The letter prior's part of KL is not given for {name_run(run)}, {words}: no question was asked of both "
                    "in every order."
                )
            kinds = {"ratio": pl.Float64, "seed": pl.Int64}
            literals = (pl.lit(value, kinds.get(name, pl.String)).alias(name) for name, value in names.items())
            frames.append(parts.with_columns(literals).with_columns(evaluation_set.alias("split")))
    if not frames:
        return PRIOR_SCHEMA.to_frame(), notes
    parts = pl.concat(frames).filter(pl.col("split").is_not_null())
    parts = parts.rename({"domain": "question_domain", "trained_domain": "domain"})
    infinite = parts.filter(~are_finite()).group_by(*GROUP, "seed").len().sort(rank_comparison())
    notes += [
        f"{row['len']:,} questions of {name_run(row)}, {COMPARED[row['phase_before'], row['phase']]} ({row['split']}) have an "
        "infinite KL in some order of their choices, and are left out of the letter prior's part."
        for row in sort_by_words(infinite).iter_rows(named=True)
    ]
    means = summarise_seeds(parts.filter(are_finite()), GROUP, QUESTION, BOUNDS)
    rank = pl.col("metric").replace_strict(PARTS, range(len(PARTS)))
    means = sort_by_words(means.sort(rank).rename({"metric": "part"})).rename({"part": "metric"})  # parts stay together
    means = means.sort(*PART, rank_comparison(), maintain_order=True)
    return means.select(pl.col(name).cast(kind) for name, kind in PRIOR_SCHEMA.items()), notes


def rank_comparison() -> pl.Expr:
    """Where the columns `phase_before` and `phase` stand in `COMPARED`."""
    order = [f"{before} {after}" for before, after in COMPARED]
    return pl.concat_str("phase_before", pl.lit(" "), "phase").replace_strict(order, range(len(order)))


def tabulate_prior_parts(parts: pl.DataFrame) -> Table:
    """The parts of one base model and one trained domain: a row a comparison, condition and evaluation set."""
    cells = gather_cells(parts, ("condition", "ratio", "phase_before", "phase", "split"))
    body = []
    for (condition, ratio, phase_before, phase, split), by in cells.items():
        counts = [f"{by['rest']['n']:,}", str(by["rest"]["seeds"])]
        words = [name_condition(condition, ratio), COMPARED[phase_before, phase], name_set(split)]
        body.append([*words, *(format_mean(by[part]) for part in PARTS), *counts])
    note = (
        "KL(before || after) in nats in each order of the choices on its own, mean over orders. The letter prior's part: what "
        "goes when the answers after training get back the letter prior from before; it may be negative. The rest: what stays. "
        "Priors: PriDe, from the questions that were asked in every order of their choices. Mean over seeds with its 95% "
        "interval over questions (Student's t, seeds taken as given). n: different questions."
    )
    header = ["trained on", "before to after", "split", "KL, nats", "letter prior's part", "the rest", "n", "seeds"]
    return Table("letter-priors", "How much of the divergence is a change of letter prior", header, body, note, left=3)


def compute_chapter(whole: Whole) -> Computed:
    """The parts of the divergence of a study; its gaps say what is not given."""
    parts, notes = compute_prior_parts(whole.study.letterings, whole.study.runs, find_set())
    return Computed({"prior_parts": parts}, notes)


CHAPTER = Chapter(
    compute=compute_chapter,
    heading=PROMPTS,
    tables=lambda part: [tabulate_prior_parts(part.frames["prior_parts"])],
)
