"""Which choice a text states as the answer, by its letter ("The answer is B.") or by its text ("The answer is Taihu", "Taihu").

An explanation that states another choice than the response it stands beside contradicts it, and a context that states the
answer gives it away. Where a text states several choices, the first counts. What names a choice without calling it the answer
("Option A is wrong", "A dog is ...", "vitamin C") does not count.
"""

import re
from collections.abc import Callable

import polars as pl

from lm_eval_tasks.contracts.prompts import LETTERS

ROWS_AT_ONCE = 100_000  # the pieces of so many texts are held at a time

# A text is cut at its cues. A piece begins with _AFTER where a cue such as "the answer is" stands before it, with _SO where
# "therefore, option" does, with _START where the text begins; it ends with _BEFORE where "is correct" follows.
_CUT, _AFTER, _BEFORE, _START, _SO = "\x1e", "\x02", "\x03", "\x04", "\x05"
_LABELLED = r"^\W*[A-J](?:\W|$)"
_HINTS = (
    "ans",
    "correct",
    "right",
    "appropriate",
    "suitable",
    "accurate",
    "proper",
    "best",
    "option",
    "choice",
    "答案",
    "选",
    "正确",
)
_B = r"(?-u:\b)"  # quicker where a text is not ASCII
_GOOD = r"(?:correct|right|accurate|appropriate|suitable|proper|best)"
_BE = r"(?:is|was|be)"
_NOUN = r"(?:answer|option|choice|response|one|statement|description|representation)"
_STATED = (
    rf"{_B}(?:[Aa]nswer|ANSWER|[Aa]ns|ANS)(?:{_B} ?[.:;=] *| ?- | ?-)(?:- )?(?:(?:is|IS){_B}[ .:;=]*)?"
    rf"|{_B}(?:[Aa]nswer|ANSWER|(?:[Cc]orrect|[Rr]ight|[Bb]est|{_GOOD}) (?:[a-z]+ )?{_NOUN}){_B}"
    rf"(?:[^.\n!?;\"\x1e]|\"[^\"\n\x1e]*\"){{0,80}}?{_B}{_BE}{_B}"
    r"(?: (?:actually|indeed|in fact|therefore|thus|clearly|likely|probably|most likely|rather|simply|given as|letter))*"
    rf"(?: [Oo]ption{_B}| choice{_B})?[ :,]*"
    rf"|{_B}(?:[Aa]nswer|ANSWER|[Aa]ns|ANS){_B} *(?:(?:is|IS){_B}[ .:;=]*)?"
    r"|(?:正确)?答案(?:应该|应当|应|就)?(?:是|为|选)?[ :]*|正确的?(?:选项|说法)?(?:是|为)[ :]*|选择?[ :]*"
)
_CONCLUDED = (
    rf"{_B}(?:corresponds? to|[Tt]herefore|[Hh]ence|[Tt]hus|[Ss]o|which is|that is|leaving|leaves),? (?:the )?"
    r"(?:[Oo]ption|choice) "
)
_CALLED = (
    r"['\")\]]*,? ?(?:is|was|are|would be) (?:(?:actually|indeed|therefore|thus|also|clearly|the|most|only) )*"
    rf"{_GOOD}(?: {_NOUN}{_B}|[.,;:)!]|$|\n| (?:because|since|as|for|here|in|and){_B})"
    rf"|['\")\]]*,? ?the (?:most |only )?{_GOOD} {_NOUN}(?:[.;)!]|$|\n| (?:because|since|as|for){_B})|选?项(?:是|为)?正确的?"
)
_CALLED_SO = r"(?:是|为)?正确(?:答案|的)?"
# Replaced first: "is not X, but rather", so that what follows is stated; "cannot be X" and "AC项错误", which state nothing.
_INSTEAD = rf"{_B}{_BE}(?: actually)? not{_B}[^.\n]{{1,200}}?,?['\"]* but(?: rather| instead| actually)?{_B}"
_CANNOT = rf"{_B}(?:can|could|should|would|may|might|must|does)(?: ?not|n't) (?:be|seem|appear){_B}"
_CALLED_WRONG = r"[A-J、,和及 ]+(?:选?项)?(?:均|都|是|也|并)?(?:错误|错|不正确|不对|不是正确|有误)"

_CUES = (
    (_CALLED, _BEFORE + _CUT),
    (_STATED, _CUT + _AFTER),
    (_CONCLUDED, _CUT + _SO + "option "),
    (_CALLED_SO, _BEFORE + _CUT),
)

