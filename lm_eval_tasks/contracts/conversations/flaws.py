"""What can be wrong with a conversation, and which of it keeps a turn from being judged."""

from collections.abc import Mapping

import polars as pl

# Flaw -> what it means. In a row, the first message that cannot be read ends what can be judged of it, and alone is named.
FLAWS: Mapping[str, str] = {
    "no_assistant_turn": "no assistant turn, so nothing to judge",
    "empty_response": "a response that is blank",
    "roles_out_of_order": "roles that are not user and assistant in turns, after a system prompt or none",
    "tool_call": "a call of a tool, or what a tool gave back",
    "image": "a part that is not text, such as an image",
    "not_text": "a content or a list of messages that is missing, a number, or otherwise no text",
    "duplicate": "the messages and the response of an earlier turn",
    "contradictory_duplicate": "the messages of another turn, with another response",
    "cut": "a response that ends in the middle",
}
# With these a turn is not judged; with the others it is, and is named.
EXCLUDING = ("no_assistant_turn", "empty_response", "roles_out_of_order", "tool_call", "image", "not_text")

FLAW_SCHEMA = pl.Schema({"row": pl.Int64, "turn": pl.Int64, "flaw": pl.String, "detail": pl.String})

MIN_WORDS = 60  # a response is only then cut for want of an end if it is longer: short ones often are no sentences
# What a response ends in that ends in the middle: a letter, a digit, a mark, or punctuation that goes on.
_OPEN_END = r"[\p{L}\p{N}\p{M},;:(\[{–—-]\s*$"
# A word, or a character of writing without spaces.
_WORD = r"[\p{Han}\p{Hiragana}\p{Katakana}]|[^\s\p{Han}\p{Hiragana}\p{Katakana}]+"
_FENCE = r"(?m)^\s*```"
# A response of one line, or one whose last line comes after a whole sentence or a colon: the rows of a list, a table or verse
# need no full stop where those before have none.
_AFTER_SENTENCE = r"""^\s*[^\n]+\s*$|[.!?…:。！？।؟]["”’')\]*_`]*\s*\n\s*[^\n]+\s*$"""
# Last lines that need none: too short to be prose and no item of a list, a row of a table, a heading, an address, hashtags.
_NO_PROSE = (
    r"(?:^|\n)[ \t]*(?:[|#>][^\n]*|[^\s\d*+•-][^\n]{0,58}[^\s,;:(\[{])\s*$"
    r"|(?:https?://|www\.|#)\S*\s*$"
)


def find_cut(turns: pl.DataFrame) -> pl.DataFrame:
    """The turns whose response plainly ends in the middle: in an open code fence, or long and without an end of a sentence.

    Args:
        turns: with `row`, `turn` and `response`.

    >>> rows = pl.DataFrame({"row": [0, 1], "turn": [0, 0], "response": ["Run:\\n```\\nls", "Two words"]})
    >>> find_cut(rows).select("row", "flaw").rows()
    [(0, 'cut')]
    """
    response = pl.col("response")
    open_fence = response.str.count_matches(_FENCE) % 2 == 1
    # What is rare is looked for first: counting words takes longest.
    found = turns.select("row", "turn", "response", open_fence=open_fence).filter(
        pl.col("open_fence") | response.str.contains(_OPEN_END)
    )
    found = found.filter(
        pl.col("open_fence")
        | (
            response.str.contains(_AFTER_SENTENCE)
            & ~response.str.contains(_NO_PROSE)
            & (response.str.count_matches(_WORD) > MIN_WORDS)
        )
    )
    end = response.str.strip_chars_end().str.tail(40).str.replace_all(r"\s+", " ")
    why = pl.when("open_fence").then(pl.lit("a code fence is left open")).otherwise(pl.format("it ends in '{}'", end))
    return found.select("row", "turn", flaw=pl.lit("cut"), detail=why)


def find_repeated(turns: pl.DataFrame, prompt: str) -> pl.DataFrame:
    """The turns that repeat an earlier one, and those whose messages have another response elsewhere.

    Args:
        turns: with `row`, `turn` and `text_hash`.
        prompt: the column that tells apart what stands before a response.

    >>> rows = pl.DataFrame({"row": [0, 1, 2], "turn": [0, 0, 0], "prompt": ["p", "p", "p"], "text_hash": ["a", "b", "a"]})
    >>> for row in find_repeated(rows, "prompt").rows():
    ...     print(row)
    (2, 0, 'duplicate', 'as row 0, turn 0')
    (0, 0, 'contradictory_duplicate', 'row 1, turn 0 has another response')
    (1, 0, 'contradictory_duplicate', 'row 0, turn 0 has another response')
    (2, 0, 'contradictory_duplicate', 'row 1, turn 0 has another response')
    """
    turns = turns.select("row", "turn", prompt, "text_hash").filter(pl.col(prompt).is_duplicated())
    twins = turns.filter(~pl.col("text_hash").is_first_distinct()).join(_list_first(turns, "text_hash"), on="text_hash")
    # Another response is that of the first turn with these messages, or, of those that respond as it does, the next.
    turns = turns.with_columns(differs=pl.col("text_hash") != pl.first("text_hash").over(prompt))
    first, other = _list_first(turns, prompt), _list_first(turns.filter("differs"), prompt)
    others = pl.concat(
        turns.filter(pl.col("differs") == differs).join(found, on=prompt) for differs, found in ((True, first), (False, other))
    ).sort("row", "turn")
    return pl.concat([_name(twins, "duplicate", "as {}"), _name(others, "contradictory_duplicate", "{} has another response")])


def _list_first(turns: pl.DataFrame, key: str) -> pl.DataFrame:
    """The first turn of each value of a column, in words."""
    said = pl.format("row {}, turn {}", "row", "turn")
    return turns.filter(pl.col(key).is_first_distinct()).select(key, other=said)


def _name(turns: pl.DataFrame, flaw: str, said: str) -> pl.DataFrame:
    return turns.select("row", "turn", flaw=pl.lit(flaw), detail=pl.format(said, "other"))


def count_flaws(flaws: pl.DataFrame) -> pl.DataFrame:
    """How often each flaw is: `flaw`, `rows` (rows that have it) and `turns` (turns, or rows where it is of the row).

    >>> count_flaws(pl.DataFrame([(3, 0, "cut", ""), (3, 1, "cut", "")], schema=FLAW_SCHEMA, orient="row")).rows()
    [('cut', 1, 2)]
    """
    counts = flaws.group_by("flaw").agg(rows=pl.col("row").n_unique().cast(pl.Int64), turns=pl.len().cast(pl.Int64))
    return counts.sort(pl.col("flaw").replace_strict({name: i for i, name in enumerate(FLAWS)}, return_dtype=pl.Int64))
