"""Numbers that are written as words, read."""

from collections.abc import Sequence

_ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen")
_ONES += ("fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
ONES = {word: number for number, word in enumerate(_ONES)}
TENS = {word: number for number, word in enumerate(_TENS, 2)}
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}


def join_numbers(words: Sequence[str]) -> list[str]:
    """Words in small letters, with the numbers among them as digits.

    Words that form no one number stay several: "nineteen eighty" is 19 80, as nobody says 99 so.

    >>> join_numbers("two hundred and five crows".split()), join_numbers("one million three thousand".split())
    (['205', 'crows'], ['1003000'])
    >>> join_numbers("salt and seven".split()), join_numbers("nineteen eighty four".split())
    (['salt', 'and', '7'], ['19', '84'])
    >>> join_numbers("3.5 million".split())
    ['3500000']
    """
    found: list[str] = []
    position = 0
    while position < len(words):
        value, end = _read_number(words, position)
        found.append(words[position] if value is None else value)
        position = end
    return found


def _read_number(words: Sequence[str], start: int) -> tuple[str | None, int]:
    """The number that begins at a word, and where it ends; None where none does."""
    total, scale, position = 0, None, start
    while True:
        after_and = position + (position > start and position < len(words) and words[position] == "and")
        part, end = _read_hundreds(words, after_and)
        if part is None or (position > start and scale is None):
            break
        own = SCALES.get(words[end]) if end < len(words) else None
        if scale is not None and (own or 1) >= scale:
            break  # "two thousand three thousand" is two numbers
        total += part * (own or 1)
        position, scale = end + bool(own), own
    if position > start:
        return str(total), position
    word = words[start]
    if start + 1 < len(words) and words[start + 1] in SCALES and (digits := _multiply(word, SCALES[words[start + 1]])):
        return digits, start + 2
    return None, start + 1


def _read_hundreds(words: Sequence[str], start: int) -> tuple[int | None, int]:
    """A number under a thousand."""
    value, end = _read_tens(words, start)
    if value is not None and 0 < value < 100 and end < len(words) and words[end] == "hundred":
        rest, after = _read_tens(words, end + 1 + (end + 1 < len(words) and words[end + 1] == "and"))
        return (value * 100 + rest, after) if rest is not None else (value * 100, end + 1)
    return value, end


def _read_tens(words: Sequence[str], start: int) -> tuple[int | None, int]:
    """A number under a hundred."""
    if start >= len(words):
        return None, start
    word = words[start]
    if word in TENS:
        one = ONES.get(words[start + 1]) if start + 1 < len(words) else None
        return (TENS[word] * 10 + one, start + 2) if one and one < 10 else (TENS[word] * 10, start + 1)
    return ONES.get(word), start + 1


def _multiply(word: str, scale: int) -> str | None:
    """Digits times a scale, exactly: 3.5 million is 3500000."""
    whole, point, part = word.lstrip("-").partition(".")
    if not (whole.isdigit() and (part.isdigit() or not point) and word.isascii()) or 10 ** len(part) > scale:
        return None
    sign = "-" if word.startswith("-") else ""
    return sign + str(int(whole + part) * scale // 10 ** len(part))
