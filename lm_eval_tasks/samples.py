"""The one reader of probes: lm-eval's sample logs and probe tables, plain or gzip, files or folders, as one table.

A question may have been shown with its choices turned (`order`); the reader turns answer, choices and probabilities back,
so that a row's columns always speak of the question's own order. Imports neither torch nor lm_eval.
"""

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from lm_eval_tasks.manifest import UserError, write_file
from lm_eval_tasks.questions import QUESTION_SCHEMA, check_questions, check_rows, hash_questions, rotate_choices

PHASES = ("base_probe", "base_chat", "tuned_chat", "tuned_probe")
PROBE_SCHEMA = pl.Schema(
    dict(QUESTION_SCHEMA)
    | {
        "split": pl.String,
        "loglikelihoods": pl.List(pl.Float64),
        "probs": pl.List(pl.Float64),
        "choice_mass": pl.Float64,
        "prediction": pl.Int64,
        "confidence": pl.Float64,
        "correct": pl.Boolean,
        "model": pl.String,
        "run": pl.String,
        "phase": pl.String,
        "scoring": pl.String,
        "draw": pl.Int64,
        "order": pl.Int64,
        "question_hash": pl.String,
        "task": pl.String,
    }
)
PROBE_KEY = ("model", "run", "phase", "scoring", "draw", "order", "source", "domain", "id")
# A released table has probabilities alone.
OPTIONAL = ("explanation", "topics", "subject", "loglikelihoods", "choice_mass")
SUM_TOLERANCE = 1e-3  # probabilities that a model computed in half precision sum to 1 only so well


def read_probes(paths: str | Path | Sequence[str | Path]) -> pl.DataFrame:
    """Read sample logs (`samples_*.jsonl`, `.gz`) and probe tables (`.parquet`) into one probe table.

    Args:
        paths: files, or folders that are searched for both; a folder's parquet files count if they are named `probe*.parquet`.

    Returns:
        One row a question asked once: the columns of `PROBE_SCHEMA`, all in the question's own order of choices.

    Raises:
        UserError: nothing found, a line that is cut or no JSON, a missing column, a probability that is missing, NaN,
            negative or does not sum to 1, a question whose hash is not that of its text, a question asked twice alike.
    """
    paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
    tables = [read_file(file) for path in paths for file in find_logs(path)]
    table = pl.concat(tables)
    check_asked_once(table, ", ".join(map(str, paths)))
    return table


