"""Where a report's numbers come from: its runs with their inputs, settings and versions, and how much was asked."""

from pathlib import Path
from typing import Any

import polars as pl

from analysis.measures.keys import CONDITION, QUESTION
from analysis.reading.scores import tell_score
from analysis.reading.study import Study
from lm_eval_tasks.contracts.public import make_public
from lm_eval_tasks.contracts.vocabulary import name_condition


def count_study(study: Study, model: str, domain: str) -> dict[str, Any]:
    """The numbers of the pipeline picture."""
    runs = study.runs.filter(model=model, domain=domain)
    asked = study.measures.filter(model=model, domain=domain)
    return {
        "runs": runs.height,
        "conditions": runs.select(CONDITION).n_unique(),
        "seeds": sorted(set(runs["seed"])),
        "source": runs["source"][0],
        "questions": asked.select(QUESTION).n_unique(),
        "before": asked.filter(run="", phase="base_probe").height,
        "after": asked.filter(pl.col("run") != "").height,
        "varied": f"{tell_varied(study, model, domain)} {tell_score(*asked.select('scoring', 'score').row(0))}".strip(),
    }


def tell_varied(study: Study, model: str, domain: str) -> str:
    """What differs between seeds, and so is part of the intervals over seeds; by the hashes of what was trained on."""
    rows: dict[tuple, set[str | None]] = {}
    runs = zip(study.runs.iter_rows(named=True), study.manifests, strict=True)
    own = [(row, manifest) for row, manifest in runs if (row["model"], row["domain"]) == (model, domain)]
    for row, manifest in own:
        rows.setdefault((row["condition"], row["ratio"]), set()).add(manifest.get("inputs", {}).get("dataset"))
    seeds = {row["seed"] for row, _ in own}
    if len(seeds) < 2:
        return "One seed: nothing was varied, and the intervals say nothing of another training."
    varied = sum(len(hashes) > 1 for hashes in rows.values())
    if not varied:
        return (
            "With the seed the order of the rows in training varied, and what training itself leaves to chance. Which "
            "questions were trained on did not: the intervals say nothing of another draw of them."
        )
    if varied == len(rows):
        shared = measure_overlap(study, model, domain)
        told = "" if shared is None else f"; two seeds of a condition share {shared:.0%} of theirs"
        return f"With the seed the questions that were trained on varied, and their order{told}."
    return f"With the seed the order of the rows in training varied; of {varied} of {len(rows)} conditions the rows too."


def measure_overlap(study: Study, model: str, domain: str) -> float | None:
    """The share of its trained questions that a run shares with another seed of its condition, on average; by what was asked
    again (`seen`), None where that was not.
    """
    seen = study.measures.filter(pl.col("run") != "", model=model, domain=domain, split="seen")
    runs = seen.group_by(CONDITION).agg(rows=pl.len(), others=pl.col("run").n_unique() - 1)
    possible = runs.select(pl.col("rows") * pl.col("others")).sum().item()
    key = [*CONDITION, *QUESTION]
    asked = seen.select(*key, "run").unique()
    both = asked.join(asked, on=key, nulls_equal=True, suffix="_other").filter(pl.col("run") != pl.col("run_other"))
    return both.height / possible if possible else None


def collect_provenance(study: Study) -> dict[str, Any]:
    """Where the numbers come from: runs with their inputs, the settings that all share, and the versions."""
    configs = [manifest["config"] for manifest in study.manifests]
    told = ("domain", "source", "condition", "ratio", "seed", "dataset_config")
    shared = {key: value for key, value in configs[0].items() if key not in told and all(c.get(key) == value for c in configs)}
    versions: dict[str, set[str]] = {}
    for manifest in study.manifests:
        for package, version in manifest.get("versions", {}).items():
            versions.setdefault(package, set()).add(version)
    runs = [
        {
            "run": row["run"],
            "label": name_condition(row["condition"], row["ratio"]),
            "domain": row["domain"],
            "seed": row["seed"],
        }
        | {"model": row["model"], "folder": Path(row["folder"]).name, "inputs": manifest.get("inputs", {})}
        for row, manifest in zip(study.runs.iter_rows(named=True), study.manifests, strict=True)
    ]
    told = {"runs": runs, "shared": shared, "versions": {name: ", ".join(sorted(v)) for name, v in sorted(versions.items())}}
    return make_public(told)


def name_inputs(provenance: dict[str, Any]) -> dict[str, str]:
    """What a report's own manifest names as its inputs: the id of every run."""
    return {f"{run['model']} {run['domain']} {run['label']} seed {run['seed']}": run["run"] for run in provenance["runs"]}
