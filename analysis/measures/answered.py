"""Measures of answers in words: whether they are accepted, and how alike they are before and after.

Answers have no probabilities over choices, and so no KL. Those that say the same are a group (`contracts.answers.name_groups`);
before and after are two distributions over the groups of a question, by their shares of the answers that were given.
"""

import polars as pl

from analysis.measures.keys import PART, QUESTION, RUN_KEY
from analysis.measures.metrics import ANSWERED
from lm_eval_tasks.contracts.answers import name_groups

ROW = (*RUN_KEY, "run", "phase", "split", *QUESTION)
ANSWERED_SCHEMA = pl.Schema(
    dict.fromkeys(ROW, pl.String)
    | {"ratio": pl.Float64, "seed": pl.Int64}
    | {"samples": pl.Int64}  # how many were sampled, over all draws of demonstrations; null where none were
    | dict.fromkeys(ANSWERED, pl.Float64)
)


def measure_answers(answers: pl.DataFrame) -> pl.DataFrame:
    """What the answers of every run and phase to a question are worth, and how alike they are to the base model's.

    - `exact_match`: 1 where the greedy answer is accepted, else 0.
    - `accepted_samples`: the share of the sampled answers that are accepted.
    - `same_answer`: 1 where the greedy answer is in the group of the base model's greedy answer in its few-shot probe, else 0.
    - `total_variation`: half the sum over groups g of ``|p(g) - q(g)|``, where p(g) is the group's share of the base model's
      few-shot samples, and q(g) of these. It is 0 where all shares are the same, 1 where no group is in both (Levin and Peres
      2017, "Markov Chains and Mixing Times", 2nd edition, proposition 4.2), and computed as ``1 - sum(min(p(g), q(g)))``, which
      is the same. Samples differ by chance, so that of two sets from one model it is above 0.

    Of several draws of demonstrations samples are pooled, and greedy answers averaged: `same_answer` then is the share of all
    pairs of an answer before and one after that are in one group. The last two are null in the few-shot probe itself, and
    where that was not asked the question in the same way.

    Args:
        answers: a row a question, run, phase and draw, greedy ones and sampled ones: `ROW`, `answers` (the accepted ones),
            `greedy`, and `samples` (what was answered).

    Returns:
        `ANSWERED_SCHEMA`, a row a question, run and phase.

    >>> row = dict.fromkeys(ROW, "") | {"ratio": None, "seed": None, "answers": ["Rome"], "greedy": False}
    >>> said = {"base_probe": ["Rome", "Rome", "Oslo", "Bern"], "tuned_chat": ["Rome", "Oslo", "Oslo", "Lima"]}
    >>> measured = measure_answers(pl.DataFrame([row | {"phase": phase, "samples": texts} for phase, texts in said.items()]))
    >>> measured.select("phase", "samples", "accepted_samples", "total_variation").rows()
    [('base_probe', 4, 0.5, None), ('tuned_chat', 4, 0.25, 0.5)]
    """
    texts = answers.select(*ROW, "greedy", text="samples").explode("text")
    questions = answers.select(*QUESTION, "answers").unique(QUESTION)
    texts = name_groups(texts, questions, QUESTION)
    way = (*ROW, "greedy")
    groups = texts.group_by(*way, "group", "gold", maintain_order=True).len("_count")
    groups = groups.with_columns(_share=pl.col("_count") / pl.col("_count").sum().over(way))
    asked = (*PART, *QUESTION, "greedy")
    before = groups.filter(phase="base_probe").select(*asked, "group", _before="_share")
    groups = groups.join(before, on=[*asked, "group"], how="left", maintain_order="left")
    compared = groups.join(before.select(asked).unique().with_columns(_asked=True), on=asked, how="left", maintain_order="left")
    share, known = pl.col("_share"), pl.col("_asked").first() & (pl.col("phase").first() != "base_probe")
    measured = compared.group_by(way, maintain_order=True).agg(
        _count=pl.col("_count").sum().cast(pl.Int64),
        _accepted=share.filter("gold").sum(),
        _same=pl.when(known).then((share * pl.col("_before")).sum()),
        _moved=pl.when(known).then(pl.max_horizontal(0.0, 1 - pl.min_horizontal(share, pl.col("_before").fill_null(0)).sum())),
    )
    greedy, sampled = pl.col("greedy"), ~pl.col("greedy")
    measured = measured.group_by(ROW, maintain_order=True).agg(
        samples=pl.col("_count").filter(sampled).first(),
        exact_match=pl.col("_accepted").filter(greedy).first(),
        accepted_samples=pl.col("_accepted").filter(sampled).first(),
        same_answer=pl.col("_same").filter(greedy).first(),
        total_variation=pl.col("_moved").filter(sampled).first(),
    )
    return measured.select(pl.col(name).cast(kind) for name, kind in ANSWERED_SCHEMA.items())
