"""Scan the text of rules for matches, allows and their parts, and skip comments and strings.

This is a scanner and not a parser. The expressions come from the emulator, which has parsed the same text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = [
    "AllowStatement",
    "MatchBlock",
    "PathSegment",
    "allows",
    "blanked",
    "closed",
    "end_of_statement",
    "line_of",
    "matches",
]

_SKIPPED = re.compile(r"//[^\n]*|/\*.*?\*/|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"", re.DOTALL)
_SEGMENT = r"/(?:\{\s*\w+\s*(?:=\s*\*\*)?\s*\}|[^\s/{}]+)"
_MATCH = re.compile(rf"\bmatch\s*((?:{_SEGMENT})+)\s*\{{")
_METHOD = r"(?:read|write|get|list|create|update|delete)\b"
_ALLOW = re.compile(rf"(?<![.\w])allow\s+({_METHOD}(?:\s*,\s*{_METHOD})*)\s*(?::\s*if\b)?")
_STATEMENT = re.compile(r"(?<![.\w])(?:allow|match|function)\b")
_CALLED = re.compile(r"\s*\(")
_OPENING, _CLOSING = "([{", ")]}"


@dataclass(frozen=True)
class PathSegment:
    """A segment of a match's path, without its slash."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class MatchBlock:
    """A match statement with its block."""

    start: int
    end: int
    segments: tuple[PathSegment, ...]


@dataclass(frozen=True)
class AllowStatement:
    """An allow statement with its semicolon, if it has one. ``methods`` begin at ``methods_start``.

    The condition is between ``condition`` and ``condition_end``, which are equal if there is none.
    """

    start: int
    end: int
    condition: int
    condition_end: int
    methods_start: int
    methods_end: int
    methods: tuple[str, ...]


def blanked(source: str) -> str:
    """Replace comments by spaces and the contents of strings by "_"; the length and paths' slashes stay the same."""

    def blank(skipped: re.Match[str]) -> str:
        if skipped.group().startswith("/"):
            return re.sub(r"[^\n]", " ", skipped.group())
        quote = skipped.group()[0]
        return quote + "_" * (len(skipped.group()) - 2) + quote

    return _SKIPPED.sub(blank, source)


def matches(source: str) -> Iterator[MatchBlock]:
    """Yield every match statement, outer ones first."""
    text = blanked(source)
    for statement in _MATCH.finditer(text):
        segments = tuple(
            PathSegment(statement.start(1) + part.start() + 1, statement.start(1) + part.end(), part.group()[1:])
            for part in re.finditer(_SEGMENT, statement.group(1))
        )
        end = _closing(text, statement.end() - 1)
        if end is not None:
            yield MatchBlock(statement.start(), end + 1, segments)


def allows(source: str) -> Iterator[AllowStatement]:
    """Yield every allow statement."""
    text = blanked(source)
    for statement in _ALLOW.finditer(text):
        end = end_of_statement(text, statement.end())
        methods = tuple(method.strip() for method in statement.group(1).split(","))
        yield AllowStatement(
            statement.start(),
            end + text.startswith(";", end),
            statement.end(),
            len(text[:end].rstrip()) if text[statement.end() : end].strip() else statement.end(),
            statement.start(1),
            statement.end(1),
            methods,
        )


def end_of_statement(text: str, start: int) -> int:
    """Return the offset where a statement ends: at its semicolon or, without one, before the next statement.

    Args:
        text: the result of :func:`blanked`.
    """
    depth = 0
    for offset in range(start, len(text)):
        if depth == 0 and (text[offset] in ";}" or _STATEMENT.match(text, offset)):
            return offset
        depth += (text[offset] in _OPENING) - (text[offset] in _CLOSING)
    return len(text)


def closed(text: str, start: int, end: int) -> int:
    """Return ``end`` moved past the closing brackets of the expression, which the emulator leaves out of a span.

    They are the brackets opened since ``start``, and those of a following call without arguments.

    Args:
        text: the result of :func:`blanked`.
    """
    depth = 0
    for character in text[start:end]:
        depth += (character in _OPENING) - (character in _CLOSING)
    while end < len(text):
        # An opening bracket can follow an expression only if the expression is called.
        called = _CALLED.match(text, end)
        if called is None and depth <= 0:
            break
        end = called.end() if called else end + 1
        depth += (text[end - 1] in _OPENING) - (text[end - 1] in _CLOSING)
    return end


def line_of(source: str, offset: int) -> int:
    """Return the line of ``offset``, counted from 1."""
    return source.count("\n", 0, offset) + 1


def _closing(text: str, opening: int) -> int | None:
    depth = 0
    for offset in range(opening, len(text)):
        depth += (text[offset] == "{") - (text[offset] == "}")
        if depth == 0:
            return offset
    return None
