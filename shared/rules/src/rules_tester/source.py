"""Rules as text: where matches, allows and their parts are. Comments and strings are looked past, not into.

A scanner, not a parser: expressions come from the emulator, which has parsed the same text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Allow", "Match", "Segment", "allows", "blanked", "closed", "end_of_statement", "line_of", "matches"]

_SKIPPED = re.compile(r"//[^\n]*|/\*.*?\*/|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"", re.DOTALL)
_SEGMENT = r"/(?:\{\s*\w+\s*(?:=\s*\*\*)?\s*\}|[^\s/{}]+)"
_MATCH = re.compile(rf"\bmatch\s*((?:{_SEGMENT})+)\s*\{{")
_METHOD = r"(?:read|write|get|list|create|update|delete)\b"
_ALLOW = re.compile(rf"(?<![.\w])allow\s+({_METHOD}(?:\s*,\s*{_METHOD})*)\s*(?::\s*if\b)?")
_STATEMENT = re.compile(r"(?<![.\w])(?:allow|match|function)\b")
_CALLED = re.compile(r"\s*\(")
_OPENING, _CLOSING = "([{", ")]}"


@dataclass(frozen=True)
class Segment:
    """One part of a match's path, without its slash."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Match:
    """A match statement, its block included."""

    start: int
    end: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Allow:
    """An allow statement up to and with its semicolon, if it has one; ``methods`` lies at ``methods_start``.

    Its condition lies between ``condition`` and ``condition_end``, which are equal where it has none.
    """

    start: int
    end: int
    condition: int
    condition_end: int
    methods_start: int
    methods_end: int
    methods: tuple[str, ...]


def blanked(source: str) -> str:
    """The text, as long as it was, with spaces for comments and "_" for what strings hold; a path's slashes stay."""

    def blank(found: re.Match[str]) -> str:
        if found.group().startswith("/"):
            return re.sub(r"[^\n]", " ", found.group())
        quote = found.group()[0]
        return quote + "_" * (len(found.group()) - 2) + quote

    return _SKIPPED.sub(blank, source)


def matches(source: str) -> Iterator[Match]:
    """Every match statement, outer ones first."""
    text = blanked(source)
    for found in _MATCH.finditer(text):
        segments = tuple(
            Segment(found.start(1) + part.start() + 1, found.start(1) + part.end(), part.group()[1:])
            for part in re.finditer(_SEGMENT, found.group(1))
        )
        end = _closing(text, found.end() - 1)
        if end is not None:
            yield Match(found.start(), end + 1, segments)


def allows(source: str) -> Iterator[Allow]:
    """Every allow statement."""
    text = blanked(source)
    for found in _ALLOW.finditer(text):
        end = end_of_statement(text, found.end())
        methods = tuple(method.strip() for method in found.group(1).split(","))
        yield Allow(
            found.start(),
            end + text.startswith(";", end),
            found.end(),
            len(text[:end].rstrip()) if text[found.end() : end].strip() else found.end(),
            found.start(1),
            found.end(1),
            methods,
        )


def end_of_statement(text: str, start: int) -> int:
    """Where a statement ends: at its semicolon, which may be left out, or before what follows it.

    Args:
        text: as from :func:`blanked`.
    """
    depth = 0
    for offset in range(start, len(text)):
        if depth == 0 and (text[offset] in ";}" or _STATEMENT.match(text, offset)):
            return offset
        depth += (text[offset] in _OPENING) - (text[offset] in _CLOSING)
    return len(text)


def closed(text: str, start: int, end: int) -> int:
    """``end``, moved on past the brackets that belong to the expression: the emulator leaves them out of a span.

    These are the brackets that were opened since ``start``, and those of a call without arguments, which follow it.

    Args:
        text: as from :func:`blanked`.
    """
    depth = 0
    for character in text[start:end]:
        depth += (character in _OPENING) - (character in _CLOSING)
    while end < len(text):
        # An expression can be followed by an opening bracket only where it is called.
        called = _CALLED.match(text, end)
        if called is None and depth <= 0:
            break
        end = called.end() if called else end + 1
        depth += (text[end - 1] in _OPENING) - (text[end - 1] in _CLOSING)
    return end


def line_of(source: str, offset: int) -> int:
    """The line that ``offset`` lies in, from 1."""
    return source.count("\n", 0, offset) + 1


def _closing(text: str, opening: int) -> int | None:
    depth = 0
    for offset in range(opening, len(text)):
        depth += (text[offset] == "{") - (text[offset] == "}")
        if depth == 0:
            return offset
    return None
