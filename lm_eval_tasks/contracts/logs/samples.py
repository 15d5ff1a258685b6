"""The one reader of probes: lm-eval's sample logs and probe tables, plain or gzip, files or folders, as one table.

A question may have been shown with its choices rotated (`order`); the reader rotates answer, choices and probabilities back,
so that a row's columns always speak of the question's own order. Imports neither torch nor lm_eval.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from tqdm import tqdm

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.answers import TASKS as ANSWER_TASKS
from lm_eval_tasks.contracts.logs.finding import find_files
from lm_eval_tasks.contracts.logs.generations import TASKS as TEXT_TASKS
from lm_eval_tasks.contracts.logs.lines import parse_lines
from lm_eval_tasks.contracts.logs.probe_table import PER_CHOICE, PROBE_KEY, PROBE_SCHEMA, check_asked_once, check_probes
from lm_eval_tasks.contracts.logs.rescoring import check_one_score, rescore_probes
from lm_eval_tasks.contracts.logs.whole import check_whole
from lm_eval_tasks.contracts.questions import check_rows, hash_questions, rotate_choices
from lm_eval_tasks.contracts.vocabulary import DEFAULT_SCORE

_LOGGED = {name: kind for name, kind in PROBE_SCHEMA.items() if name != "score"}  # what a log holds is of the sum
_SAMPLE_SCHEMA = pl.Schema({"doc_id": pl.Int64, "prompt_hash": pl.String, "doc": pl.Struct(_LOGGED)})
NO_PROBES = (*TEXT_TASKS, *ANSWER_TASKS)
ROWS_AT_ONCE = 200_000
TEXTS = ("question_hash", "question", "choices")
HASH_DIGITS = 16  # of a prompt's hash, as of a question's
FREE = ("subject", "explanation", "topics", "category")  # columns of which no value is wrong
NOTHING_SEEN = np.zeros(0, dtype=np.uint64)
_NUMBERS = {name for name, kind in PROBE_SCHEMA.items() if kind in (pl.Float64, pl.List(pl.Float64))}


Score = str | Mapping[str, str] | None  # a score, or one for each way of scoring


def read_probes(
    paths: str | Path | Sequence[str | Path],
    columns: Sequence[str] = tuple(PROBE_SCHEMA),
    known: pl.DataFrame | None = None,
    score: Score = None,
) -> pl.DataFrame:
    """Read sample logs (`samples_*.jsonl`, `.gz`) and probe tables (`.parquet`) into one probe table.

    Args:
        paths: files, or folders that are searched for both; a folder's parquet files count if they are named `probe*.parquet`,
            and its logs of texts (selfalign_explain, selfalign_context, selfalign_answer) do not.
        columns: those that are returned. All are checked, but the others are not kept: a table of a million questions needs
            little memory without their texts.
        known: questions with their `question_hash`, which `hash_questions` gave. A probe of the same is not hashed again.
        score: by which of `vocabulary.SCORES` probabilities, predictions and confidences are, or by which for each way of
            scoring. Where None, those of logs are by `DEFAULT_SCORE`, and those of tables as they are.

    Returns:
        One row a question asked once: the columns of `PROBE_SCHEMA`, all in the question's own order of choices. Optional
        columns that a file lacks are null.

    Raises:
        UserError: nothing found, a line that is cut or no JSON, a log that lacks samples or holds two tasks, a missing column,
            a number that is missing, NaN or infinite, probabilities that do not sum to 1, a question whose hash is not that of
            its text, a question asked twice alike or by two tasks in one phase, a score that the probes do not have.
    """
    return read_asked(paths, columns, known, score)[0]


def read_asked(
    paths: str | Path | Sequence[str | Path],
    columns: Sequence[str],
    known: pl.DataFrame | None = None,
    score: Score = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`read_probes`, and `TEXTS` of every question that is not `known`, once, however many models were asked it."""
    paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
    files = [file for path in paths for file in find_logs(path)]
    kept = [name for name in PROBE_SCHEMA if name in {*columns, *PROBE_KEY, "task", "score"}]
    seen = np.sort(_print_questions(known)) if known is not None else NOTHING_SEEN
    tables, questions = [], [pl.DataFrame(schema={name: PROBE_SCHEMA[name] for name in TEXTS})]
    for parts in _gather_parts(_read_parts(files, kept)):
        try:
            checked = [_check_part(_join_parts(parts), kept, seen, score)]
        except UserError:  # in one of them; its own check says where
            checked = []
            for part in parts:
                checked.append(_check_part(part, kept, checked[-1][2] if checked else seen, score))
        tables += [table for table, _, _ in checked]
        questions += [new for _, new, _ in checked]
        seen = checked[-1][2]
    table = pl.concat(tables)
    check_asked_once(table, files)
    check_one_score(table, files)
    return table.select(columns), pl.concat(questions).unique("question_hash", maintain_order=True)


