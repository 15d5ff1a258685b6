"""The csv files in which the authors of MMLU, CMMLU and C-Eval publish them: a folder a split, in it a file a subject.

`data/dev/abstract_algebra_dev.csv` (MMLU, without a header), `dev/agronomy.csv` (CMMLU), `dev/law_dev.csv` (C-Eval).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from lm_eval_tasks.contracts.errors import UserError

HEADERLESS = ("question", "A", "B", "C", "D", "answer")  # the columns of files without a header


@dataclass(frozen=True)
class Files:
    """How a benchmark's files are named and what they hold."""

    splits: dict[str, str]  # the Hub's name of a split -> its folder
    ending: str  # of a file's name, after the subject
    header: bool = True


FILES = {
    "mmlu": Files({"dev": "dev", "validation": "val", "test": "test"}, "_{}.csv", header=False),
    "cmmlu": Files({"dev": "dev", "test": "test"}, ".csv"),
    "ceval": Files({"dev": "dev", "val": "val", "test": "test"}, "_{}.csv"),
}


def find_root(name: str, path: str | Path) -> Path | None:
    """The folder that holds a benchmark's folders of csv files, `path` or `path/data`; None where neither does."""
    for root in (Path(path), Path(path) / "data"):
        if any(next((root / split).glob("*.csv"), None) for split in FILES[name].splits.values()):
            return root
    return None


def read_classic(
    name: str, root: Path, split: str, columns: Sequence[str], optional: Sequence[str] = (), subjects: Sequence[str] = ()
) -> pl.DataFrame:
    """The rows of a split, as text, with their `subject`.

    Args:
        name: of the benchmark, a key of `FILES`.
        root: what `find_root` gives.
        split: as the Hub calls it.
        columns: of question, choices and answer.
        optional: further columns, null where a file lacks one.
        subjects: those to read; all that are there where empty.

    Raises:
        UserError: a file is not there, cannot be read, or lacks a column.
    """
    layout = FILES[name]
    folder = root / layout.splits[split]
    ending = layout.ending.format(layout.splits[split])
    there = [file.name.removesuffix(ending) for file in sorted(folder.glob(f"*{ending}"))]
    if not there:
        raise UserError(f"{folder} holds no files *{ending}, which are {name}'s {split} questions. Fetch them too.")
    if missing := [subject for subject in subjects if subject not in there]:
        raise UserError(
            f"{folder / (missing[0] + ending)} does not exist. Fetch it too, or name the subjects that are there as domains: "
            f"{', '.join(there)}."
        )
    files = {subject: folder / f"{subject}{ending}" for subject in subjects or there}
    return pl.concat(
        _read_file(file, layout, columns, optional).with_columns(subject=pl.lit(subject)) for subject, file in files.items()
    )


def _read_file(file: Path, layout: Files, columns: Sequence[str], optional: Sequence[str]) -> pl.DataFrame:
    try:
        table = pl.read_csv(file, infer_schema=False, has_header=layout.header)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{file} cannot be read as a CSV file: {str(error).strip().splitlines()[0]}") from error
    if not layout.header:
        if table.width != len(HEADERLESS):
            raise UserError(f"{file} has {table.width} columns, but they are {', '.join(HEADERLESS)}. Fetch it again.")
        table.columns = HEADERLESS
    if missing := [name for name in columns if name not in table.columns]:
        raise UserError(f"{file} has no column {missing[0]!r}; it has {', '.join(table.columns)}.")
    more = [pl.col(name) if name in table.columns else pl.lit(None, pl.String).alias(name) for name in optional]
    return table.select(*columns, *more)