_LETTER = r"([A-J])"
_OPEN = r"[ '\"(\[-]*"
_END = (
    r"(?:[.):,;'\"\]\n]|$| ?[-–—](?: |[A-Z])|[^\x00-\x7f]"
    r"| (?:because|since|as|i\.?e|and|or|which|due|according|[A-J]\b)| ?\()"
)
# Where the answer is said as "it is B" in the middle of a sentence, and as a label in small letters ("Ans. c. Tetanus").
_AFTERS = (
    rf"^{_AFTER}{_OPEN}{_LETTER}{_END}",
    rf"^{_AFTER}[^.\n]{{0,80}}? (?:is|being):? ['\"(\[]*{_LETTER}(?:[.;)'\"]|$|\n)",
    rf"^{_AFTER} *(?:['\"(\[]+([a-j])['\")\]]|([a-j])(?:[.)] |[.)][A-Z]|[.)]?$|,? i\.?e))",
    rf"^{_SO}option {_OPEN}{_LETTER}['\")\]]*(?:[.;\n]|$)",
    rf"^{_START} *(?:[(\[\"']{_LETTER}[)\]\"']|{_LETTER}(?:[):]|[.]? *(?:$|\n)))",
)
_GAP = r"['\")\]]*(?:,? ?[\"(][^\"()\n]{0,200}[\")]?,?|[,:] [^,.\n]{0,150},?)?"
_BEFORES = (
    rf"(?:(?i:option|choice|answer|statement)|选项) *[\"'(\[]*{_LETTER}{_GAP} *{_BEFORE}$",
    rf"(?:^|[ ,:{_AFTER}{_START}])[(\"]{_LETTER}[)\"]? *{_BEFORE}$",
    rf"(?:[{_AFTER}{_START}.,;:。\n] *|(?i:therefore|hence|thus|so|only|that|making|makes) |[^\x00-\x7f]){_LETTER} *{_BEFORE}$",
)
_GOES_ON = r"^(?:[a-z0-9_]|[.,:/^-][a-z0-9]| ?[%°])"  # a number or word of which the choice is only the beginning
_ENDS = r"^(?:$|[ 。,.;、:!])"  # Chinese has no spaces between words

# How a context may name a letter that is in its place in the middle.
_OPTION = r"(?:(?i:\b(?:options?|choices?|answers?|letters?)) *|选项?)[\"'(\[]*(?:[A-J](?:, ?| and | or |, and |, or ))*"
_NOT_WORD = r"(?:[^A-Za-z0-9]|$)"


def find_statements(table: pl.DataFrame, text: str) -> pl.DataFrame:
    """Which choice each text states as the answer.

    A letter beyond the question's choices does not count; a choice that begins like a letter ("E. coli") counts as text. Where
    letter and text say different things, the letter counts.

    Args:
        table: the questions' `choices`, and the texts.
        text: the column of texts, which may be null.

    Returns:
        A row a row: `states`, the 0-based index of the choice, null where none is stated; `lettered`, whether by its letter.
    """
    parts = [
        _find_statements(part) for part in table.select("choices", _text=pl.col(text).cast(pl.String)).iter_slices(ROWS_AT_ONCE)
    ]
    return pl.concat(parts) if parts else pl.DataFrame(schema={"states": pl.Int64, "lettered": pl.Boolean})


def find_contradictions(table: pl.DataFrame, text: str, choice: str) -> pl.Series:
    """Whether each text states another choice than the one it goes with; null where it states none.

    A choice that is repeated contradicts none of its repetitions.

    Args:
        table: the questions' `choices`, the texts, and the choices that they go with.
        text: the column of texts (explanations), which may be null.
        choice: the column of 0-based indices of the choices.
    """
    table = table.select("choices", _choice=pl.col(choice)).hstack(find_statements(table, text))
    says = [pl.col("choices").list.get(pl.col(name), null_on_oob=True) for name in ("states", "_choice")]
    return table.select(contradicts=says[0] != says[1]).to_series()


def find_leaks(table: pl.DataFrame, text: str, choice: str) -> pl.Series:
    """Whether each text gives an answer away: it states that choice as the answer, or names its letter as that of a choice.

    That the text of the choice occurs is no leak, since knowledge of an answer speaks of it.

    Args:
        table: the questions' `choices`, the texts, and the answers.
        text: the column of texts (contexts); null leaks nothing.
        choice: the column of 0-based indices of the answers.
    """
    rows = table.select(_tidy(table[text].cast(pl.String)).alias("_text"), _choice=pl.col(choice)).hstack(
        find_statements(table, text)
    )
    names = pl.any_horizontal((pl.col("_choice") == i) & _names(letter) for i, letter in enumerate(LETTERS))
    return rows.select(leaks=(names | (pl.col("states") == pl.col("_choice")).fill_null(False)).fill_null(False)).to_series()