def find_logs(path: str | Path) -> list[Path]:
    """The sample logs and probe tables at a path.

    Raises:
        UserError: the path does not exist, or holds none.
    """
    lacking = "sample log (samples_*.jsonl). Was lm_eval run with --log_samples --output_path?"
    patterns = ("samples_*.jsonl", "samples_*.jsonl.gz", "probe*.parquet")
    texts = tuple(f"samples_{task}_" for task in NO_PROBES)
    return find_files(path, "a sample log, a probe table", lacking, patterns, passed_over=texts)


class _Part(NamedTuple):
    """Rows of one log or table as they are, or of several."""

    table: pl.DataFrame  # with the column `_file`: the position of the file
    file: Path
    start: int  # how many rows of the file come before
    shown: bool  # they are in the order in which choices were shown, as in logs


def _read_parts(files: Sequence[Path], columns: Sequence[str]) -> Iterator[_Part]:
    """All logs and tables, part by part; raises a `UserError` where one holds nothing."""
    for i, file in enumerate(tqdm(files, "Reading", unit="log", leave=False, disable=None)):
        shown, start = file.name.removesuffix(".gz").endswith(".jsonl"), 0
        for table in [_read_samples(file)] if shown else _read_parquet(file, columns):
            yield _Part(table.with_columns(_file=pl.lit(i, pl.UInt32)), file, start, shown)
            start += table.height
        if not start:
            raise UserError(f"{file} holds no samples. Ask the questions again.")


def _gather_parts(parts: Iterator[_Part]) -> Iterator[list[_Part]]:
    """Parts that are checked in one go: neighbours of the same columns, of `ROWS_AT_ONCE` rows or fewer together."""
    gathered: list[_Part] = []
    for part in parts:
        height = sum(other.table.height for other in gathered) + part.table.height
        if gathered and (height > ROWS_AT_ONCE or part[3:] != gathered[0][3:] or part.table.schema != gathered[0].table.schema):
            yield gathered
            gathered = []
        gathered.append(part)
    if gathered:
        yield gathered


def _join_parts(parts: list[_Part]) -> _Part:
    return parts[0]._replace(table=pl.concat([part.table for part in parts]))


def _check_part(
    part: _Part, columns: Sequence[str], seen: np.ndarray, score: Score
) -> tuple[pl.DataFrame, pl.DataFrame, np.ndarray]:
    """Some columns of a part, checked and by the score, and `_file`; `TEXTS` of questions not yet `seen`; and what now is."""
    table, file = check_probes(part.table, part.file, part.start), part.file
    if part.shown:
        check_rows(table, pl.col("order").is_null(), "order", "is missing; ask this question again", file)
        table = rotate_choices(table, -pl.col("order"), PER_CHOICE).with_columns(
            (pl.col(name) + pl.col("order")) % pl.col("choices").list.len().cast(pl.Int64) for name in ("answer", "prediction")
        )
    if score is None and part.shown:
        score = DEFAULT_SCORE
    if score is not None:
        table = rescore_probes(table, score, file, part.start)
    new, seen = _check_hashes(table, seen, file, part.start)
    return table.select(columns).with_columns(part.table["_file"]), new.select(TEXTS), seen


