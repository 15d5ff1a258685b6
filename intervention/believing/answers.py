"""From sampled answers to what a model believes of free-form questions: answers that say the same are one group.

Semantic entropy over groups is Kuhn et al.'s (2023, arXiv 2302.09664), in its discrete form (Farquhar et al. 2024, Nature 630,
"Detecting hallucinations in large language models using semantic entropy"): a group's probability is its share of the samples.
Two answers say the same where `contracts.answers.name_groups` says so: equal after normalisation, or both accepted; and, where
a model was asked, where each entails the other (`entailing.py`).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from intervention.believing.asked import check_single, find_questions
from intervention.believing.knowledge import name_knowledge
from lm_eval_tasks.contracts.answers import name_groups
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.scores import compute_wilson
from lm_eval_tasks.contracts.vocabulary import CLASSES, KEY

GROUP = pl.Struct(
    {
        "text": pl.String,  # as the model wrote it most often, or as it is accepted; empty where it gave no answer
        "wordings": pl.List(pl.String),  # all that differ after normalisation, the most frequent first
        "count": pl.Int64,
        "share": pl.Float64,
        "gold": pl.Boolean,  # whether it says what an accepted answer says
    }
)
GROUP_SCHEMA = pl.Schema(
    {
        "id": pl.String,
        "source": pl.String,
        "domain": pl.String,
        "split": pl.String,
        "question": pl.String,
        "answers": pl.List(pl.String),  # the accepted ones
        "groups": pl.List(GROUP),  # by size, then text
        "samples": pl.Int64,  # how many answers were sampled, over all draws of demonstrations
        "draws": pl.Int64,
        "belief": pl.String,  # the text of the largest group; null where two tie, or where it is that of no answer
        "class": pl.String,  # right, wrong or unsure (`vocabulary.CLASSES`)
        "share": pl.Float64,  # of the largest group, with its Wilson interval at 95%
        "low": pl.Float64,
        "high": pl.Float64,
        "gold_share": pl.Float64,  # likewise of the accepted answers
        "gold_low": pl.Float64,
        "gold_high": pl.Float64,
        "gold_halves": pl.List(pl.Float64),  # of the samples at even and at odd positions, as many of both; null of one sample
        "entropy_nats": pl.Float64,  # semantic entropy
        "agreement": pl.Float64,  # share of the draws with the same largest group; null of one draw, or where two tie
        "several_right": pl.Boolean,  # accepted answers of two wordings were sampled, which share the confidence
        "greedy": pl.List(pl.String),  # the likeliest words, an answer a draw; empty where nobody asked for them
        "greedy_right": pl.List(pl.Boolean),
        "knowledge": pl.String,  # Gekhman et al.'s class, by greedy and sampled answers; null without greedy ones
        "temperature": pl.Float64,  # of the samples
        "model": pl.String,
        "question_hash": pl.String,  # of the free-form question
    }
)
GROUP_KEY = ["_question", "gold", "group"]  # what tells groups apart; `_question` is the row in the question set


def group_answers(
    answers: pl.DataFrame,
    questions: pl.DataFrame,
    folder: str | Path = "the question set",
    logs: Sequence[str | Path] = ("the logs",),
    same: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """What one base model answers to free-form questions: `GROUP_SCHEMA`, a row a question that was sampled.

    Args:
        answers: as `contracts.logs.answers.read_answers` gives them, sampled ones and, for the knowledge class, greedy ones.
        questions: the question set, as `free_form.read_free_form` gives it; the rows come in its order.
        folder: what an error calls it.
        logs: what an error calls the answers.
        same: which groups are one, by entailment, as `entailing.join_entailed` gives it.

    Raises:
        UserError: several models or runs, a phase other than base_probe, answers to other questions, no samples.

    >>> made_up = {"source": "quiz", "domain": "towns", "id": "1", "question_hash": "0"}
    >>> asked = made_up | {"samples": ["Rome", "the Rome", "Roma", "Paris"], "greedy": False, "temperature": 0.7, "draw": 0}
    >>> answers = pl.DataFrame([asked | {"phase": "base_probe", "model": "base", "run": ""}])
    >>> questions = pl.DataFrame([made_up | {"answers": ["Rome", "Roma"], "split": "test", "question": "Where?"}])
    >>> row = group_answers(answers, questions).row(0, named=True)
    >>> row["belief"], row["share"], row["class"], row["several_right"], [group["count"] for group in row["groups"]]
    ('Roma', 0.75, 'right', True, [3, 1])
    """
    answers = _number_answers(answers, questions, folder, logs)
    questions = _number_questions(questions)
    samples = _list_texts(answers.filter(~pl.col("greedy")), questions, same)
    groups = _count_groups(samples, questions)
    tables = [_describe_groups(groups), _describe_samples(samples), _measure_agreement(samples, groups)]
    tables.append(_describe_greedy(_list_texts(answers.filter("greedy"), questions, same)))
    for part in tables:
        questions = questions.join(part, on="_question", how="left", maintain_order="left")
    asked = answers.filter(~pl.col("greedy")).select("model", "temperature").row(0, named=True)
    table = questions.filter(pl.col("samples").is_not_null()).with_columns(pl.lit(v).alias(name) for name, v in asked.items())
    return _add_rates(table).select(pl.col(name).cast(kind) for name, kind in GROUP_SCHEMA.items())


def count_groups(
    answers: pl.DataFrame, questions: pl.DataFrame, folder: str | Path, logs: Sequence[str | Path]
) -> pl.DataFrame:
    """The groups of sampled answers before any entailment, the largest of each question first.

    Args:
        answers, questions, folder, logs: as `group_answers` takes them.

    Returns:
        A row a group: `GROUP_KEY`, then `text, wordings, count`.

    Raises:
        UserError: as `group_answers`.
    """
    answers = _number_answers(answers, questions, folder, logs)
    questions = _number_questions(questions)
    return _count_groups(_list_texts(answers.filter(~pl.col("greedy")), questions, None), questions)


def _number_answers(
    answers: pl.DataFrame, questions: pl.DataFrame, folder: str | Path, logs: Sequence[str | Path]
) -> pl.DataFrame:
    """Answers, checked, with `_question`."""
    where = ", ".join(map(str, logs))
    check_single(answers, where, "answers")
    if answers["greedy"].all():
        raise UserError(
            f"{where}: these answers are the likeliest words alone. Ask selfalign_answer too, whose samples tell how sure the "
            "model is."
        )
    return answers.with_columns(_question=find_questions(questions, answers, folder, where, "answers"))


def _number_questions(questions: pl.DataFrame) -> pl.DataFrame:
    return questions.with_row_index("_question").with_columns(pl.col("_question").cast(pl.Int64))


def _list_texts(answers: pl.DataFrame, questions: pl.DataFrame, same: pl.DataFrame | None) -> pl.DataFrame:
    """One row an answer, in the order of the draws: `_question, draw, text`, what `name_groups` adds, and `accepted`.

    Groups that are the `same` are one group; then `gold` says so of those too that are not among the accepted answers.
    """
    texts = answers.select("_question", "draw", text="samples").explode("text").sort("_question", "draw", maintain_order=True)
    texts = name_groups(texts, questions, ["_question"]).with_columns(accepted="gold")
    if same is None:
        return texts
    texts = texts.join(same, on=GROUP_KEY, how="left", maintain_order="left")
    return texts.with_columns(gold=pl.coalesce("same_gold", "gold"), group=pl.coalesce("same_group", "group")).drop(
        "same_gold", "same_group"
    )


def _count_groups(samples: pl.DataFrame, questions: pl.DataFrame) -> pl.DataFrame:
    """One row a group, the largest first: `GROUP_KEY`, `text`, `wordings` and `count`.

    A group is called by its most frequent text. Gold is so among the accepted ones, so that it can be trained on.
    """
    texts = samples.group_by(*GROUP_KEY, "plain", "accepted", "text").len()
    texts = texts.sort("_question", "len", "text", descending=[False, True, False])
    plain = texts.group_by(*GROUP_KEY, "plain", "accepted", maintain_order=True).agg(
        pl.col("text").first(), pl.col("len").sum()
    )
    plain = plain.sort("_question", "len", "text", descending=[False, True, False])
    groups = texts.group_by(GROUP_KEY, maintain_order=True).agg(
        pl.col("text").first(), _accepted=pl.col("text").filter("accepted").first(), count=pl.col("len").sum().cast(pl.Int64)
    )
    groups = groups.join(plain.group_by(GROUP_KEY, maintain_order=True).agg(wordings="text"), on=GROUP_KEY, how="left")
    groups = groups.join(questions.select("_question", _first=pl.col("answers").list.first()), on="_question", how="left")
    silent = ~pl.col("gold") & (pl.col("group") == "")
    text = pl.when(silent).then(pl.lit("")).when("gold").then(pl.coalesce("_accepted", "_first")).otherwise("text")
    groups = groups.select(*GROUP_KEY, "wordings", "count", text=text)
    return groups.sort("_question", "count", "text", descending=[False, True, False])


def _describe_groups(groups: pl.DataFrame) -> pl.DataFrame:
    """One row a question: its groups and what follows from their sizes."""
    share = pl.col("count") / pl.col("count").sum()
    first, tied = pl.col("text").first(), (pl.col("count") == pl.col("count").max()).sum() > 1
    return groups.group_by("_question", maintain_order=True).agg(
        groups=pl.struct("text", "wordings", "count", share.alias("share"), "gold"),
        samples=pl.col("count").sum(),
        belief=pl.when(~tied & (first != "")).then(first),
        _right=pl.col("gold").first(),
        share=share.first(),
        gold_share=share.filter("gold").sum(),
        entropy_nats=pl.max_horizontal(0.0, -(share * share.log()).sum()),  # no -0.0
    )


def _describe_samples(samples: pl.DataFrame) -> pl.DataFrame:
    """One row a question: what the groups do not tell."""
    position, half = pl.int_range(pl.len()).over("_question"), pl.len().over("_question") // 2
    samples = samples.with_columns(_odd=pl.when(position < 2 * half).then(position % 2))
    halves = [pl.col("gold").filter(pl.col("_odd") == odd).mean() for odd in (0, 1)]
    several = pl.col("plain").filter("accepted").n_unique() > 1
    table = samples.group_by("_question").agg(
        _even=halves[0], _odd_share=halves[1], draws=pl.col("draw").n_unique(), several_right=several
    )
    both = pl.concat_list("_even", "_odd_share")
    return table.with_columns(gold_halves=pl.when(pl.col("_odd_share").is_not_null()).then(both)).drop("_even", "_odd_share")


def _measure_agreement(samples: pl.DataFrame, groups: pl.DataFrame) -> pl.DataFrame:
    """In which share of its draws a question's largest group is the largest, alone, too."""
    first = groups.filter(pl.col("count") == pl.col("count").max().over("_question"))
    first = first.filter(pl.len().over("_question") == 1).with_columns(_same=True).select(*GROUP_KEY, "_same")
    counts = samples.group_by(*GROUP_KEY, "draw").len()
    largest = counts.filter(pl.col("len") == pl.col("len").max().over("_question", "draw"))
    largest = (
        largest.filter(pl.len().over("_question", "draw") == 1).join(first, on=GROUP_KEY).group_by("_question").len("_votes")
    )
    draws = samples.group_by("_question").agg(_draws=pl.col("draw").n_unique())
    table = draws.join(first, on="_question").join(largest, on="_question", how="left")
    several = pl.when(pl.col("_draws") > 1).then(pl.col("_votes").fill_null(0) / pl.col("_draws"))
    return table.select("_question", agreement=several)


