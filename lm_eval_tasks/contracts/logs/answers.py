"""The one reader of the answers to free-form questions: sample logs of the `selfalign_answer` tasks as one table.

Imports neither torch nor lm_eval.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.free_form import FREE_FORM_SCHEMA, check_free_form, hash_free_form
from lm_eval_tasks.contracts.logs.finding import find_files
from lm_eval_tasks.contracts.logs.lines import parse_lines
from lm_eval_tasks.contracts.logs.whole import check_whole
from lm_eval_tasks.contracts.questions import check_rows, check_rules, name_question
from lm_eval_tasks.contracts.vocabulary import KEY

TASKS = tuple(f"selfalign_answer{greedy}{chat}" for greedy in ("", "_greedy") for chat in ("", "_chat"))
ANSWER_SCHEMA = pl.Schema(
    {
        "source": pl.String,
        "domain": pl.String,
        "id": pl.String,
        "question": pl.String,
        "answers": pl.List(pl.String),  # the accepted ones
        "split": pl.String,
        "question_hash": pl.String,
        "samples": pl.List(pl.String),  # what the model answered, one line each
        "greedy": pl.Boolean,  # the likeliest words, once; else sampled
        "temperature": pl.Float64,
        "draw": pl.Int64,  # of the demonstrations
        "phase": pl.String,
        "model": pl.String,
        "run": pl.String,  # of the training; empty for a model that was not trained here
        "task": pl.String,
    }
)
_RUN = ("model", "run", "phase", "task")  # what is asked alike in every draw
_ASKED_ONCE = (*KEY, *_RUN, "draw")
_DOC = pl.Struct(dict(FREE_FORM_SCHEMA) | dict(ANSWER_SCHEMA))
_SAMPLE_SCHEMA = pl.Schema({"doc_id": pl.Int64, "doc": _DOC})


def read_answers(paths: str | Path | Sequence[str | Path]) -> pl.DataFrame:
    """Read sample logs of the tasks `selfalign_answer...`: `ANSWER_SCHEMA`, one row a question and draw.

    Args:
        paths: logs (`samples_*.jsonl`, `.gz`), or folders that are searched for those of these tasks.

    Raises:
        UserError: nothing found; a log that is cut, lacks questions, holds two tasks or another one; a question that breaks its
            contract, whose hash is not that of its text, or that has fewer samples than others; samples at temperature 0; one
            model asked by one task at two temperatures or for two numbers of samples; a question asked twice in one draw.
    """
    paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
    files = [file for path in paths for file in find_answer_logs(path)]
    table = pl.concat(_read_log(file).with_columns(_file=pl.lit(i)) for i, file in enumerate(files))
    _check_settings(table, files)
    if (twice := table.filter(pl.struct(_ASKED_ONCE).is_duplicated())).height:
        row = twice.row(0, named=True)
        logs = sorted({str(files[i]) for i in twice.filter(pl.struct(KEY) == {name: row[name] for name in KEY})["_file"]})
        raise UserError(
            f"{' and '.join(logs)}: {name_question(row)} was asked twice by {row['task']} in draw {row['draw']}. Name one "
            "log of each draw."
        )
    return table.drop("_file")


def find_answer_logs(path: str | Path) -> list[Path]:
    """The sample logs of the tasks `selfalign_answer...` at a path.

    Raises:
        UserError: the path does not exist, or holds none.
    """
    lacking = f"sample log of {', '.join(TASKS)}. Was one of them asked with --log_samples --output_path?"
    patterns = [f"samples_{TASKS[0]}_*.jsonl{ending}" for ending in ("", ".gz")]
    return find_files(path, f"a sample log of {TASKS[0]}", lacking, patterns)


def _read_log(file: Path) -> pl.DataFrame:
    """The answers of one log, checked."""
    try:
        table = pl.read_ndjson(file, schema=_SAMPLE_SCHEMA) if file.stat().st_size else pl.DataFrame(schema=_SAMPLE_SCHEMA)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(_explain_line(file) or f"{file} cannot be read: {error}. Ask again.") from error
    if not table.height:
        raise UserError(f"{file} holds no samples. Ask the questions again.")
    docs, ids = table["doc"].struct.unnest(), table["doc_id"]
    strange = (~docs["task"].is_in(TASKS)).fill_null(True) | ids.is_null()
    if strange.any():
        line = strange.arg_max()
        raise UserError(
            f"{file}, line {line + 1}: a sample of the task {docs['task'][line]!r}, whose answers are no free texts. Name a "
            f"log of {', '.join(TASKS)}."
        )
    check_whole(docs["task"], ids, file)
    check_free_form(docs, file)
    _check_samples(docs, file)
    own = docs.with_columns(hash_free_form(docs).alias("_own"))
    complaint = "is not the hash of this question's text and answers: the log was changed, or is of another version"
    check_rows(own, pl.col("_own").ne_missing(pl.col("question_hash")), "question_hash", complaint, file)
    return docs.select(list(ANSWER_SCHEMA))


def _check_samples(docs: pl.DataFrame, file: Path) -> None:
    """Raise a `UserError` where a question has no samples, fewer than others, or some that cannot differ."""
    n, most = pl.col("samples").list.len(), docs["samples"].list.len().max()
    sampled = ~pl.col("task").str.contains("_greedy")
    needed = ("samples", "greedy", "temperature", "draw", "phase", "model", "run", "split")
    rules = [
        *((pl.col(name).is_null(), name, "is missing; ask this question again") for name in needed),
        (n == 0, "samples", "is empty; ask this question again"),
        (n < most, "samples", f"are fewer than the {most} of others, so samples are missing; ask this question again"),
        (pl.col("samples").list.eval(pl.element().is_null()).list.any(), "samples", "lack a text; ask this question again"),
        (pl.col("greedy") == sampled, "greedy", "does not fit the task; the log was changed: ask again"),
        (
            sampled & ~(pl.col("temperature") > 0),
            "temperature",
            "gives one answer again and again, but these are samples; ask again",
        ),
        (~sampled & ((pl.col("temperature") != 0) | (n != 1)), "temperature", "or several texts are not greedy; ask again"),
    ]
    check_rules(docs, rules, file)


def _check_settings(table: pl.DataFrame, files: Sequence[Path]) -> None:
    """Raise a `UserError` where one model was asked by one task at two temperatures, or for two numbers of samples."""
    settings = table.with_columns(pl.col("samples").list.len().alias("samples"))
    for name, what in (("temperature", "temperatures"), ("samples", "numbers of samples")):
        for (_, _, _, task), part in settings.group_by(_RUN, maintain_order=True):
            firsts = part.unique(name, keep="first", maintain_order=True)
            if firsts.height > 1:
                (one, first), (two, second) = firsts.select(name, "_file").head(2).rows()
                where = f"{files[first]} and {files[second]}" if first != second else str(files[first])
                raise UserError(f"{where}: {task} was asked with two {what}, {one:g} and {two:g}. Name the logs of one.")


def _explain_line(file: Path) -> str | None:
    """Which line of a log stopped the reader, and why; raises a `UserError` where that line is no JSON."""
    for line in parse_lines(file):
        try:
            pl.read_ndjson(line.text.encode(), schema=_SAMPLE_SCHEMA)
        except pl.exceptions.PolarsError as error:
            return (
                f"{line.where} is not a sample of {TASKS[0]} ({' '.join(str(error).split())}). Ask again, or remove the line."
            )
    return None
