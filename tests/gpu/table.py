"""The table of what checks found, in markdown and as JSON lines."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tabulate import tabulate

from lm_eval_tasks.contracts.files import write_file
from tests.gpu.bench import Row
from tests.gpu.checks import Check

HELD, FAILED, BROKE, STOPPED, NOT_RUN = "held", "a claim failed", "broke", "stopped", "not run"
JUDGED = {True: "yes", False: "**no**", None: "not judged on a CPU"}


@dataclass
class Result:
    """What became of a check."""

    check: Check
    status: str
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        """Whether it held, or was not run."""
        return self.status == HELD or self.status.startswith(NOT_RUN)


def write_results(results: Sequence[Result], output: Path, tiny: bool) -> None:
    """Write `table.md` and `rows.jsonl` of all results so far; neither ever stands half-written."""
    with write_file(output / "table.md") as file:
        file.write_text(write_table(results, tiny))
    with write_file(output / "rows.jsonl") as file:
        lines = [{"check": result.check.name} | row for result in results for row in [_tell(result), *result.rows]]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _tell(result: Result) -> Row:
    return {"status": result.status, "seconds": round(result.seconds, 1)}


def write_table(results: Sequence[Result], tiny: bool) -> str:
    """What became of the checks, their claims, then the figures of each."""
    title = "# Rehearsed on a CPU with tiny models: no speed in it means anything" if tiny else "# Measured on a GPU"
    parts = [title, _format([{"check": one.check.name, "asks": one.check.asks} | _tell(one) for one in results])]
    claims = [{"check": one.check.name} | row for one in results for row in one.rows if "claim" in row]
    if claims:
        parts += ["## Claims", _format([claim | {"holds": JUDGED[claim["holds"]]} for claim in claims])]
    for result in results:
        # A table for each set of columns, in the order in which they were met.
        alike: dict[tuple[str, ...], list[Row]] = {}
        for row in result.rows:
            if "claim" not in row:
                alike.setdefault(tuple(row), []).append(row)
        if alike:
            parts += [f"## {result.check.name}: {result.check.asks}", *map(_format, alike.values())]
    return "\n\n".join(parts) + "\n"


def _format(rows: Sequence[Row]) -> str:
    cells = [{name: _show(value) for name, value in row.items()} for row in rows]
    return tabulate(cells, headers="keys", floatfmt=".3g", tablefmt="github")


def _show(value: object) -> object:
    if isinstance(value, str):
        return value.replace("|", "\\|")
    return f"{value:,}" if type(value) is int else value
