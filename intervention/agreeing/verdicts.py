"""The verdict on a turn: what two kinds of evidence or more say, and none of them denies."""

import polars as pl

from intervention.agreeing.evidence import list_kinds, score_clash

# Verdict -> what it means.
VERDICTS = {
    "clashes": "the model holds another answer for right",
    "agrees": "the model says the same",
    "style": "the model says the same, but in another form",
    "no_belief": "the model has no answer of its own",
    "undecided": "too little evidence, or evidence that contradicts itself",
}
NEEDED = 2  # kinds of evidence


def judge(rows: pl.DataFrame) -> pl.DataFrame:
    """Add `verdict` (of `VERDICTS`), `evidence` (the kinds that say it) and `score`, from what `evidence.py` adds.

    - `clashes`, `agrees`, `no_belief`: two kinds or more say so, and none says the contrary (for `no_belief`: anything else);
    - `style`: the tokens do not agree, another kind says that the model answers the same, and none that it answers otherwise;
    - `undecided`: all else.

    The `score` orders turns by how strongly they clash (`evidence.score_clash`); null where the model was not asked.

    >>> says = {"says_tokens": ["clashes", "style", "clashes"], "says_answers": ["clashes", "agrees", None]}
    >>> judge(pl.DataFrame(says))["verdict"].to_list()
    ['clashes', 'style', 'undecided']
    """
    kinds = list_kinds(rows)
    asked = [kind for kind in kinds if kind != "tokens"]
    clashes, agrees, no_belief, style = (
        count_sayings(kinds, verdict) for verdict in ("clashes", "agrees", "no_belief", "style")
    )
    same = (count_sayings(asked, "agrees") > 0) & (count_sayings(asked, "clashes") == 0)
    surprised = pl.col("says_tokens") != "agrees" if "tokens" in kinds else pl.lit(False)
    verdict = (
        pl.when((clashes >= NEEDED) & (agrees == 0)).then(pl.lit("clashes"))
        .when((agrees >= NEEDED) & (clashes + style == 0)).then(pl.lit("agrees"))
        .when(surprised & same).then(pl.lit("style"))
        .when((no_belief >= NEEDED) & (clashes + agrees == 0)).then(pl.lit("no_belief"))
        .otherwise(pl.lit("undecided"))
    )  # fmt: skip
    rows = rows.with_columns(verdict=verdict, score=score_clash(rows.columns))
    # What a kind says of a verdict of style: the tokens are surprised, the others agree.
    said = [
        pl.when(
            (pl.col(f"says_{kind}") == pl.col("verdict"))
            | ((pl.col("verdict") == "style") & (pl.lit(kind == "tokens") | (pl.col(f"says_{kind}") == "agrees")))
        ).then(pl.lit(kind))
        for kind in kinds
    ]
    return rows.with_columns(evidence=pl.concat_list(said).list.drop_nulls())


def count_sayings(kinds: list[str], verdict: str) -> pl.Expr:
    """How many kinds of evidence say a verdict of each turn."""
    said = [(pl.col(f"says_{kind}") == verdict).fill_null(False).cast(pl.Int64) for kind in kinds]
    return pl.sum_horizontal(said) if said else pl.lit(0)
