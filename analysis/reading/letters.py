"""What every model of a study said letter by letter, where it was asked in every order of the choices."""

from collections.abc import Mapping

import polars as pl

from analysis.measures.keys import name_run
from analysis.measures.priors import Letters, read_letters
from lm_eval_tasks.contracts.vocabulary import KEY, PHASES

# By the model (a base model by its name as runs name it, a run by its id) and its phase: the letters by number of choices.
Letterings = dict[tuple[str, str], dict[int, Letters]]
ASKED_IN = [phase for phase in PHASES if not phase.endswith("context")]  # the phases whose letters are compared


def read_letterings(probes: pl.DataFrame, runs: pl.DataFrame, bases: Mapping[str, str | None]) -> tuple[Letterings, list[str]]:
    """`read_letters` of every base model and run in each phase; and sentences on what is left out.

    Args:
        probes: all samples of a study, not averaged over orders and draws.
        runs: `runs.RUN_SCHEMA`.
        bases: the name in the samples of each base model that a run names; None where it has no samples.
    """
    own = {name: model for model, name in bases.items() if name}
    names = {run["run"]: name_run(run) for run in runs.iter_rows(named=True)} | {name: name for name in own}
    columns = ("scoring", *KEY, "order", "draw", "split", "question_hash", "loglikelihoods", "probs")
    who = pl.when(pl.col("run") == "").then("model").otherwise("run").alias("_who")
    fits = (pl.col("run") == "") == pl.col("phase").str.starts_with("base")
    asked = probes.lazy().filter(fits, pl.col("phase").is_in(ASKED_IN)).select(who, "phase", *columns).collect()
    letterings, lacking = {}, {}
    for (name, phase), table in asked.partition_by("_who", "phase", as_dict=True).items():
        if name in names:
            letterings[own.get(name, name), phase], obstacles = read_letters(table)
            for told in obstacles:
                lacking.setdefault(told, []).append(f"{names[name]} ({PHASES[phase]})")
    notes = [
        f"The letter prior's part of KL is not given: every model {told}."
        if len(where) == len(letterings)
        else f"The letter prior's part of KL has gaps where a model {told}: {'; '.join(where)}."
        for told, where in lacking.items()
    ]
    return letterings, notes
