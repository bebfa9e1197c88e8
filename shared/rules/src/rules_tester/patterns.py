"""Tell whether RE2 takes a regular expression, by Python's own and the known differences.

The rules compiler compiles the patterns that are written out (https://github.com/google/re2/wiki/Syntax).
"""

from __future__ import annotations

import re
import warnings

__all__ = ["is_pattern", "unquoted"]

_MOST_REPEATED = 1000
"""Most repetitions that RE2 takes."""
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|([0-3][0-7]{2})|(.))", re.DOTALL)
_ONLY_PYTHON = re.compile(r"\(\?(?:[=!>#(Lxau]|<[=!]|P=|P>)|\\[1-9ZuU]|[*+?}][+]")
_PART = re.compile(
    r"(?:\^|\$|\\[bBA])(?=[*+?{])|\\[dwsDWS]-|\\[pP](?:\{\^?\w+\}|\w)|\\z|\\x\{[0-9A-Fa-f]+\}|\\.|\[:\^?\w+:\]"
    r"|\(\?<(?=\w)|\(\?[imsU]*-?[imsU]+",
    re.DOTALL,
)
_REPEATED = re.compile(r"(?<!\\)\{(\d+)(?:,(\d*))?\}")


def is_pattern(text: str) -> bool:
    """Return whether RE2 takes ``text``."""
    known = re.sub(r"\\\\", "aa", text)
    if _ONLY_PYTHON.search(known):
        return False
    if any(int(number) > _MOST_REPEATED for pair in _REPEATED.findall(known) for number in pair if number):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(_PART.sub(_as_python, text))
    except (re.error, OverflowError):
        return False
    return True


def unquoted(literal: str) -> str:
    """Return the value of a string as rules write it, with its quotes."""
    return _ESCAPE.sub(_value, literal[1:-1])


def _value(escape: re.Match[str]) -> str:
    four, two, octal, other = escape.groups()
    if other is not None:
        return _ESCAPES.get(other, other)
    return chr(int(octal, 8) if octal else int(four or two, 16))


def _as_python(part: re.Match[str]) -> str:
    text = part.group()
    if text in {"^", "$", "\\b", "\\B", "\\A"}:
        return "(?:)"
    if text[0] == "(":
        return "(?P<" if text == "(?<" else "(?i"
    if text.startswith(("\\p", "\\P", "[:", "\\x{")):
        return "\\w"
    if text[2:] == "-":
        return f"{text[:2]}\\-"
    return "\\Z" if text == "\\z" else text
