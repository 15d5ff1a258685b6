"""By which score of texts answers are read: before and after training alike, by that of the beliefs that were trained."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.probe_table import CLOZE
from lm_eval_tasks.contracts.logs.rescoring import find_score, rescore_probes
from lm_eval_tasks.contracts.prompts import RESPONSE_FORMAT
from lm_eval_tasks.contracts.vocabulary import DEFAULT_SCORE, SCORES


def choose_scores(runs: pl.DataFrame, folder: str | Path) -> dict[str, str]:
    """By which score the samples of a study are read, for each way of scoring.

    Args:
        runs: `response_format`, `score` and `folder` of each run.
        folder: what an error calls the study.

    Raises:
        UserError: runs that answer with texts were trained on beliefs of several scores.

    >>> choose_scores(pl.DataFrame({"response_format": ["text"], "score": ["pmi"], "folder": ["run"]}), "runs")
    {'letter': 'sum', 'cloze': 'pmi'}
    """
    of_texts = runs.filter(response_format=RESPONSE_FORMAT[CLOZE]).unique("score", maintain_order=True)
    if of_texts.height > 1:
        told = " and ".join(f"{score} ({run})" for run, score in of_texts.select("folder", "score").iter_rows())
        raise UserError(
            f"{folder} holds runs trained on beliefs of several scores of texts: {told}. All answers of a study are read by "
            "one, so these are several studies: report them one at a time."
        )
    return name_scores(of_texts["score"][0] if of_texts.height else "sum")


def name_scores(score: str) -> dict[str, str]:
    """A score of texts, and of letters the sum."""
    return dict.fromkeys(DEFAULT_SCORE, "sum") | {CLOZE: score}


def align_scores(sides: Sequence[pl.DataFrame], config: Mapping[str, Any]) -> list[pl.DataFrame]:
    """Probes before and after, by one score: that of the configuration by which the tuned model was trained, if there is one.

    Raises:
        UserError: they cannot be read by it, or are of two scores where none is known.
    """
    if config:
        scores = name_scores(find_score(config))
        return [rescore_probes(side, scores, f"--{name}") for name, side in zip(("before", "after"), sides, strict=True)]
    own = [side["score"][0] for side in sides]
    if len(set(own)) > 1:
        raise UserError(f"--before is read by the score {own[0]} and --after by {own[1]}. Name one for both, with --score.")
    return list(sides)


def tell_score(scoring: str, score: str) -> str:
    """A sentence on the score by which answers were read; empty where letters were scored."""
    if scoring != CLOZE:
        return ""
    return f"The texts of choices were scored: a probability is made of {SCORES[score][1]}, before and after alike."
