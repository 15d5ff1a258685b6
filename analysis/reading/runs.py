"""The trained runs of a study: folders with a `manifest.json` of stage `train`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from analysis.measures.keys import PART, RUN_KEY, sort_by_words
from analysis.reading.arms import label_arm, name_arms
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import MANIFEST
from lm_eval_tasks.contracts.logs.rescoring import find_score
from lm_eval_tasks.contracts.manifest import read_manifest
from lm_eval_tasks.contracts.vocabulary import INSTRUCTION_DATA, SCORES, THRESHOLD

RUN_SCHEMA = pl.Schema(
    {
        "run": pl.String,
        "model": pl.String,  # the base model, and the arm where there are several (see `arms`)
        "domain": pl.String,
        "source": pl.String,
        "condition": pl.String,
        "ratio": pl.Float64,
        "seed": pl.Int64,
        "response_format": pl.String,
        "threshold": pl.Float64,  # of confidence, above which the data took a prediction for a belief
        "score": pl.String,  # which log-likelihoods of choices the data's beliefs are of
        "folder": pl.String,
        "base": pl.String,  # the base model alone
        "arm": pl.String,
    }
)
# The exact types of what a manifest says, so that true is no number.
KINDS = {pl.String: (str,), pl.Int64: (int,), pl.Float64: (int, float)}


def find_runs(folder: str | Path) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """The runs below a folder: one row each (`RUN_SCHEMA`), and their manifests in the same order.

    Raises:
        UserError: none, one twice, two alike but for their hyper-parameters, several sources or thresholds of one base model
            and domain, or a manifest that lacks what a run must say.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist. Name the folder that holds the runs and the logs of a study.")
    rows, manifests = [], []
    for file in sorted(folder.rglob(MANIFEST)):
        manifest = read_manifest(file.parent)
        if manifest and manifest["stage"] == "train" and not _is_apart(manifest):
            rows.append(_read_run(manifest, file))
            manifests.append(manifest)
    if not rows:
        raise UserError(
            f"{folder} holds no run that was trained on a condition ({MANIFEST} of stage `train`). Train with recipes/sft.py, "
            "or name another."
        )
    try:
        runs = pl.DataFrame(rows, schema=RUN_SCHEMA)
    except (TypeError, pl.exceptions.PolarsError) as error:
        told = " ".join(str(error).split())
        raise UserError(f"{folder}: a run's config is not of the contract's types ({told}). Train it again.") from error
    runs = runs.with_columns(name_arms(runs, manifests))
    runs = runs.with_columns(model=pl.struct("base", "arm").map_elements(lambda row: label_arm(**row), pl.String))
    for key, what in ((("run",), "are the same run"), (RUN_KEY, "were trained on the same condition and seed")):
        twice = runs.group_by(key, maintain_order=True).agg("folder").filter(pl.col("folder").list.len() > 1)
        if twice.height:
            raise UserError(f"{' and '.join(twice['folder'][0])} {what}. Remove one, or name a folder that holds only one.")
    if sources := _find_several(runs, "source"):
        raise UserError(
            f"{folder} holds runs of domain {sources['domain']!r} trained on {' and '.join(sources['source'])}. Report them "
            "one at a time."
        )
    if thresholds := _find_several(runs, "threshold"):
        names = " and ".join(f"{threshold:g}" for threshold in thresholds["threshold"])
        raise UserError(
            f"{folder} holds runs of domain {thresholds['domain']!r} whose data took a prediction for a belief above a "
            f"confidence of {names}. Report them one at a time."
        )
    order = sort_by_words(runs.with_row_index("_at"))
    return order.drop("_at"), [manifests[i] for i in order["_at"]]


def _find_several(runs: pl.DataFrame, column: str) -> dict[str, Any] | None:
    """The first base model and domain whose runs differ in a column, with all its values."""
    found = runs.group_by(PART).agg(pl.col(column).unique().sort()).filter(pl.col(column).list.len() > 1).sort(PART)
    return found.row(0, named=True) if found.height else None


def _is_apart(manifest: Mapping[str, Any]) -> bool:
    """Whether a run was trained on instruction data, and so on no condition that could be compared."""
    config = manifest["config"]
    return isinstance(config, dict) and config.get("condition") == INSTRUCTION_DATA


def _read_run(manifest: Mapping[str, Any], file: Path) -> dict[str, Any]:
    config = manifest["config"] if isinstance(manifest["config"], dict) else {}
    names = {name: name for name in RUN_SCHEMA if name not in ("run", "model", "folder", "base", "arm")}
    names |= {"base": "base_model"}
    said = {name: value for name, value in config.items() if value is not None or name == "ratio"}
    config = {"threshold": THRESHOLD} | said  # older manifests do not say it, which is named as a gap
    config |= {"score": find_score(config)}
    lacking = [key for key in names.values() if key not in config]
    if lacking:
        raise UserError(f"{file}: config has no {lacking[0]!r}, which a run of a study must say. Train it with recipes/sft.py.")
    row = {"run": manifest["run"], "folder": str(file.parent)} | {name: config[key] for name, key in names.items()}
    row |= {"model": row["base"], "arm": ""}
    wrong = {name: value for name, value in row.items() if type(value) not in KINDS[RUN_SCHEMA[name]]}
    wrong |= {name: manifest[name] for name in ("inputs", "versions") if not isinstance(manifest.get(name, {}), dict)}
    if row["ratio"] is None:
        del wrong["ratio"]
    for name, value in wrong.items():
        told = f"{names.get(name, name)} is {json.dumps(value)}"
        raise UserError(f"{file}: {told}, which is not of the contract's types. Train it again.")
    if (row["condition"] == "mix") != (row["ratio"] is not None) or not 0 <= (row["ratio"] or 0) <= 1:
        told = f"{row['condition']} has the ratio {json.dumps(row['ratio'])}"
        raise UserError(f"{file}: {told}; a mix has one from 0 to 1, other conditions have none. Train it again.")
    if row["score"] not in SCORES:
        told = f"score is {json.dumps(row['score'])}, which is none of {', '.join(SCORES)}"
        raise UserError(f"{file}: {told}. Train it again.")
    if not 0 <= row["threshold"] <= 1:
        raise UserError(f"{file}: threshold is {json.dumps(row['threshold'])}, which is not from 0 to 1. Train it again.")
    return row
