"""Beliefs that sampled answers bear out: the prediction is also what more than half of the samples say."""

from pathlib import Path

import polars as pl

from intervention.believing.choices import read_answers_table
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import name_question
from lm_eval_tasks.contracts.rules import Rule, apply_rule, mark_beliefs
from lm_eval_tasks.contracts.vocabulary import ANSWERED, HALF, KEY


def split_rule(rule: Rule) -> tuple[Rule, bool]:
    """A rule of the prediction alone, and whether the sampled answers have to say the same.

    >>> split_rule(Rule("top+answers", None))
    (Rule(name='top', level=None), True)
    """
    return Rule(rule.name.removesuffix(ANSWERED), rule.level), rule.name.endswith(ANSWERED)


def apply_whole_rule(table: pl.DataFrame, rule: Rule) -> pl.DataFrame:
    """`rules.apply_rule`, also where the sampled answers have to say the same.

    Args:
        table: what `apply_rule` needs, and then `sampled`: the share of the sampled answers that say the prediction.
        rule: which predictions count.

    >>> asked = pl.DataFrame({"prediction": [0, 1], "confidence": [0.9, 0.7], "answer": [0, 0], "sampled": [0.75, 0.5]})
    >>> apply_whole_rule(asked, Rule("threshold+answers", 0.5))["class"].to_list()
    ['right', 'unsure']
    """
    own, answered = split_rule(rule)
    table = apply_rule(table, own)
    return bear_out(table, own) if answered else table


def apply_as_asked(table: pl.DataFrame, rule: Rule) -> pl.DataFrame:
    """`apply_rule`, and what the sampled answers bear out of it where the table knows them."""
    answered = "sampled" in table.columns and table["sampled"].count()
    return bear_out(apply_rule(table, rule), rule) if answered else apply_rule(table, rule)


def bear_out(table: pl.DataFrame, rule: Rule) -> pl.DataFrame:
    """Of the beliefs by a rule of the prediction alone, those that more than half of the sampled answers say, too."""
    borne_out = pl.col("belief").is_not_null() & (pl.col("sampled") > HALF).fill_null(False)
    whole = Rule(f"{rule.name}{ANSWERED}", rule.level)
    return mark_beliefs(table, borne_out, rule).with_columns(belief_rule=pl.lit(str(whole)))


def add_sampled(table: pl.DataFrame, questions: pl.DataFrame, file: Path, where: str) -> pl.DataFrame:
    """Set `sampled` of a belief table: the share of the sampled answers that say the prediction.

    Args:
        table: beliefs, with `KEY`, `prediction`, `question_hash` and `model`.
        questions: the question set that they are of.
        file: what `python -m intervention answers` wrote of the same questions.
        where: what an error calls the beliefs.

    Raises:
        UserError: no such file, one of another model, one that lacks a question, or that is of other choices.
    """
    answers = read_answers_table(file)
    asked = table.select(*KEY, "question_hash", "prediction").join(
        answers.select(*KEY, "choices_hash", "groups"), on=KEY, how="left", maintain_order="left"
    )
    lacking, other = pl.col("choices_hash").is_null(), pl.col("choices_hash") != pl.col("question_hash")
    for wrong, complaint in (
        (asked.filter(lacking), f"--answers {file} does not have: sample them too, or leave their probes out"),
        (asked.filter(other), f"--answers {file} has with other choices: probe the set that was written beside it (choices)"),
    ):
        if wrong.height:
            raise UserError(
                f"{where}: {wrong.height} of {asked.height} questions, the first {name_question(wrong.row(0, named=True))}, "
                f"{complaint}."
            )
    if (model := answers["model"][0]) != (own := table["model"][0]):
        raise UserError(f"--answers {file} is of the model {model!r}, but {where} of {own!r}. Name what one model answered.")
    said = asked.join(questions.select(*KEY, "choices"), on=KEY, how="left", maintain_order="left")
    said = said.with_columns(_said=pl.col("choices").list.get(pl.col("prediction"))).with_row_index("_row")
    texts = said.select("_row", "_said", "groups").explode("groups").unnest("groups").filter(pl.col("text") == pl.col("_said"))
    found = said.select("_row").join(texts.select("_row", "share"), on="_row", how="left", maintain_order="left")
    return table.with_columns(sampled=found["share"].fill_null(0.0))
