"""Texts that models write about questions or responses: the one reader of what came back.

`python -m intervention requests` writes a requests file (`requests.py`), the tasks of `TASKS` ask it, and `read_generations`
reads their sample logs, or JSON lines of texts from elsewhere. Imports neither torch nor lm_eval.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.finding import find_files
from lm_eval_tasks.contracts.logs.lines import parse_lines
from lm_eval_tasks.contracts.logs.requests import COMMANDS, Kind
from lm_eval_tasks.contracts.logs.results import count_asked
from lm_eval_tasks.contracts.prompts import CLAIMS_HEAD, EXPLANATION_HEAD, FENCE, KNOWLEDGE_HEAD
from lm_eval_tasks.contracts.questions import name_question
from lm_eval_tasks.contracts.vocabulary import KEY

TASKS: dict[str, Kind] = {
    "selfalign_explain": "explanation",
    "selfalign_context": "context",
    "selfalign_claims": "claims",
}
NOUN = "a sample log, JSON lines of texts"
LACKING = "sample log (samples_*.jsonl). Was lm_eval run with --log_samples --output_path?"
LOGS = (("samples_*.jsonl", "samples_*.jsonl.gz"), ("*.jsonl", "*.jsonl.gz"))  # of a folder: sample logs, or else any lines

GENERATION_SCHEMA = pl.Schema(
    {
        "source": pl.String,
        "domain": pl.String,
        "id": pl.String,
        "question_hash": pl.String,  # null in JSON lines that lack it
        "text": pl.String,
        "response": pl.Int64,  # index of the choice that an explanation is of; null for other texts
        "finished": pl.Boolean,  # false where the text was cut at the limit of tokens; null where that cannot be known
        "task": pl.String,  # null in JSON lines
        "model": pl.String,  # null in JSON lines
    }
)
_OPENING = re.compile(rf"{FENCE}(?:[\w+-]*[ \t]*\n)?")  # the fence, and a language if it stands alone on the line
_OWN_HEAD = re.compile(rf"(?:(?:# )?(?:{EXPLANATION_HEAD[2:]}|{KNOWLEDGE_HEAD[2:]}|{CLAIMS_HEAD[2:]})|# Answer:)\s*")
_HEADS = re.compile(r"^# (Instruction|Query|Answer|Explanation|Background knowledge|Claims)\b.*", re.MULTILINE | re.DOTALL)
_SENTENCE_BYTES = 12  # what is shorter may end in an abbreviation ("The U.S.")
_STOPS = (".", "!", "?", "。", "！", "？")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|\n+")


def extract_fenced(response: str) -> str:
    """The text of a model that was shown an open fence: without fences, and without what it wrote after closing them.

    The model may have gone on after the open fence, or have written one of its own, below a heading or a line that ends in a
    colon ("Here is the explanation:"); it may or may not have closed it.

    >>> extract_fenced("Yeast feeds on sugar.\\n```\\n\\n# Query:\\nanother question")
    'Yeast feeds on sugar.'
    """
    response = response.strip()
    if own := _OWN_HEAD.match(response):
        response = response[own.end() :]
    before, fence, _ = response.partition(FENCE)
    if fence and (not before.strip() or before.rstrip().endswith(":")):
        before = response[_OPENING.search(response).end() :].partition(FENCE)[0]
    return _HEADS.sub("", before).strip()


def is_closed(response: str) -> bool:
    """Whether a response holds the fence that closes its text."""
    text = extract_fenced(response)
    return bool(text) and FENCE in response.split(text, 1)[1]


def end_text(text: str, finished: bool | None = None) -> str:
    """A text up to the first sentence that it has said before; where it was cut at the limit, up to its last whole sentence.

    Small models say the same sentences over and over until the limit. A text without a whole sentence stays as it is.

    Args:
        text: what a model wrote, without fences.
        finished: whether the model ended it itself; None where that is not known.

    >>> end_text("Yeast feeds on sugar. It gives off gas. Yeast feeds on sugar. It gives off", finished=False)
    'Yeast feeds on sugar. It gives off gas.'
    """
    said: set[str] = set()
    begin = end = 0
    for found in (*_SENTENCE_END.finditer(text), None):
        stop = found.start() if found else len(text)
        sentence = text[begin:stop].strip().casefold()
        cut = finished is False and not found and not text.endswith(_STOPS)
        if sentence in said or cut:
            return text[:end].rstrip() or text
        if len(sentence.encode()) >= _SENTENCE_BYTES:
            said.add(sentence)
        begin, end = found.end() if found else stop, stop
    return text


def repeats_itself(text: str) -> bool:
    """Whether a text says a sentence that it has said before."""
    return end_text(text) != text


def read_generations(path: str | Path, kind: Kind | None = None, allow_missing: bool = False) -> pl.DataFrame:
    """Read texts that one model wrote: `GENERATION_SCHEMA`, one row a question (and, of explanations, a response).

    Args:
        path: a sample log of one of `TASKS`, or JSON lines with `source, domain, id` and `context`, `explanation` or `claims`
            (and, where known, `question_hash` and `response`); plain or gzip; or a folder of either.
        kind: what the texts have to be; None for whichever they are.
        allow_missing: leave out empty texts, and do not ask whether lines are missing.

    Raises:
        UserError: nothing found, a line that is cut or of another task, texts of two kinds or models, a line that is missing,
            an empty text, two texts for one question.
    """
    found, table = read_all(path, allow_missing)
    if kind and found != kind:
        raise UserError(f"{path} holds texts of the kind {found!r}, but here each is to be {kind!r}. Name such a log.")
    if (empty := table.filter(pl.col("text") == "")).height and not allow_missing:
        raise UserError(
            f"{path}: {empty.height} of {table.height} texts are empty; the first is that of {_name_first(empty)}. Ask for "
            "these again (another --seed), or allow that they are missing."
        )
    return table.filter(pl.col("text") != "")


def read_all(path: str | Path, allow_missing: bool = False) -> tuple[Kind, pl.DataFrame]:
    """The kind of the texts that one model wrote, and all of them, empty ones too (see `read_generations`)."""
    rows = [row for file in find_files(path, NOUN, LACKING, *LOGS) for row in _read_texts(file, allow_missing)]
    if not rows:
        raise UserError(f"{path} holds no texts. Ask again.")
    for name, noun in (("kind", "kinds"), ("model", "models")):
        if len(values := sorted({str(row[name]) for row in rows})) > 1:
            raise UserError(f"{path}: texts of {len(values)} {noun}, {values[0]!r} and {values[1]!r}. Name the log of one.")
    table = pl.DataFrame(rows, schema=GENERATION_SCHEMA)
    if (twice := table.filter(pl.struct(*KEY, "response").is_duplicated())).height:
        raise UserError(f"{path}: {_name_first(twice)} has more than one text. Name one log, or remove the older one.")
    return rows[0]["kind"], table


def _read_texts(file: Path, allow_missing: bool) -> Iterator[dict[str, Any]]:
    """The texts of one file, with their `kind`."""
    seen: dict[int, int] = {}
    for number, where, _, row in parse_lines(file):
        sampled = isinstance(row, dict) and isinstance(row.get("doc"), dict)
        if sampled and row.get("doc_id") in seen:
            raise UserError(f"{where} holds doc_id {row['doc_id']}, as line {seen[row['doc_id']]} does. Remove one of them.")
        if sampled:
            seen[row.get("doc_id")], task = number, row["doc"].get("task", "")
        yield _read_sample(row["doc"], where) if sampled else _read_line(row, where)
    if seen and not allow_missing:
        _check_whole(file, seen, task)


def _check_whole(file: Path, ids: Mapping[int, int], task: str) -> None:
    """Raise a `UserError` where a log lacks samples.

    What was not asked (--samples, too_long) leaves gaps too, which lm-eval's result file, beside the log, can tell from others.
    """
    asked, results = count_asked(file, task)
    if results and asked != len(ids):
        raise UserError(
            f"{file} holds {len(ids)} texts, but {results.name} counts {asked}. Ask again, or allow that they are missing."
        )
    if not results and (gap := next((i for i in range(len(ids)) if i not in ids), None)) is not None:
        raise UserError(
            f"{file}: doc_id {gap} is missing, so the log lacks samples. Ask again, or allow that they are missing."
        )


def _read_sample(doc: dict[str, Any], where: str) -> dict[str, Any]:
    kind = TASKS.get(doc.get("task", ""))
    if kind is None:
        raise UserError(
            f"{where} is a sample of the task {doc.get('task')!r}, which writes no texts. Name the log of {' or '.join(TASKS)}."
        )
    return _check_row(doc, where) | {"kind": kind}


def _read_line(row: Any, where: str) -> dict[str, Any]:
    kinds = [kind for kind in COMMANDS if isinstance(row, dict) and kind in row]
    if len(kinds) != 1:
        raise UserError(
            f"{where} is neither a sample of {' or '.join(TASKS)} nor an object with source, domain, id and one of "
            f"{', '.join(COMMANDS)}. Write these columns."
        )
    return _check_row(row | {"text": row[kinds[0]], "task": None, "model": None}, where) | {"kind": kinds[0]}


def _check_row(row: dict[str, Any], where: str) -> dict[str, Any]:
    """The columns of `GENERATION_SCHEMA`, the text stripped; a `UserError` where one is missing or of another type."""
    row = {name: row.get(name) for name in GENERATION_SCHEMA} | {"id": str(row["id"]) if row.get("id") is not None else None}
    for name in (*KEY, "text"):
        if not isinstance(row[name], str):
            raise UserError(f"{where}: {name} {row[name]!r} is not text. Mend the line, or ask again.")
    if row["response"] is not None and type(row["response"]) is not int:
        raise UserError(f"{where}: response {row['response']!r} is not the 0-based index of a choice. Mend the line.")
    return row | {"text": row["text"].strip()}


def _name_first(table: pl.DataFrame) -> str:
    return name_question(table.row(0, named=True))
