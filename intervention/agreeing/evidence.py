"""What each kind of evidence says of a turn: its tokens, what the model answers by itself, and how probable that makes it.

Published measures disagree with one another (arXiv 2505.21701), so each says what it says, and `verdicts.py` joins them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from intervention.agreeing.rows import JUDGING, TURN
from lm_eval_tasks.contracts.answers import holds_answer, normalise_answer
from lm_eval_tasks.contracts.logs.scores import compute_wilson
from lm_eval_tasks.contracts.vocabulary import THRESHOLD

LIKELY_NATS = 0.7  # the model's best token is at most about twice as probable as the response's, on average
LEAST = 1e-9  # a probability below which differences say nothing
KINDS_OF_EVIDENCE = {
    "tokens": "the response's tokens under the prompts",
    "answers": "what the model answers when it is asked",
    "contrast": "how probable the response is among the model's own answers",
}


def weigh_tokens(rows: pl.DataFrame) -> pl.DataFrame:
    """Add `says_tokens`, by conflicts at one place under all judging prompts.

    - `clashes`: the model overrules the response at one place under every judging prompt;
    - `style`: it does so under one of them only, so that the form decides;
    - `agrees`: it never does, and under one of them its best token is little more probable than the response's;
    - `no_belief`: it never does, and has many other tokens in mind under all of them.
    """
    if "conflict" not in rows.columns:
        return rows.with_columns(says_tokens=pl.lit(None, pl.String))
    overruled = [pl.col(f"overruled_{prompt}") > 0 for prompt in JUDGING]
    least = pl.min_horizontal(pl.col(f"excess_nats_{prompt}") for prompt in JUDGING)
    return rows.with_columns(
        says_tokens=pl.when("conflict").then(pl.lit("clashes"))
        .when(pl.all_horizontal(overruled)).then(None)
        .when(pl.any_horizontal(overruled)).then(pl.lit("style"))
        .when(least <= LIKELY_NATS).then(pl.lit("agrees"))
        .otherwise(pl.lit("no_belief"))
    )  # fmt: skip


def list_kinds(rows: pl.DataFrame) -> list[str]:
    """The kinds of evidence that a row table has."""
    return [kind for kind in KINDS_OF_EVIDENCE if f"says_{kind}" in rows.columns]


def list_questions(rows: pl.DataFrame, tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The questions that were asked: `id`, the `row` and `turn` it is of, `claim`, and what the data `said`.

    A turn is asked as it is, or by what its response states: then `claim` is the question, and `said` the claim's answer, not
    the response.

    Args:
        rows: the row table.
        tables: of what is known of questions, by `id`; claims have their `question` and `answers` there.
    """
    parts = pl.col("id").str.split("/")
    own = pl.concat([table.select(pl.col("^(id|question|answers)$")) for table in tables], how="diagonal")
    own = own.unique("id", keep="first", maintain_order=True)
    numbers = {name: parts.list.get(i, null_on_oob=True).cast(pl.Int64, strict=False) for i, name in enumerate(TURN)}
    own = own.with_columns(**numbers)
    own = own.join(rows.select(*TURN, "response"), on=TURN, how="left", maintain_order="left")
    claims = parts.list.len() > len(TURN)
    if "question" not in own.columns:
        return own.select("id", *TURN, claim=pl.lit(None, pl.String), said="response")
    said = pl.when(claims).then(pl.col("answers").list.first()).otherwise("response")
    return own.select("id", *TURN, claim=pl.when(claims).then("question"), said=said)