def find_letters(table: pl.DataFrame, text: str) -> pl.Series:
    """Whether each text names the letter of a choice, and so fits one order of the choices alone.

    Args:
        table: the questions' `choices`, and the texts.
        text: the column of texts; null names none.
    """
    rows = table.select(_tidy(table[text].cast(pl.String)).alias("_text"), _n=pl.col("choices").list.len())
    named = pl.any_horizontal((pl.col("_n") > i) & _names(letter) for i, letter in enumerate(LETTERS))
    return rows.select(letters=named.fill_null(False)).to_series()


def _names(letter: str) -> pl.Expr:
    """Whether a tidy text names a letter as that of a choice."""
    pattern = rf"{_OPTION}{letter}{_NOT_WORD}|[(\[\"']{letter}[)\]\"']|(?m:^) *{letter}(?:[):]|\. )"
    return pl.col("_text").str.contains(pattern)


def _find_statements(table: pl.DataFrame) -> pl.DataFrame:
    rows = table.with_row_index("_row")
    hinted = rows.filter(
        pl.col("_text").str.contains_any(_HINTS, ascii_case_insensitive=True) | pl.col("_text").str.contains(_LABELLED)
    )
    widest = table["choices"].list.len().max() or 0
    pieces = (
        _read_choices(hinted, widest)
        .with_columns(_piece=_cut(_tidy(hinted["_text"])))
        .explode("_piece")
        .filter(pl.col("_piece").str.contains(rf"^[{_AFTER}{_SO}{_START}]|{_BEFORE}$"))
        .with_columns(
            _after=pl.when(pl.col("_piece").str.contains(rf"^[{_AFTER}{_START}]")).then(pl.col("_piece").str.head(300)),
            _before=pl.when(pl.col("_piece").str.ends_with(_BEFORE)).then(pl.col("_piece").str.tail(300)),
        )
        .with_columns(_bare(pl.col("_after")), _before=" " + _bare(pl.col("_before")))
    )
    pieces = pieces.select(
        "_row",
        "_n",
        _after=_find_longest(widest, _follows),
        _letter_after=_read_letter(_AFTERS),
        _before=_find_longest(widest, _precedes),
        _letter_before=_read_letter(_BEFORES),
    )
    letter = pl.coalesce("_letter_after", "_letter_before")
    found = (
        pieces.with_columns(states=pl.coalesce("_after", "_letter_after", "_before", "_letter_before"))
        .filter(pl.col("states") < pl.col("_n"))
        .select("_row", "states", lettered=(letter == pl.col("states")).fill_null(False))
        .unique("_row", keep="first", maintain_order=True)
    )
    found = rows.select("_row").join(found, on="_row", how="left", maintain_order="left")
    found = found.join(_find_whole(rows, widest), on="_row", how="left", maintain_order="left")
    whole = pl.col("_whole")
    return found.select(
        states=pl.coalesce(whole, "states"), lettered=pl.when(whole.is_null()).then("lettered").otherwise(False)
    )


def _find_whole(rows: pl.DataFrame, widest: int) -> pl.DataFrame:
    """`_row` and `_whole`: the choice of which nothing but the text is said, where that is so."""
    longest = pl.col("choices").list.eval(pl.element().str.len_chars()).list.max()
    short = rows.filter(pl.col("_text").str.strip_chars().str.len_chars() <= longest + 8)  # for an article, quotes and a stop
    texts = _read_choices(short, widest).with_columns(_said=_bare(_tidy(short["_text"])))
    whole = _find_longest(widest, lambda i: pl.col("_said") == pl.col(f"_choice_{i}"))
    return texts.select("_row", _whole=whole).drop_nulls()


def _tidy(texts: pl.Series) -> pl.Series:
    """Full-width forms, curly quotes, emphasis, runs of spaces and control characters made plain."""
    wide = texts.str.contains(r"[^\x00-\x7f]").fill_null(False)
    plain = texts.filter(wide).str.normalize("NFKC").str.replace_all(r"[‘’]", "'").str.replace_all(r"[“”«»「」『』]", '"')
    texts = texts.clone().scatter(wide.arg_true(), plain.str.replace_all(r"[^\S\n]", " "))
    texts = texts.str.replace_all(r"\*\*|__|\r", "").str.replace_all("`", "'", literal=True)
    return texts.str.replace_all(r"[\x00-\x09\x0b-\x1f]| {2,}", " ").str.strip_chars()


