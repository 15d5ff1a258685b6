"""What `build` reads of texts that models wrote: explanations, contexts, and whether a context moved the model's belief."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from intervention.believing.asked import check_one_model, find_questions
from intervention.texts.statements import find_leaks
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.averages import average_probes, check_orders
from lm_eval_tasks.contracts.logs.generations import Kind, read_generations
from lm_eval_tasks.contracts.logs.samples import read_probes
from lm_eval_tasks.contracts.questions import check_rows, name_question
from lm_eval_tasks.contracts.vocabulary import KEY, THRESHOLD

PHASE = "base_context"
THE_SET = "the question set"  # as errors call it


def read_explanations(logs: Sequence[Path], questions: pl.DataFrame, allow_missing: bool = False) -> pl.DataFrame:
    """The explanations of answers, in the order of the logs.

    Args:
        logs: sample logs of selfalign_explain or JSON lines with `source, domain, id, response, explanation`; several where the
            model's beliefs and gold answers, say, were explained in several runs.
        questions: the question set (`read_questions`).
        allow_missing: take what a run that failed has: leave out empty texts, and do not ask whether lines are missing.

    Returns:
        One row a question and answer: `source, domain, id`, `response` (the 0-based index of the choice that is explained),
        `reason`, `finished` (false where the text was cut at the limit of tokens), `model`; the last two null in JSON lines.

    Raises:
        UserError: what `read_generations` finds wrong, texts of other questions or of another wording of them, a response that
            is missing or no choice of the question, an answer explained twice.
    """
    tables = [_read_texts(log, "explanation", questions, allow_missing) for log in logs]
    for log, table in zip(logs, tables, strict=True):
        response = pl.col("response")
        complaint = "is missing, but an explanation is of one choice; write the choice's 0-based index"
        check_rows(table, response.is_null(), "response", complaint, log)
        strange = (response < 0) | (response >= pl.col("choices").list.len())
        check_rows(table, strange, "response", "is not the 0-based index of a choice of the question; mend it", log)
    table = pl.concat([pl.DataFrame(schema=_EXPLANATIONS), *(table.select(_EXPLANATIONS.names()) for table in tables)])
    if (twice := table.filter(pl.struct(*KEY, "response").is_duplicated())).height:
        name = name_question(twice.row(0, named=True))
        where = ", ".join(map(str, logs))
        raise UserError(f"{where}: choice {twice['response'][0]} of {name} is explained more than once. Name one log of it.")
    return table.rename({"text": "reason"})


def read_contexts(log: Path, questions: pl.DataFrame, allow_missing: bool = False) -> pl.DataFrame:
    """The contexts of questions, in the order of the log.

    Args:
        log: a sample log of selfalign_context, or JSON lines with `source, domain, id, context`.
        questions: the question set (`read_questions`).
        allow_missing: as in `read_explanations`.

    Returns:
        One row a question: `source, domain, id`, `context`, `leaks` (whether it names the answer's letter or calls it the
        answer), `finished` (false where the text was cut at the limit of tokens), `model`; the last two null in JSON lines.

    Raises:
        UserError: what `read_generations` finds wrong, texts of other questions or of another wording of them.
    """
    table = _read_texts(log, "context", questions, allow_missing)
    return table.select(*KEY, pl.col("text").alias("context"), find_leaks(table, "text", "answer"), "finished", "model")


def read_moves(
    probes: Sequence[Path], questions: pl.DataFrame, threshold: float = THRESHOLD, score: str | None = None
) -> pl.DataFrame:
    """What the base model says to each question after its context, over all orders and draws in which it was asked.

    Args:
        probes: sample logs of the context probe or probe tables; probes of other phases in them are passed over.
        questions: the question set (`read_questions`).
        threshold: a prediction is a belief where its confidence is greater.
        score: that of the beliefs (see `read_probes`).

    Returns:
        One row a question: `source, domain, id`, `moved` (whether the belief is now gold), `context_prediction`,
        `context_confidence`, `model`.

    Raises:
        UserError: what `read_probes` finds wrong, no probe of phase base_context, probes of several models, ways of scoring or
            other questions, a question asked in some orders of its choices but not in all.
    """
    where = ", ".join(map(str, probes))
    table = read_probes(probes, score=score)
    phases = table["phase"].unique().sort()
    table = table.filter(pl.col("phase") == PHASE)
    if not table.height:
        raise UserError(
            f"{where}: these are probes of phase {phases[0]!r}, but whether contexts move a belief is told by phase {PHASE!r} "
            "(the base model, asked after the context). Name the logs of a selfalign context probe."
        )
    check_one_model(table, where)
    find_questions(questions, table, THE_SET, where)
    check_orders(table, where)
    means = average_probes(table)
    gold = (pl.col("prediction") == pl.col("answer")) & (pl.col("confidence") > threshold)
    return means.select(
        *KEY, moved=gold, context_prediction=pl.col("prediction").cast(pl.Int64), context_confidence="confidence", model="model"
    )


_EXPLANATIONS = pl.Schema(
    dict.fromkeys(KEY, pl.String) | {"response": pl.Int64, "text": pl.String, "finished": pl.Boolean, "model": pl.String},
)


def _read_texts(log: Path, kind: Kind, questions: pl.DataFrame, allow_missing: bool) -> pl.DataFrame:
    """Texts with the choices and the answer of their questions."""
    texts = read_generations(log, kind, allow_missing)
    find_questions(questions, texts, THE_SET, log, "texts")
    return texts.join(questions.select(*KEY, "choices", "answer"), on=KEY, how="left", maintain_order="left")
