"""The kind of a row: whether it states a fact, reasons, writes in a style, or refuses. By its words, so a hint and no more."""

import polars as pl

SHORT = 12  # words up to which a response to a question states a fact

# Kind -> what it means. The first of a row's kinds in this order is its kind.
KINDS = {
    "refusal": "the response declines",
    "reasoning": "the response argues, computes or is code",
    "style": "the prompt asks for a text to be written or changed",
    "fact": "a question, and a short response or one that begins with a statement",
    "other": "none of these",
}

_REFUSAL = (
    r"(?i)^\s*(?:i(?:'|’)?m sorry\b|sorry,|i apologi[sz]e|as an? (?:ai|artificial|language) |"
    r"i (?:can(?:'|’)?t|cannot|can not|am (?:not able|unable)|won(?:'|’)?t|will not)\b)"
)
_REASONING = (
    r"(?im)```|^\s*(?:step \d|\d+[.)]\s.*\d\s*[-+*/×=]|therefore\b|thus\b|hence\b)|"
    r"\b(?:therefore|because of this|it follows that|so the answer)\b|\d\s*[-+*/×]\s*\d+\s*=|\\(?:frac|boxed)"
)
_STYLE = (
    r"(?i)^\W*(?:please |can you |could you |i want you to |your task is to )?(?:re-?write|rephrase|paraphrase|translate|"
    r"summari[sz]e|compose|write|draft|edit|correct|convert|generate|create|make up|come up with|brainstorm|describe|"
    r"tell me a|design|suggest|imagine|simplify|shorten|expand|complete the)\b"
)
_QUESTION = (
    r"(?i)\?\s*$|^\W*(?:please |can you )?(?:what|which|who|whom|whose|when|where|how (?:many|much|old|far|long|tall)|why|is|"
    r"are|was|were|do|does|did|has|have|name|give|state|identify|list|define|explain)\b"
)


def find_kind() -> pl.Expr:
    """The kind of a turn by its last prompt (`asked`) and its `response`.

    >>> rows = pl.DataFrame({"asked": ["Which herb heals?", "Write a poem."], "response": ["Sage.", "Roses are red."]})
    >>> rows.select(find_kind()).to_series().to_list()
    ['fact', 'style']
    """
    asked, response = pl.col("asked"), pl.col("response")
    short = response.str.strip_chars().str.count_matches(r"\S+") <= SHORT
    return (
        pl.when(response.str.contains(_REFUSAL)).then(pl.lit("refusal"))
        .when(response.str.contains(_REASONING)).then(pl.lit("reasoning"))
        .when(asked.str.contains(_STYLE)).then(pl.lit("style"))
        .when(asked.str.contains(_QUESTION) | short).then(pl.lit("fact"))
        .otherwise(pl.lit("other"))
        .alias("kind")
    )  # fmt: skip
