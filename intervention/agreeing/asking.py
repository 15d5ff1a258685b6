"""What the model answered when it was asked a data set's questions: read, and known to be of this data and this model.

Questions of instruction data are named by row and turn, which any data has. So what was asked is compared by its hash.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from intervention.agreeing.evidence import list_questions
from intervention.agreeing.own import phrase_question
from intervention.agreeing.rows import TURN
from intervention.believing.asked import check_single, find_questions
from intervention.believing.choices import read_answers_table
from lm_eval_tasks.contracts.answers import holds_answer
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.free_form import hash_free_form
from lm_eval_tasks.contracts.logs.samples import read_probes

SCORE = "sum"  # an answer's probability is that of its whole text


def read_own_answers(file: Path, rows: pl.DataFrame, model: str) -> pl.DataFrame:
    """What the model answered to the questions of turns, a row a question (`choices.ANSWERS_SCHEMA`).

    Args:
        file: the table that `python -m intervention answers` wrote.
        rows: the row table, with `asked` and `response`.
        model: the one that read the data.

    Raises:
        UserError: no such table; questions that are not of this data, or of another version of it; another model.
    """
    answers = read_answers_table(file)
    asked = list_questions(rows, [answers])
    turns = rows.select(*TURN, "response", **phrase_question()).join(asked, on=TURN, how="semi")
    turns = turns.with_columns(hash_free_form(turns).alias("_own")).select(*TURN, "response", "_own")
    asked = asked.join(turns, on=TURN, how="left", maintain_order="left")
    stated = [
        claim is not None and response is not None and holds_answer(response, said)
        for claim, response, said in asked.select("claim", "response", "said").iter_rows()
    ]
    claims = answers.select(hash_free_form(answers).alias("_claim")).to_series()
    asked = asked.select("id", "claim", "_own", _stated=pl.Series(stated, dtype=pl.Boolean))
    found = answers.with_columns(claims).join(asked, on="id", how="left", maintain_order="left")
    own = pl.when(pl.col("claim").is_null()).then("_own").when("_stated").then("_claim")
    changed = own.ne_missing(pl.col("question_hash"))
    other = found.filter(changed | pl.col("id").is_duplicated())
    if other.height:
        raise UserError(
            f"--answers {file}: {other.height} of {answers.height} are to questions that this data does not ask, or has with "
            f"another prompt or response; the first is of row and turn {other['id'][0]}. Ask this data (requests own)."
        )
    check_model(f"--answers {file}", answers["model"][0], model, "the readings")
    return answers


def read_own_probes(paths: Sequence[Path], answers: pl.DataFrame, file: Path) -> pl.DataFrame:
    """Probes of the model's answers as choices, a row a question.

    Args:
        paths: logs of selfalign_probe_cloze, or folders of them.
        answers: what `read_own_answers` gives.
        file: the table that they are of.

    Raises:
        UserError: another prompt, other choices than those that were written beside the answers, another model, or a question
            that was probed several times.
    """
    where = ", ".join(map(str, paths))
    probes = read_probes(paths, score=SCORE)
    check_single(probes, where)
    find_questions(answers.with_columns(question_hash="choices_hash"), probes, file, where)
    check_model(f"--probes {where}", probes["model"][0], answers["model"][0], str(file))
    if (twice := probes.filter(pl.col("id").is_duplicated())).height:
        raise UserError(
            f"--probes {where}: row and turn {twice['id'][0]} was probed several times (in other draws or orders). Name the "
            "log of one."
        )
    return probes


def check_model(what: str, own: str, other: str, theirs: str) -> None:
    """Raise a `UserError` where two things are of two models."""
    if own != other:
        raise UserError(f"{what} is of the model {own!r}, but {theirs} of {other!r}. Ask one model, by one name.")
