"""What of the divergence from base to tuned models is a change of letter prior (see `measures.priors`), over a study."""

from collections.abc import Mapping

import polars as pl

from analysis.measures.priors import BOUNDS, PARTS, Letters, are_finite, read_letters, split_letters
from analysis.measures.seeds import summarise_seeds
from analysis.showing.labels import PHASES, name_condition, name_run, name_split, sort_by_words
from analysis.showing.tables import Table, format_interval, format_number
from lm_eval_tasks.contracts.vocabulary import KEY

# The phases before and after, and what a table calls the two.
COMPARED = {
    ("base_probe", "tuned_probe"): "few-shot to few-shot",
    ("base_chat", "tuned_chat"): "chat prompt to chat prompt",
    ("base_probe", "tuned_chat"): "few-shot to chat prompt",
}
GROUP = ("model", "domain", "condition", "ratio", "phase_before", "phase", "split")
PRIOR_SCHEMA = pl.Schema(
    dict.fromkeys(GROUP, pl.String)
    | {"ratio": pl.Float64, "metric": pl.String}
    | dict.fromkeys(("value", "low", "high"), pl.Float64)
    | dict.fromkeys(("n", "seeds"), pl.Int64)
)


def compute_prior_parts(
    probes: pl.DataFrame, runs: pl.DataFrame, bases: Mapping[str, str | None], split: pl.Expr
) -> tuple[pl.DataFrame, list[str]]:
    """The parts of the divergence from base to tuned models, by condition, comparison (`COMPARED`) and split.

    The mean over seeds of each seed's own mean; the interval is Student's t over questions and takes these seeds as given (see
    `seeds.summarise_seeds`).

    Args:
        probes: all samples of a study, not averaged over orders and draws.
        runs: `runs.RUN_SCHEMA`.
        bases: the name in the samples of each base model that a run names; None where it has no samples.
        split: the split of an evaluation, of the columns `source`, `domain`, `split` and `run` of a question, and
            `trained_source` and `trained_domain`; null for what is not evaluated.

    Returns:
        `PRIOR_SCHEMA`, and sentences on what is not given and why. n: different questions.
    """
    sides, notes = read_sides(probes, runs, bases)
    frames = []
    for run in runs.iter_rows(named=True):
        for (phase_before, phase), words in COMPARED.items():
            before, after = sides.get((bases[run["model"]], phase_before)), sides.get((run["run"], phase))
            if not before or not after:
                continue
            names = {name: run[name] for name in ("run", "model", "condition", "ratio", "seed")}
            names |= {"trained_domain": run["domain"], "trained_source": run["source"]}
            names |= {"phase_before": phase_before, "phase": phase}
            parts = split_letters(before, after)
            if not parts.height:
                notes.append(
                    f"The letter prior's part of KL is not given for {name_run(run)}, {words}: no question was asked of both "
                    "in every order."
                )
            kinds = {"ratio": pl.Float64, "seed": pl.Int64}
            literals = (pl.lit(value, kinds.get(name, pl.String)).alias(name) for name, value in names.items())
            frames.append(parts.with_columns(literals).with_columns(split.alias("split")))
    if not frames:
        return PRIOR_SCHEMA.to_frame(), notes
    parts = pl.concat(frames).filter(pl.col("split").is_not_null())
    parts = parts.rename({"domain": "question_domain", "trained_domain": "domain"})
    infinite = parts.filter(~are_finite()).group_by(*GROUP, "seed").len().sort(place_comparison())
    notes += [
        f"{row['len']:,} questions of {name_run(row)}, {COMPARED[row['phase_before'], row['phase']]} ({row['split']}) have an "
        "infinite KL in some order of their choices, and are left out of the letter prior's part."
        for row in sort_by_words(infinite).iter_rows(named=True)
    ]
    question = ("source", "question_domain", "id")
    means = summarise_seeds(parts.filter(are_finite()), GROUP, question, BOUNDS)
    place = pl.col("metric").replace_strict(PARTS, range(len(PARTS)))
    means = sort_by_words(means.sort(place).rename({"metric": "part"})).rename({"part": "metric"})  # parts stay together
    means = means.sort("model", "domain", place_comparison(), maintain_order=True)
    return means.select(pl.col(name).cast(kind) for name, kind in PRIOR_SCHEMA.items()), notes


def place_comparison() -> pl.Expr:
    """The place in `COMPARED` of the columns `phase_before` and `phase`."""
    order = [f"{before} {after}" for before, after in COMPARED]
    return pl.concat_str("phase_before", pl.lit(" "), "phase").replace_strict(order, range(len(order)))


def read_sides(
    probes: pl.DataFrame, runs: pl.DataFrame, bases: Mapping[str, str | None]
) -> tuple[dict[tuple[str, str], dict[int, Letters]], list[str]]:
    """`read_letters` of every base model (by its name) and run (by its id) in each phase; and sentences on what is left out."""
    names = {run["run"]: name_run(run) for run in runs.iter_rows(named=True)} | {name: name for name in bases.values() if name}
    columns = ("scoring", *KEY, "order", "draw", "split", "question_hash", "loglikelihoods", "probs")
    who = pl.when(pl.col("run") == "").then("model").otherwise("run").alias("_who")
    fits = (pl.col("run") == "") == pl.col("phase").str.starts_with("base")
    asked = probes.lazy().filter(fits, pl.col("phase").is_in({phase for pair in COMPARED for phase in pair}))
    tables = asked.select(who, "phase", *columns).collect().partition_by("_who", "phase", as_dict=True)
    sides, lacking = {}, {}
    for (name, phase), table in tables.items():
        if name in names:
            sides[name, phase], obstacles = read_letters(table)
            for told in obstacles:
                lacking.setdefault(told, []).append(f"{names[name]} ({PHASES[phase]})")
    notes = [
        f"The letter prior's part of KL is not given: every model {told}."
        if len(where) == len(sides)
        else f"The letter prior's part of KL has gaps where a model {told}: {'; '.join(where)}."
        for told, where in lacking.items()
    ]
    return sides, notes


def tabulate_prior_parts(parts: pl.DataFrame) -> Table:
    """The parts of one base model and one trained domain: a row a comparison, condition and split."""
    rows: dict[tuple, dict[str, dict]] = {}
    for row in parts.iter_rows(named=True):
        key = row["condition"], row["ratio"], row["phase_before"], row["phase"], row["split"]
        rows.setdefault(key, {})[row["metric"]] = row
    body = []
    for (condition, ratio, phase_before, phase, split), by in rows.items():
        cells = [f"{format_number(by[part]['value'])} {format_interval(by[part])}" for part in PARTS]
        counts = [f"{by['rest']['n']:,}", str(by["rest"]["seeds"])]
        words = [name_condition(condition, ratio), COMPARED[phase_before, phase], name_split(split)]
        body.append([*words, *cells, *counts])
    note = (
        "KL(before || after) in nats in each order of the choices on its own, mean over orders. The letter prior's part: what "
        "goes when the answers after training get back the letter prior from before; it may be negative. The rest: what stays. "
        "Priors: PriDe, from the questions that were asked in every order of their choices. Mean over seeds with its 95% "
        "interval over questions (Student's t, seeds taken as given). n: different questions."
    )
    header = ["trained on", "before to after", "split", "KL, nats", "letter prior's part", "the rest", "n", "seeds"]
    return Table("letter-priors", "How much of the divergence is a change of letter prior", header, body, note, left=3)