def _check_hashes(table: pl.DataFrame, seen: np.ndarray, file: Path, start: int) -> tuple[pl.DataFrame, np.ndarray]:
    """Raise a `UserError` where a `question_hash` is not that of the question.

    Returns:
        Questions that were not `seen`, a row each, and the prints of all that are right, sorted.

    A print is a quick hash of 64 bits of a question with its `question_hash`. What was seen before and found right need not be
    hashed again: a wrong one that has the print of one of a million right ones is an accident of 1 in 10^13.
    """
    ordered, first = np.unique(_print_questions(table), return_index=True)
    fresh = np.append(seen, 0)[np.searchsorted(seen, ordered)] != ordered  # numpy's own setdiff1d takes 80 times as long
    if not fresh.any():
        return table.clear(), seen
    new = table[np.sort(first[fresh])]
    if not (hash_questions(new) == new["question_hash"]).all():
        own = table.with_columns(hash_questions(table).alias("_own"))
        complaint = "is not the hash of this question's text, choices and answer: the log was changed, or is of another version"
        check_rows(own, pl.col("_own") != pl.col("question_hash"), "question_hash", complaint, file, start)
    return new, np.sort(np.concatenate([seen, ordered[fresh]]))


def _print_questions(table: pl.DataFrame) -> np.ndarray:
    return table.select(pl.struct("question", "choices", "answer", "question_hash").hash()).to_series().to_numpy()


def _read_parquet(file: Path, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """A probe table, part by part, so that the texts of a long one are never all in memory.

    What can be anything and is not among the columns that are kept is not read, but null.
    """
    try:
        table = pl.scan_parquet(file, glob=False)
        passed = set(table.collect_schema()) & set(FREE) - set(columns)
        table = table.with_columns(pl.lit(None).alias(name) for name in sorted(passed))
        for start in range(0, table.select(pl.len()).collect().item(), ROWS_AT_ONCE):
            yield table.slice(start, ROWS_AT_ONCE).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{file} is not a parquet file that can be read ({error}). Write the probe table again.") from error


def _read_samples(file: Path) -> pl.DataFrame:
    """The `doc` of every sample, and the hash of its prompt. Other keys (arguments, responses) are passed over."""
    try:
        table = pl.read_ndjson(file, schema=_SAMPLE_SCHEMA) if file.stat().st_size else pl.DataFrame(schema=_SAMPLE_SCHEMA)
    except OSError as error:
        raise UserError(f"{file} is cut or damaged ({error}). Ask again, or fetch the file again.") from error
    except pl.exceptions.PolarsError as error:
        raise UserError(_explain_line(file) or f"{file} cannot be read: {error}") from error
    doc = pl.col("doc").struct
    lacking = table.with_row_index().filter(doc.field("question_hash").is_null() | pl.col("doc_id").is_null()).head(1)
    if lacking.height:
        name = "doc_id" if lacking["doc_id"][0] is None else "question_hash in its doc"
        raise UserError(
            f"{file}, line {lacking['index'][0] + 1}: the sample has no {name}, so it is no sample of a selfalign task. "
            "Ask with `--tasks selfalign_...`."
        )
    docs = table["doc"].struct.unnest().with_columns(table["prompt_hash"].str.head(HASH_DIGITS))
    if docs.height:
        if (task := docs["task"][0]) in NO_PROBES:
            raise UserError(f"{file} holds texts that {task} asked for, and no probes. Name the log of a probe or chat task.")
        check_whole(docs["task"], table["doc_id"], file)
    return docs


def _explain_line(file: Path) -> str | None:
    """Which line of a log stopped the reader, and why; raises a `UserError` where that line is no JSON."""
    for line in parse_lines(file):
        if found := _find_no_number(line.value):
            return f"{line.where}: {found}, and only finite numbers can be used: ask this question again."
        try:
            pl.read_ndjson(line.text.encode(), schema=_SAMPLE_SCHEMA)
        except pl.exceptions.PolarsError as error:
            told = " ".join(str(error).split())
            return f"{line.where} is not a sample of a selfalign task ({told}). Ask again, or remove the line."
    return None


def _find_no_number(value: Any, name: str = "") -> str | None:
    """The first NaN or infinite number in a sample, or text where a number of the probe is to be, as "name is NaN"."""
    if isinstance(value, dict):
        return next((found for key, part in value.items() if (found := _find_no_number(part, key))), None)
    if isinstance(value, list):
        return next((found for part in value if (found := _find_no_number(part, name))), None)
    wrong = not math.isfinite(value) if isinstance(value, float) else isinstance(value, str) and name in _NUMBERS
    return f"{name} is {json.dumps(value)}" if wrong else None
