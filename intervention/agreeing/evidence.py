"""What each kind of evidence says of a turn: its tokens, what the model answers by itself, and how probable that makes it.

Published measures disagree with one another (arXiv 2505.21701), so each says what it says, and `verdicts.py` joins them.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from intervention.agreeing.own import name_turn
from intervention.agreeing.rows import JUDGING, TURN
from lm_eval_tasks.contracts.answers import normalise_answer
from lm_eval_tasks.contracts.logs.scores import compute_wilson
from lm_eval_tasks.contracts.vocabulary import THRESHOLD

LIKELY_NATS = 0.7  # the model's best token is at most about twice as probable as the response's, on average
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
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


def weigh_answers(rows: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """Add what the model answered by itself: `samples, groups, belief, belief_share`, `agree_share` with its Wilson interval
    (`agree_low, agree_high`), `other_share` (of the largest group that does not agree), and `says_answers`.

    A sampled answer agrees where it stands in the response, word for word, as answers are compared. More than half of the
    samples decide: for the response (`agrees`), or for one other answer (`clashes`); else there is `no_belief`.

    Args:
        rows: the row table.
        answers: of its questions, each once, as `believing.choices` wrote them (`answers.parquet`).
    """
    asked = answers.join(rows.select(name_turn(), "response"), on="id", how="left", maintain_order="left")
    said = [find_agreeing(*row) for row in asked.select("response", "groups").iter_rows()]
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
    return join_turns(rows, found)


def find_agreeing(response: str, groups: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The share of sampled answers that stand in a response, and that of the largest other group.

    A group stands there where any of its wordings does. Marks of HTML in the response are passed over.

    >>> find_agreeing("The bloom is <b>red</b>.", [{"text": "Red", "share": 0.75}, {"text": "blue", "share": 0.25}])
    (0.75, 0.25)
    """
    own = f" {normalise_answer(_TAG.sub(' ', response))} "
    agree, other = 0.0, 0.0
    for group in groups:
        texts = [f" {plain} " for text in group.get("wordings") or [group["text"]] if (plain := normalise_answer(text))]
        if any(text in own for text in texts):
            agree += group["share"]
        elif texts:
            other = max(other, group["share"])
    return agree, other


def weigh_contrast(rows: pl.DataFrame, answers: pl.DataFrame, probes: pl.DataFrame) -> pl.DataFrame:
    """Add `probability` of what the response says among the model's own answers, `other_probability` (of the most probable
    other answer), `contrast_nats` and `says_contrast`.

    The probabilities are exact, of the few-shot prompt in which texts are scored. What the response says are the choices that
    stand in it, as sampled answers do (`weigh_answers`), and itself: so a sentence is not held against the word that it says.
    `contrast_nats` is the log of their probability less that of the most probable other choice, none taken for less than 1e-9.
    More than half decides.

    Args:
        rows: the row table.
        answers: of its questions, as `weigh_answers` takes them: a choice stands in a response where its group does.
        probes: of its questions, each once, whose choices are the model's answers and the response (gold).
    """
    asked = probes.join(rows.select(name_turn(), "response"), on="id", how="left", maintain_order="left")
    asked = asked.join(answers.select("id", "groups"), on="id", how="left", maintain_order="left")
    said = []
    for response, answer, choices, probs, groups in asked.select(
        "response", "answer", "choices", "probs", "groups"
    ).iter_rows():
        known = {group["text"]: group for group in groups or ()}
        others = [
            known.get(text, {"text": text}) | {"share": p}
            for i, (text, p) in enumerate(zip(choices, probs, strict=True))
            if i != answer
        ]
        agreeing, other = find_agreeing(response, others)
        said.append((agreeing + probs[answer], other))
    found = probes.select("id").with_columns(
        pl.DataFrame(said, schema={"probability": pl.Float64, "other_probability": pl.Float64}, orient="row")
    )
    found = found.with_columns(
        contrast_nats=pl.col("probability").clip(LEAST).log() - pl.col("other_probability").clip(LEAST).log(),
        says_contrast=pl.when(pl.col("probability") > THRESHOLD).then(pl.lit("agrees"))
        .when(pl.col("other_probability") > THRESHOLD).then(pl.lit("clashes"))
        .otherwise(pl.lit("no_belief")),
    )  # fmt: skip
    return join_turns(rows, found)


def join_turns(rows: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """Add the columns of a table of questions, by the ids that `own.name_turn` gives, to the row table."""
    numbers = found["id"].str.split_exact("/", 1).struct.rename_fields([*TURN]).struct.unnest()
    keyed = found.drop("id").with_columns(numbers.select(pl.all().cast(pl.Int64)))
    return rows.join(keyed, on=TURN, how="left", maintain_order="left")
