"""lm-eval's own result file, which stands beside the sample logs of the same run. Imports neither torch nor lm_eval."""

import json
from collections.abc import Iterator, Sequence
from glob import escape
from pathlib import Path
from typing import Any

from lm_eval_tasks.contracts.errors import UserError


def find_results(log: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The result files of the run that wrote a sample log, and what they hold; those that cannot be read are passed over."""
    date = log.name.removesuffix(".gz").removesuffix(".jsonl").rpartition("_")[2]
    for file in sorted(log.parent.glob(f"*_{escape(date)}.json")):
        try:
            results = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(results, dict):
            yield file, results


def count_asked(file: Path, task: str) -> tuple[int | None, Path | None]:
    """How many questions lm-eval's result file of the same run says that it asked, and that file; None where there is none."""
    for found, results in find_results(file):
        try:
            return int(results["n-samples"][task]["effective"]), found
        except (ValueError, KeyError, TypeError):
            continue
    return None, None


def find_revision(logs: Sequence[Path]) -> str | None:
    """The commit of the model on the Hub that sample logs are of; None for a local model, or where no result file is there.

    Raises:
        UserError: they are of two.
    """
    found: dict[str, Path] = {}
    for log in logs:
        for file, results in find_results(log):
            config = results.get("config")
            if isinstance(config, dict) and (commit := config.get("model_sha")):
                found.setdefault(str(commit), file)
    if len(found) > 1:
        (one, first), (two, second) = list(found.items())[:2]
        raise UserError(f"{first} and {second} are of two revisions of the model, {one} and {two}. Name the logs of one.")
    return next(iter(found), None)
