"""Fields of a provider's JSON, each of the type that it should have; what is of another type is read leniently or left.

What a provider sends is not ours to trust: a figure may be a float, a negative number or a text, tool arguments may be
an object, a list may be null. A reader that uses these functions gives chunks whose types hold, so that nothing that
counts, joins or stores them can fail on them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["MOST_TOKENS", "figure", "items", "json_text", "table", "text", "word"]

MOST_TOKENS = 100_000_000
"""Tokens of one call at most: some ten times the longest context that a provider offers. A figure beyond it is no count
of tokens, and a day's sum of such figures would not fit a database's 64 bits."""

_LONGEST_WORD = 4_000
"""Characters of an id, a name of a function or a reason; the longest known are LiteLLM's ids, with their signatures."""


def figure(value: Any) -> int | None:
    """A count of tokens; None where ``value`` is none: no number, negative, not whole, or beyond MOST_TOKENS."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 <= value <= MOST_TOKENS or value != int(value):  # NaN is not within the range either
        return None
    return int(value)


def text(value: Any) -> str:
    """A text that may be left out or null.

    Raises:
        TypeError: it is neither; what a user is to read is not guessed at.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError("a text is expected")
    return value


def word(value: Any) -> str:
    """A short word such as an id, a name or a reason; a number as its digits, and anything else as no word."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)[:_LONGEST_WORD]
    return value[:_LONGEST_WORD] if isinstance(value, str) else ""


def json_text(value: Any) -> str:
    """Arguments of a function, as JSON: a text as it is, since it may be a piece, and an object encoded."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def table(value: Any) -> Mapping[str, Any]:
    """An object; an empty one where ``value`` is none."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list; none where ``value`` is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