def _describe_greedy(greedy: pl.DataFrame) -> pl.DataFrame:
    return greedy.group_by("_question", maintain_order=True).agg(greedy="text", greedy_right="gold")


def _add_rates(table: pl.DataFrame) -> pl.DataFrame:
    """Add intervals, the class of the belief and the knowledge class."""
    n = table["samples"].to_numpy()
    intervals = {}
    for start in ("", "gold_"):
        low, high = compute_wilson(table[f"{start}share"].to_numpy(), n)
        intervals |= {f"{start}low": low, f"{start}high": high}
    right, wrong, unsure = map(pl.lit, CLASSES)
    named = pl.when(pl.col("belief").is_null()).then(unsure).when("_right").then(right).otherwise(wrong)
    table = table.with_columns(pl.col("greedy", "greedy_right").fill_null([]), named.alias("class"))
    draws = table["greedy"].list.len().to_numpy()
    greedy = table["greedy_right"].list.sum().fill_null(0).to_numpy()
    # Guessing brings nothing here: one right sample of many is enough to be known weakly.
    knowledge = name_knowledge(greedy, draws, table["gold_share"].to_numpy(), np.full(len(draws), np.inf))
    table = table.with_columns(knowledge, **{name: pl.Series(values) for name, values in intervals.items()})
    return table.with_columns(knowledge=pl.when(pl.col("greedy").list.len() > 0).then("knowledge"))


def count_strangers(answers: pl.DataFrame) -> int:
    """How many questions were asked for greedy answers alone, so that nothing is made of them."""
    return answers.filter("greedy").join(answers.filter(~pl.col("greedy")), on=KEY, how="anti").select(KEY).unique().height
