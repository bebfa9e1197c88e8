"""Put Arabic and Hebrew from PDFs in the order of reading: their letters come as they stand on the page."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence

__all__ = ["has_right_to_left", "is_right_to_left", "line_in_reading_order", "visual_words"]

Character = tuple[str, float, float]
"""A character, or a word, and where it begins and ends from the left, in points."""

_LETTER = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]")
_OTHERCharacter = tuple[str, float, float]
"""A character, or a word, and where it begins and ends from the left, in points."""

_LETTER = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]")
_ANY_LETTER = re.compile(r"[^\W\d_]")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
_TOUCHING = 0.2
"""Space between the parts of one word at most, in sizes of the type."""

_FORM = re.compile("[\ufb1d-\ufdfb\ufe70-\ufefc]+")
_NOT_REVERSED = re.compile(
    r"[\d\u0660-\u0669\u06f0-\u06f9A-Za-z\u00c0-\u024f][\d\u0660-\u0669\u06f0-\u06f9A-Za-z\u00c0-\u024f.,:/%-]*"
)


def has_right_to_left(text: str) -> bool:
    """Return whether a text has letters that are written from right to left."""
    return _LETTER.search(text) is not None


def is_right_to_left(text: str) -> bool:
    """Return whether most of a text's letters are written from right to left."""
    letters = len(_LETTER.findall(text))
    return letters * 2 > len(_ANY_LETTER.findall(text)) if letters else False


def visual_words(characters: Sequence[Character], size: float) -> list[Character]:
    """Return the words of a line from the places of its characters, each in the order of reading.

    Browsers draw Arabic from the left and a letter at a time, in the letters' forms for their place in the word. So
    neither the order of the characters nor the spaces between them can be relied upon.

    Args:
        size: of the type, in points.
    """
    bases = [at for at, (text, _, _) in enumerate(characters) if not _is_mark(text)]
    marks: dict[int, list[int]] = {}
    letters = set(bases)
    for at in set(range(len(characters))) - letters:
        base = _base_of(at, bases, characters)
        if base is not None:
            marks.setdefault(base, []).append(at)
    words: list[list[int]] = []
    edge = 0.0
    for at in sorted(range(len(characters)), key=lambda at: (-characters[at][1], -characters[at][2])):
        touches = bool(words) and edge - characters[at][2] < _TOUCHING * size
        if not touches:
            words.append([])
        if at in letters:
            words[-1].append(at)
        edge = min(edge, characters[at][1]) if touches else characters[at][1]
    return [_word([[at, *sorted(marks.get(at, ()))] for at in word], characters) for word in words if word]


def _base_of(mark: int, bases: list[int], characters: Sequence[Character]) -> int | None:
    """Return the letter that a mark stands over: the one drawn before it or the one after it.

    Where both are as near, it is the one on the right.
    """
    middle = (characters[mark][1] + characters[mark][2]) / 2
    at = bisect_left(bases, mark)
    return min(
        bases[max(0, at - 1) : at + 1],
        key=lambda base: (max(characters[base][1] - middle, middle - characters[base][2], 0.0), -characters[base][1]),
        default=None,
    )


def _word(clusters: list[list[int]], characters: Sequence[Character]) -> Character:
    """Return the word of letters with their marks that stand from right to left."""
    texts = ["".join(characters[at][0] for at in cluster) for cluster in clusters]
    text = "".join(texts)
    if _LATIN.search(text) and not has_right_to_left(text):
        text = "".join(reversed(texts))
    else:
        text = _NOT_REVERSED.sub(lambda run: run[0][::-1], text)
    places = [characters[cluster[0]] for cluster in clusters]
    text = _FORM.sub(lambda form: unicodedata.normalize("NFKC", form[0]), text)
    return text, min(left for _, left, _ in places), max(right for _, _, right in places)


def line_in_reading_order(words: Sequence[Character]) -> str:
    """Return a line's text from its words and where they begin and end.

    Most of its letters tell from which side it is read. Words of the other direction are read from theirs.
    """
    from_right = is_right_to_left(" ".join(text for text, _, _ in words))
    ordered: list[str] = []
    other: list[str] = []
    waiting: list[str] = []
    for text, _, _ in sorted(words, key=lambda word: -word[2] if from_right else word[1]):
        is_other = has_right_to_left(text) != from_right and (not from_right or _LATIN.search(text) is not None)
        if is_other:
            other += [*waiting, text]
            waiting = []
        elif other and not has_right_to_left(text) and not _LATIN.search(text):
            waiting.append(text)  # a number or a sign: part of the other words if they go on after it
        else:
            ordered += [*reversed(other), *waiting, text]
            other, waiting = [], []
    return _with_brackets(" ".join([*ordered, *reversed(other), *waiting]))


def _with_brackets(text: str) -> str:
    """Return a text whose brackets open before they close; from right to left, their mirrored signs are drawn."""
    for opening, closing in ("()", "[]", "{}", "\u00ab\u00bb"):
        if -1 < text.find(closing) < text.find(opening):
            text = text.translate({ord(opening): closing, ord(closing): opening})
    return text


def _is_mark(character: str) -> bool:
    return unicodedata.combining(character) > 0