def find_logs(path: str | Path) -> list[Path]:
    """The sample logs and probe tables at a path.

    Raises:
        UserError: the path does not exist, or holds none.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path} does not exist. Name a sample log, a probe table, or a folder of them.")
    patterns = ("samples_*.jsonl", "samples_*.jsonl.gz", "probe*.parquet")
    if not (files := sorted(file for pattern in patterns for file in path.rglob(pattern))):
        raise UserError(f"{path} holds no sample log (samples_*.jsonl). Was lm_eval run with --log_samples --output_path?")
    return files


def read_file(file: Path) -> pl.DataFrame:
    """Read one sample log or probe table, checked."""
    shown = file.name.removesuffix(".gz").endswith(".jsonl")
    table = _read_samples(file) if shown else _read_parquet(file)
    if not table.height:
        raise UserError(f"{file} holds no samples. Ask the questions again.")
    table = check_probes(table, file)
    if shown:
        turned = ("choices", "loglikelihoods", "probs")
        table = rotate_choices(table, -pl.col("order"), turned).with_columns(
            (pl.col(name) + pl.col("order")) % pl.col("choices").list.len().cast(pl.Int64) for name in ("answer", "prediction")
        )
    own = table.with_columns(hash_questions(table).alias("_own"))
    complaint = "is not the hash of this question's text, choices and answer: the log was changed, or is of another version"
    check_rows(own, pl.col("_own") != pl.col("question_hash"), "question_hash", complaint, file)
    return table


def check_probes(table: pl.DataFrame, where: str | Path) -> pl.DataFrame:
    """The columns of `PROBE_SCHEMA`; raises a `UserError` that names the first row that is no probe of a question."""
    questions = check_questions(table, where)
    rest = [name for name in PROBE_SCHEMA if name not in QUESTION_SCHEMA]
    table = questions.hstack(table.select(pl.col(name).cast(PROBE_SCHEMA[name]) for name in rest))
    n, probs, prediction, confidence = (pl.col("choices").list.len(), *map(pl.col, ("probs", "prediction", "confidence")))
    no_number = probs.list.eval(pl.element().is_null() | pl.element().is_nan() | (pl.element() < 0)).list.any()
    named = probs.list.get(prediction, null_on_oob=True)
    rules = [
        *((pl.col(name).is_null(), name, "is missing") for name in rest if name not in OPTIONAL),
        (probs.list.len() != n, "probs", "are not one a choice"),
        (no_number, "probs", "hold a missing, NaN or negative one"),
        ((probs.list.sum() - 1).abs() > SUM_TOLERANCE, "probs", "do not sum to 1"),
        (pl.col("loglikelihoods").list.len() != n, "loglikelihoods", "are not one a choice"),
        (~pl.col("phase").is_in(PHASES), "phase", f"is none of {', '.join(PHASES)}"),
        ((prediction < 0) | (prediction >= n), "prediction", "is not the index of a choice"),
        ((probs.list.max() - confidence).abs() > SUM_TOLERANCE, "confidence", "is not the largest of probs"),
        ((named - confidence).abs() > SUM_TOLERANCE, "prediction", "is not the most probable choice"),
        (pl.col("correct") != (prediction == pl.col("answer")), "correct", "does not fit prediction and answer"),
    ]
    for rule, name, complaint in rules:
        check_rows(table, rule, name, f"{complaint}; ask this question again", where)
    return table


def check_asked_once(table: pl.DataFrame, where: str) -> None:
    """Raise a `UserError` where one model was asked one question twice in the same way."""
    twice = table.filter(pl.struct(PROBE_KEY).is_duplicated()).head(1)
    if twice.height:
        row = twice.row(0, named=True)
        raise UserError(
            f"{where}: {row['model']} was asked {row['source']}/{row['domain']} id {row['id']!r} more than once in phase "
            f"{row['phase']} (draw {row['draw']}, order {row['order']}). Name one log, or remove the older one."
        )


def write_probes(table: pl.DataFrame, file: str | Path) -> None:
    """Write a probe table as parquet."""
    with write_file(file) as scratch:
        pq.write_table(table.to_arrow(), scratch)  # unlike polars, it says that a disk is full by an OSError


def _read_parquet(file: Path) -> pl.DataFrame:
    try:
        table = pl.read_parquet(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{file} is not a parquet file that can be read ({error}). Write the probe table again.") from error
    if missing := [name for name in PROBE_SCHEMA if name not in table.columns]:
        raise UserError(
            f"{file} has no column {missing[0]!r}, so it is no probe table. `python -m lm_eval_tasks table` writes one."
        )
    return table


def _read_samples(file: Path) -> pl.DataFrame:
    """The `doc` of every sample. Other keys (arguments, responses) are passed over without being kept."""
    try:
        source = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file
        if not (source if isinstance(source, bytes) else file.stat().st_size):
            return pl.DataFrame(schema=PROBE_SCHEMA)
        table = pl.read_ndjson(source, schema={"doc": pl.Struct(dict(PROBE_SCHEMA))})
    except (pl.exceptions.PolarsError, OSError, EOFError) as error:
        raise UserError(_explain_line(file) or f"{file} cannot be read: {error}") from error
    lacking = table.with_row_index().filter(pl.col("doc").struct.field("question_hash").is_null()).head(1)
    if lacking.height:
        raise UserError(
            f"{file}, line {lacking['index'][0] + 1}: the sample's doc has no question_hash, so it is no sample of a selfalign "
            "task. Ask with `--tasks selfalign_...`."
        )
    return table.unnest("doc")


def _explain_line(file: Path) -> str | None:
    """Which line of a log stopped the reader, and why."""
    for number, line in enumerate(_iterate_lines(file), 1):
        try:
            sample = json.loads(line, parse_constant=lambda name: {"constant": name})
        except ValueError:
            cut = "" if line.endswith("\n") else " (the file ends in the middle of it)"
            return f"{file}, line {number} is not a whole line of JSON{cut}. The log is damaged: ask again, or remove the line."
        if found := _find_constant(sample):
            return f"{file}, line {number}: {found}, and only finite numbers can be used: ask this question again."
    return None


def _iterate_lines(file: Path) -> Iterator[str]:
    try:
        with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as stream:
            yield from stream
    except (EOFError, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise UserError(f"{file} is cut or damaged ({error}). Ask again, or fetch the file again.") from error


def _find_constant(value: object, name: str = "") -> str | None:
    """The first NaN or infinite number in a sample, as "name is NaN"."""
    if isinstance(value, dict):
        if set(value) == {"constant"}:
            return f"{name} is {value['constant']}"
        return next((found for key, part in value.items() if (found := _find_constant(part, key))), None)
    if isinstance(value, list):
        return next((found for part in value if (found := _find_constant(part, name))), None)
    return None