def _cut(texts: pl.Series) -> pl.Series:
    """The pieces of each text."""
    # A list that begins with the first choice calls none of them the answer.
    listing = texts.str.contains(r"\n *\(?[B-J][.):]")
    texts = texts.str.replace_all(_INSTEAD, "is").str.replace_all(_CANNOT, "not").str.replace_all(_CALLED_WRONG, " ")
    for cue, mark in _CUES:
        texts = texts.str.replace_all(cue, mark)
    return texts.zip_with(listing, _START + texts).str.split(_CUT)


def _read_choices(rows: pl.DataFrame, widest: int) -> pl.DataFrame:
    """The number of choices, and the bare text of each; null where it is only a letter, which would be taken for a label."""
    choices = [_tidy(rows["choices"].list.get(i, null_on_oob=True)).alias(f"_choice_{i}") for i in range(widest)]
    letters = ["", *LETTERS[:widest].lower()]
    rows = rows.select("_row", _n=pl.col("choices").list.len()).with_columns(choices)
    rows = rows.with_columns(_bare(pl.col(f"_choice_{i}")) for i in range(widest))
    return rows.with_columns(pl.when(~pl.col(c.name).is_in(letters)).then(pl.col(c.name)).alias(c.name) for c in choices)


def _read_letter(patterns: tuple[str, ...]) -> pl.Expr:
    """The index of the letter that the first of the patterns that fits finds in a piece."""
    counts = [len(re.findall(r"\(\[[Aa]-[Jj]\]\)", pattern)) for pattern in patterns]
    groups = [
        pl.col("_piece").str.extract(p, i) for p, count in zip(patterns, counts, strict=True) for i in range(1, 1 + count)
    ]
    indices = {letter: i for i, letter in enumerate(LETTERS)}
    return pl.coalesce(groups).str.to_uppercase().replace_strict(indices, default=None, return_dtype=pl.Int64)


def _bare(text: pl.Expr) -> pl.Expr:
    """A text as it is compared: small letters, without marks, quotes, brackets, leading articles and a final stop."""
    text = text.str.to_lowercase().str.replace_all(r"[\x02-\x05'\"(\[\s]+", " ").str.strip_chars(" ")
    return text.str.replace(r"^(?:(?:the|an?|-) )+", "").str.strip_chars_end(" .。")


def _find_longest(widest: int, fits: Callable[[int], pl.Expr]) -> pl.Expr:
    """The index of the longest of the choices that fit a piece."""
    lengths = [pl.when(fits(i)).then(pl.col(f"_choice_{i}").str.len_chars()).otherwise(0) for i in range(widest)]
    return pl.when(pl.max_horizontal(lengths) > 0).then(pl.concat_list(lengths).list.arg_max()).cast(pl.Int64)


def _follows(i: int) -> pl.Expr:
    """Whether a piece goes on with the text of choice i after its cue, or with its letter and text."""
    piece, text = pl.col("_after"), pl.col(f"_choice_{i}")
    unlabelled = piece.str.replace(rf"^-?{LETTERS[i].lower()}(?:[.:)-]+ ?| )", "")
    labelled = pl.when(unlabelled != piece).then(unlabelled)
    plain = pl.when(pl.col("_piece").str.starts_with(_AFTER)).then(piece)
    return pl.any_horizontal(_begins_with(rest, text) for rest in (plain, labelled))


def _begins_with(rest: pl.Expr, text: pl.Expr) -> pl.Expr:
    """Whether a piece begins with the whole of a text, and not with a longer word or number."""
    after = rest.str.slice(text.str.len_chars(), 4)
    word, chinese = text.str.contains(r"[0-9a-z_]$"), text.str.contains(r"[^\x00-\x7f]$")
    ends = pl.when(word).then(~after.str.contains(_GOES_ON)).when(chinese).then(after.str.contains(_ENDS)).otherwise(True)
    return rest.str.starts_with(text) & ends


def _precedes(i: int) -> pl.Expr:
    """Whether a piece that is called correct ends with the text of choice i."""
    return pl.col("_before").str.ends_with(" " + pl.col(f"_choice_{i}"))
