"""Where logs lie: the files at a path that hold what is asked for."""

from collections.abc import Sequence
from pathlib import Path

from lm_eval_tasks.contracts.errors import UserError


def find_files(
    path: str | Path, noun: str, lacking: str, *choices: Sequence[str], passed_over: tuple[str, ...] = ()
) -> list[Path]:
    """The file at a path, or those of a folder and the folders in it.

    Args:
        path: a file or a folder.
        noun: what a user is to name where the path does not exist: "a sample log".
        lacking: what an error says that a folder without such a file holds not, and what to do.
        choices: patterns of file names; of several choices the first that finds a file is taken.
        passed_over: files whose names begin so are none.

    Raises:
        UserError: the path does not exist, or holds none.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path} does not exist. Name {noun}, or a folder of them.")
    for patterns in choices:
        found = {file for pattern in patterns for file in path.rglob(pattern) if not file.name.startswith(passed_over)}
        if found:
            return sorted(found)
    raise UserError(f"{path} holds no {lacking}")
