"""Which samples are those of the base model that a run names, and where they count."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from lm_eval_tasks.contracts.vocabulary import BASE


def match_bases(probes: pl.DataFrame, runs: pl.DataFrame) -> dict[str, str | None]:
    """For each base model that a run names, the name it has in the samples (the same, or the same last part), or None.

    A name with the same last part counts where it can be meant by one base model only.
    """
    alike = find_alike(probes, runs)
    meant = [names[0] for names in alike.values() if len(names) == 1]
    return {model: names[0] if len(names) == 1 == meant.count(names[0]) else None for model, names in alike.items()}


def find_alike(probes: pl.DataFrame, runs: pl.DataFrame) -> dict[str, list[str]]:
    """For each base model that a run names, the names in the samples that may be its: its own, else those of like last part."""
    asked, named = sorted(probes.filter(run="")["asked_model"].unique()), sorted(runs["base"].unique())
    return {
        model: [model] if model in asked else [n for n in asked if Path(n).name == Path(model).name and n not in named]
        for model in named
    }


def spread_base(
    probes: pl.DataFrame, runs: pl.DataFrame, bases: Mapping[str, str | None], noun: str = "samples"
) -> tuple[pl.DataFrame, list[str]]:
    """The base model's samples, once for every domain that a run was trained in, as rows of condition `base`; and gaps.

    Gaps call the samples `noun`.
    """
    named, gaps = find_alike(probes, runs), []
    for model in (model for model, name in bases.items() if not name):
        alike = " or ".join(named[model])
        told = f"may be {alike}: keep the {noun} of one. Till then" if alike else f"has no {noun}, so"
        gaps.append(f"Base model {model} {told} its runs are compared with nothing.")
    asked = probes.filter(pl.col("run") == "", pl.col("phase").str.starts_with("base"))
    used = {name for name in bases.values() if name}
    gaps += [
        f"No run was trained from {m}, of which there are {noun}; left out." for m in sorted(set(asked["asked_model"]) - used)
    ]
    trained = (
        runs.select("model", "base", "threshold", trained_domain="domain", trained_source="source")
        .unique(maintain_order=True)
        .with_columns(
            asked_model=pl.col("base").replace_strict(bases, return_dtype=pl.String),
            condition=pl.lit(BASE),
            ratio=pl.lit(None, pl.Float64),
            seed=pl.lit(None, pl.Int64),
        )
    )
    return asked.join(trained.drop("base"), on="asked_model"), gaps
