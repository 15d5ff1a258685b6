"""Texts as two of them are compared, without what does not matter: case, white space, forms of characters, punctuation."""

import polars as pl


def normalise_texts(text: pl.Expr) -> pl.Expr:
    """A text as two are compared: NFKC, small letters, every run of white space and punctuation one space.

    A text of punctuation alone stays as it is. Signs such as + and < are no punctuation.
    """
    plain = text.str.normalize("NFKC").str.to_lowercase()
    words = plain.str.replace_all(r"[\s\p{P}\p{C}]+", " ").str.strip_chars()
    return pl.when(words == "").then(plain.str.strip_chars()).otherwise(words)


def normalise_choices(text: pl.Expr) -> pl.Expr:
    """A choice as two are compared: as `normalise_texts`, but with the punctuation inside, since -20 is not 20."""
    plain = text.str.normalize("NFKC").str.to_lowercase().str.replace_all(r"[\s\p{C}]+", " ")
    words = plain.str.strip_chars(" .。,;、'\"“”‘’")
    return pl.when(words == "").then(plain.str.strip_chars()).otherwise(words)
