"""What must hold of all samples of a study before any two of them are compared; each check names the first that breaks it."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import RESPONSE_FORMAT
from lm_eval_tasks.contracts.questions import name_question
from lm_eval_tasks.contracts.vocabulary import KEY


def check_scoring(probes: pl.DataFrame, runs: pl.DataFrame, folder: str | Path) -> None:
    """Raise a `UserError` where a model was asked in two ways of scoring, or in a way that its training did not teach."""
    several = probes.group_by("asked_model", "run", "phase").agg(pl.col("scoring").unique().sort())
    several = several.filter(pl.col("scoring").list.len() > 1).sort("asked_model", "phase")
    if several.height:
        row = several.row(0, named=True)
        raise UserError(
            f"{folder}: {row['asked_model']} was scored by {' and by '.join(row['scoring'])} in phase {row['phase']}. "
            "Report one way of scoring at a time: move the logs of the other elsewhere."
        )
    asked = probes.filter(phase="tuned_chat").join(runs.select("run", "folder", "response_format"), on="run")
    wrong = asked.filter(pl.col("scoring").replace_strict(RESPONSE_FORMAT) != pl.col("response_format")).head(1)
    if wrong.height:
        row = wrong.row(0, named=True)
        raise UserError(
            f"{row['folder']} was trained on {row['response_format']} responses, but its chat samples are scored by "
            f"{row['scoring']}. Ask it with the chat task that fits."
        )


def check_questions(probes: pl.DataFrame) -> None:
    """Raise a `UserError` where one key stands for two questions, whoever was asked them."""
    held = probes.select(*KEY, "question_hash").unique()
    other = held.filter(held.select(KEY).is_duplicated()).sort(*KEY, "question_hash").head(2)
    if other.height:
        raise UserError(
            f"{name_question(other.row(0, named=True))} is not the same question in all logs (question_hash "
            f"{other['question_hash'][0]} and {other['question_hash'][1]}). Ask all models the same question set."
        )


def check_names(probes: pl.DataFrame) -> None:
    """Raise a `UserError` where a run's answers to one question stand under two names of its model."""
    key = ("run", "phase", *KEY)
    tuned = probes.filter(pl.col("run") != "")
    if not tuned.select(pl.struct(key).is_duplicated().any()).item():
        return
    twice = tuned.filter(pl.struct(key).is_duplicated()).sort(*key, "asked_model").head(2)
    raise UserError(
        f"{name_question(twice.row(0, named=True))} was asked twice of run {twice['run'][0]} in phase {twice['phase'][0]}, as "
        f"{' and as '.join(twice['asked_model'])}. Remove the log of one of them."
    )


def check_temperature(answers: pl.DataFrame) -> None:
    """Raise a `UserError` where a base model's answers and those of its runs were sampled at two temperatures.

    Args:
        answers: in words, with `greedy`, `temperature`, `model` (which the runs name), `asked_model` and `phase`.
    """
    firsts = answers.filter(~pl.col("greedy")).unique(("model", "temperature"), keep="first", maintain_order=True)
    for _, several in firsts.group_by("model", maintain_order=True):
        if several.height > 1:
            one, two = (
                "{asked_model} ({phase}) were sampled at temperature {temperature:g}".format(**row)
                for row in several.head(2).iter_rows(named=True)
            )
            raise UserError(
                f"The free-form answers of {one}, and those of {two}, so they cannot be compared. Ask both at one temperature."
            )


def check_prompts(probes: pl.DataFrame, runs: pl.DataFrame, bases: Mapping[str, str | None]) -> None:
    """Raise a `UserError` where a base model and its runs were asked a question with different prompts in the same way, or
    one of them with a beginning-of-sequence token and the other without.

    Few-shot prompts are compared with few-shot ones, and chat prompts with chat prompts. Trained questions are not compared:
    their choices are rotated, and a context may stand before them.
    """
    named = {name: model for model, name in bases.items() if name}
    asked = probes.filter(split="test").with_columns(
        kind=pl.col("phase").str.split("_").list.last(),
        base=pl.when(run="")
        .then(pl.col("asked_model").replace_strict(named, default=None, return_dtype=pl.String))
        .otherwise(pl.col("run").replace_strict(runs["run"], runs["base"], default=None, return_dtype=pl.String)),
    )
    key = ("base", "kind", *KEY, "draw", "order")
    asked = asked.filter(pl.col("base").is_not_null(), pl.col("kind") != "context")
    begun = asked.filter(pl.col("bos").is_not_null()).unique(("base", "kind", "bos"), maintain_order=True)
    if (several := begun.filter(pl.struct("base", "kind").is_duplicated()).sort("base", "kind", "bos")).height:
        without, with_ = several.head(2).select("asked_model", "phase").rows()
        raise UserError(
            f"The prompts of {without[0]} ({without[1]}) began without a beginning-of-sequence token, and those of {with_[0]} "
            f"({with_[1]}) with one, so their answers cannot be compared. Ask both as the model was trained (--model_args "
            "add_bos_token=...)."
        )
    asked = asked.filter(pl.col("prompt_hash").is_not_null())
    other = asked.group_by(key).agg(pl.col("prompt_hash").n_unique()).filter(pl.col("prompt_hash") > 1).sort(key).head(1)
    if other.height:
        rows = asked.join(other.select(key), on=key, nulls_equal=True).unique("prompt_hash", maintain_order=True)
        one, two = ("{asked_model} ({phase}, prompt_hash {prompt_hash})".format(**row) for row in rows.head(2).to_dicts())
        raise UserError(
            f"{name_question(other.row(0, named=True))} was asked with one prompt of {one} and with another of {two}, so their "
            "answers cannot be compared. Ask all models by one task, with the same demonstrations and chat template."
        )
