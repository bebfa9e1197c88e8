"""Read fields of a provider's JSON, each with its expected type; values of other types are converted or ignored.

A provider's JSON is not trusted: a figure may be a float, a negative number or a text, tool arguments may be an
object, a list may be null. Readers that use these functions return chunks whose types hold, so that nothing that
counts, joins or stores them can fail on them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["MOST_TOKENS", "figure", "items", "json_text", "table", "text", "texts_in", "word"]

MOST_TOKENS = 100_000_000
"""The most tokens of one call, some ten times the longest context that a provider offers.

A larger figure is not a count of tokens, and a day's sum of such figures would not fit a database's 64 bits.
"""

_THINKING = frozenset({"thinking", "reasoning", "summary"})
"""The keys of a part that holds thoughts: Mistral's and Anthropic's, and OpenRouter's."""

_LONGEST_WORD = 4_000
"""The most characters of an id, function name or reason; the longest known are LiteLLM's ids with signatures."""


def figure(value: Any) -> int | None:
    """Return a count of tokens; None if ``value`` is no number, negative, fractional, or above MOST_TOKENS."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 <= value <= MOST_TOKENS or value != int(value):  # NaN is not within the range either
        return None
    return int(value)


def text(value: Any) -> str:
    """Return a text that may be missing or null.

    Raises:
        TypeError: the value is neither; text for users is never guessed.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError("a text is expected")
    return value


def word(value: Any) -> str:
    """Return a short word such as an id, name or reason: a number as its digits, other types as an empty word."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)[:_LONGEST_WORD]
    return value[:_LONGEST_WORD] if isinstance(value, str) else ""


def json_text(value: Any) -> str:
    """Return a function's arguments as JSON: a text unchanged, since it may be a piece; an object encoded."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def texts_in(value: Any) -> tuple[str, str]:
    """Return the thoughts and the answer in a message's content: a text, or a list of typed parts.

    A part of thoughts is a text or another list (Mistral). Parts of other kinds, such as references, are left out.

    Raises:
        TypeError: the value is none of these; text for users is never guessed.
    """
    if not isinstance(value, list | dict):
        return "", text(value)
    thoughts, answer = "", ""
    for part in value if isinstance(value, list) else [value]:
        if isinstance(part, str):
            answer += part
        elif isinstance(part, dict) and _THINKING.intersection(part):
            thoughts += "".join(texts_in(next(part[name] for name in _THINKING if name in part)))
        elif isinstance(part, dict) and ("text" in part or "refusal" in part):
            answer += text(part.get("text")) or text(part.get("refusal"))
    return thoughts, answer


def table(value: Any) -> Mapping[str, Any]:
    """Return an object; an empty one if ``value`` is none."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Mapping[str, Any]]:
    """Return the objects of a list; none if ``value`` is not a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
