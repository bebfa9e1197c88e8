"""Write the numbers of lists as documents show them: 3, c, iii."""

from __future__ import annotations

from string import ascii_lowercase

__all__ = ["numeral"]

_ROMAN = (
    (1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"),
    (9, "ix"), (5, "v"), (4, "iv"), (1, "i"),
)  # fmt: skip
_MOST_ROMAN = 3_999
_MOST_LETTERS = 26**4


def numeral(number: int, form: str = "1") -> str:
    """Return a number in a form: "1", "a", "A", "i" or "I", as HTML's ``type`` names them.

    Numbers that have no such form, such as 0 in letters, are written in digits.
    """
    text = str(number)
    if form in {"a", "A"} and 0 < number <= _MOST_LETTERS:
        text = _letters(number)
    elif form in {"i", "I"} and 0 < number <= _MOST_ROMAN:
        text = _roman(number)
    return text.upper() if form in {"A", "I"} else text


def _letters(number: int) -> str:
    letters = ""
    while number:
        number, at = divmod(number - 1, len(ascii_lowercase))
        letters = ascii_lowercase[at] + letters
    return letters


def _roman(number: int) -> str:
    text = ""
    for value, letters in _ROMAN:
        count, number = divmod(number, value)
        text += letters * count
    return text
