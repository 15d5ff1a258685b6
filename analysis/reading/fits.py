"""How far runs fitted their own rows, as training wrote it beside the model (`fit.json`)."""

import json
from pathlib import Path

import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import FIT

FIT_SCHEMA = pl.Schema(
    {
        "run": pl.String,
        "steps": pl.Int64,
        "steps_an_epoch": pl.Int64,
        "level": pl.Float64,  # the share of own rows that counts as a fit
        "steps_to_fit": pl.Int64,  # null where it never was reached
        "given": pl.Float64,  # share of own rows in the last epoch
        "loss_nats": pl.Float64,
        "reached": pl.Boolean,  # null where the run was not to train until something
    }
)


def read_fits(runs: pl.DataFrame) -> pl.DataFrame:
    """`FIT_SCHEMA`, a row a run that says how far it fitted; runs of earlier versions say nothing.

    Raises:
        UserError: a file that is no such record.
    """
    rows = []
    for run, folder in runs.select("run", "folder").iter_rows():
        file = Path(folder, FIT)
        if not file.is_file():
            continue
        try:
            rows.append({"run": run} | {name: json.loads(file.read_text())[name] for name in FIT_SCHEMA if name != "run"})
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} is no record of a fit ({error!r}). Train the run again.") from error
    try:
        return pl.DataFrame(rows, schema=FIT_SCHEMA)
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise UserError(
            f"{FIT} of a run has a value of another type: {' '.join(str(error).split())}. Train it again."
        ) from error
