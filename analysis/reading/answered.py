"""What the models of a study answered in words: every log of the tasks `selfalign_answer...`, as one table of measures."""

from pathlib import Path

import polars as pl

from analysis.measures.answered import ANSWERED_SCHEMA, measure_answers
from analysis.measures.keys import sort_by_words
from analysis.reading.bases import match_bases
from analysis.reading.checks import check_names, check_questions, check_temperature
from analysis.reading.gaps import find_short, find_strays, find_unasked, find_uncompared, find_uneven
from analysis.reading.sets import join_runs
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.answers import find_answer_logs, read_answers
from lm_eval_tasks.contracts.vocabulary import KEY

NOUN = "free-form samples"  # what gaps call what logs hold, beside the samples of choices


def read_answered(folder: str | Path, runs: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """`ANSWERED_SCHEMA` of all answers in words below a folder, and what they lack; empty where there are none.

    As among probes, `split` is the evaluation set, and `train` for the base models' answers to train questions.

    Args:
        folder: of the study; it is there.
        runs: its runs, `runs.RUN_SCHEMA`.

    Raises:
        UserError: a broken log, or answers that do not fit together (another wording, another temperature).
    """
    try:
        files = find_answer_logs(folder)
    except UserError:  # the folder is there, so it holds none
        return pl.DataFrame(schema=ANSWERED_SCHEMA), []
    answers = read_answers(files).rename({"model": "asked_model"})
    check_questions(answers)
    check_names(answers.unique(("asked_model", "run", "phase", *KEY), maintain_order=True))
    gaps = find_strays(answers, runs, NOUN)
    joined, more = join_runs(answers, runs, match_bases(answers, runs), NOUN)
    check_temperature(joined)
    measured = measure_answers(joined.rename({"domain": "question_domain", "trained_domain": "domain"}))
    evaluated = measured.filter(pl.col("split") != "train")
    gaps += more + find_unasked(measured, runs) + find_short(evaluated, "free-form questions")
    gaps += find_uncompared(evaluated, measured.filter(phase="base_probe")) + find_uneven(measured)
    return sort_by_words(measured), gaps