def weigh_answers(questions: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """Add what the model answered by itself: `samples, groups, belief, belief_share`, `agree_share` with its Wilson interval
    (`agree_low, agree_high`), `other_share` (of the largest group that does not agree), and `says_answers`.

    A sampled answer agrees where it stands in what the data says, word for word, as answers are compared. More than half of
    the samples decide: for the data (`agrees`), or for one other answer (`clashes`); else there is `no_belief`.

    Args:
        questions: as `list_questions` gives them.
        answers: to them, each once, as `believing.choices` wrote them (`answers.parquet`).
    """
    asked = answers.join(questions.select("id", "said"), on="id", how="left", maintain_order="left")
    said = [find_agreeing(*row) for row in asked.select("said", "groups").iter_rows()]
    found = asked.select(
        "id", "samples", "belief", pl.col("groups").list.len().alias("groups"), pl.col("share").alias("belief_share")
    ).with_columns(pl.DataFrame(said, schema={"agree_share": pl.Float64, "other_share": pl.Float64}, orient="row"))  # fmt: skip
    low, high = compute_wilson(found["agree_share"].to_numpy(), found["samples"].to_numpy())
    found = found.with_columns(
        pl.Series("agree_low", low), pl.Series("agree_high", high),
        says_answers=pl.when(pl.col("agree_share") > THRESHOLD).then(pl.lit("agrees"))
        .when(pl.col("other_share") > THRESHOLD).then(pl.lit("clashes"))
        .otherwise(pl.lit("no_belief")),
    )  # fmt: skip
    return questions.join(found, on="id", how="left", maintain_order="left")


def find_agreeing(response: str, groups: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The share of sampled answers that stand in a response, and that of the largest other group.

    A group stands there where any of its wordings does. Marks of HTML in the response are passed over.

    >>> find_agreeing("The bloom is <b>red</b>.", [{"text": "Red", "share": 0.75}, {"text": "blue", "share": 0.25}])
    (0.75, 0.25)
    """
    agree, other = 0.0, 0.0
    for group in groups:
        texts = [text for text in group.get("wordings") or [group["text"]] if normalise_answer(text)]
        if any(holds_answer(response, text) for text in texts):
            agree += group["share"]
        elif texts:
            other = max(other, group["share"])
    return agree, other


def weigh_contrast(questions: pl.DataFrame, answers: pl.DataFrame, probes: pl.DataFrame) -> pl.DataFrame:
    """Add `probability` of what the data says among the model's own answers, `other_probability` (of the most probable other
    answer), `contrast_nats` and `says_contrast`.

    The probabilities are exact, of the few-shot prompt in which texts are scored. What the data says are the choices that
    stand in it, as sampled answers do (`weigh_answers`), and itself: so a sentence is not held against the word that it says.
    `contrast_nats` is the log of their probability less that of the most probable other choice, none taken for less than 1e-9.
    More than half decides.

    Args:
        questions: as `list_questions` gives them.
        answers: to them, as `weigh_answers` takes them: a choice stands in a text where any wording of its group does.
        probes: of them, each once, whose choices are the model's answers and what the data says (gold).
    """
    asked = probes.join(questions.select("id", "said"), on="id", how="left", maintain_order="left")
    asked = asked.join(answers.select("id", "groups"), on="id", how="left", maintain_order="left")
    weighed = []
    for said, answer, choices, probs, groups in asked.select("said", "answer", "choices", "probs", "groups").iter_rows():
        known = {group["text"]: group for group in groups or ()}
        others = [
            known.get(text, {"text": text}) | {"share": p}
            for i, (text, p) in enumerate(zip(choices, probs, strict=True))
            if i != answer
        ]
        agreeing, other = find_agreeing(said, others)
        weighed.append((agreeing + probs[answer], other))
    found = probes.select("id").with_columns(
        pl.DataFrame(weighed, schema={"probability": pl.Float64, "other_probability": pl.Float64}, orient="row")
    )
    found = found.with_columns(
        contrast_nats=pl.col("probability").clip(LEAST).log() - pl.col("other_probability").clip(LEAST).log(),
        says_contrast=pl.when(pl.col("probability") > THRESHOLD).then(pl.lit("agrees"))
        .when(pl.col("other_probability") > THRESHOLD).then(pl.lit("clashes"))
        .otherwise(pl.lit("no_belief")),
    )  # fmt: skip
    return questions.join(found, on="id", how="left", maintain_order="left")


def score_clash(columns: Sequence[str]) -> pl.Expr:
    """How strongly what the data says clashes: the mean of the probabilities that another answer has, of those that are known.

    Those are its share of the samples and its exact probability (`other_share`, `other_probability`); null without both.
    """
    others = [pl.col(name) for name in ("other_share", "other_probability") if name in columns]
    return pl.mean_horizontal(others) if others else pl.lit(None, pl.Float64)


def join_turns(rows: pl.DataFrame, questions: pl.DataFrame) -> pl.DataFrame:
    """Add what is known of questions to the row table, and `claims`, how many of a turn were asked (0 where it was as it is).

    Of a turn that was asked by its claims it is what is known of the one that clashes most strongly: a response is as doubtful
    as the most doubtful thing that it states.
    """
    questions = questions.with_columns(claims=pl.col("claim").count().over(TURN), _score=score_clash(questions.columns))
    worst = questions.sort("_score", descending=True, nulls_last=True, maintain_order=True)
    worst = worst.unique(TURN, keep="first", maintain_order=True).drop("id", "said", "_score")
    return rows.join(worst, on=TURN, how="left", maintain_order="left")
