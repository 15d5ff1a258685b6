"""Whether a sample log holds all that was asked, and nothing twice. Imports neither torch nor lm_eval."""

from pathlib import Path

import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.results import count_asked


def check_whole(tasks: pl.Series, ids: pl.Series, file: Path) -> None:
    """Raise a `UserError` where a log holds two tasks, a sample twice, or not all samples.

    lm-eval counts the questions that it asks: `doc_id` 0, 1, 2, ... with or without --limit. With --samples the chosen numbers
    have gaps, and then only lm-eval's own result file, beside the log, can tell that all is there. That file also tells when
    the last lines of a log are missing.

    Args:
        tasks: the task of each sample, (n,).
        ids: its `doc_id`, (n,).
        file: the log.
    """
    task = tasks[0]
    if (others := (tasks != task).arg_true()).len():
        line = others[0]
        raise UserError(
            f"{file}: mixed tasks: line 1 is a sample of {task}, line {line + 1} of {tasks[line]}. Keep a log for each task."
        )
    if (again := (~ids.is_first_distinct()).arg_true()).len():
        line, first = again[0], (ids == ids[again[0]]).arg_max()
        raise UserError(
            f"{file}, line {line + 1}: a duplicate: doc_id {ids[line]} is also in line {first + 1}. Remove one of them, or "
            "keep the logs of two runs in two files."
        )
    asked, results = count_asked(file, task)
    gaps = (ids.sort() != pl.int_range(len(ids), eager=True)).arg_true()
    gap = gaps[0] if gaps.len() else None
    if asked == len(ids) or (asked is None and gap is None):
        return
    what = f"doc_id {gap} is missing" if gap is not None else f"the last doc_id is {ids.max()}"
    if asked is not None:
        raise UserError(
            f"{file} holds {len(ids)} samples, but {results.name} counts {asked} ({what}): the log has a gap. Ask again."
        )
    raise UserError(
        f"{file}: {what}, so the log has a gap. Ask again; if only some questions were asked (--samples), keep lm-eval's "
        "results_*.json beside the log, which tells that it is whole."
    )
