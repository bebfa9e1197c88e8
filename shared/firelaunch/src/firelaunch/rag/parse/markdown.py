"""Markdown: the source itself, cut at its blocks, so that spans point into the file as it was written."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import BinaryIO

from .base import Draft, Kind, Outline, ParseLimits
from .encoding import open_text

__all__ = ["WINDOW", "parse"]

WINDOW = 256 * 1024
"""Characters whose structure is held in memory at a time."""

_FENCE_OR_BLANK = re.compile(r"^ {0,3}(?:```|~~~)|\n(?:[ \t]*\n)+", re.MULTILINE)
_FRONT_MATTER = re.compile(r"---\n.*?\n(?:---|\.\.\.)\n", re.DOTALL)
_KINDS: dict[str, Kind] = {
    "heading_open": "heading",
    "bullet_list_open": "list",
    "ordered_list_open": "list",
    "table_open": "table",
    "fence": "code",
    "code_block": "code",
    "html_block": "code",
}


def parse(file: BinaryIO, _limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft]:
    """Blocks of a Markdown file, ``WINDOW`` characters at a time."""
    outline = Outline()
    gap = 0
    for window in _windows(open_text(file, progress)):
        for draft in _blocks(window, outline):
            yield replace(draft, gap=(draft.gap or 0) + gap)
            gap = 0
        gap = len(window) - len(window.rstrip("\n"))


def _windows(text: io.TextIOBase) -> Iterator[str]:
    """The text in parts that end with a blank line outside of fenced code, where there is one."""
    held = ""
    while part := text.read(WINDOW - len(held)):
        held += part
        if len(held) < WINDOW:
            continue
        fenced = False
        cut = 0
        for found in _FENCE_OR_BLANK.finditer(held):
            if found[0].strip():
                fenced = not fenced
            elif not fenced:
                cut = found.end()
        cut = cut or held.rfind("\n") + 1 or WINDOW
        yield held[:cut]
        held = held[cut:]
    yield held


def _blocks(source: str, outline: Outline) -> Iterator[Draft]:
    """Blocks of a Markdown text; what its grammar gives no block for, such as link definitions, is a paragraph."""
    lines = source.split("\n")
    written = 0
    for begin, end, kind, heading in [*_structure(source, lines), (len(lines), len(lines), "paragraph", None)]:
        spans: tuple[tuple[int, int, Kind], ...] = ((written, begin, "paragraph"), (begin, end, kind))
        for first, last, what in spans:
            first, last = _without_blank_ends(lines, first, last)
            if first == last:
                continue
            if what is kind and heading:
                outline.enter(*heading)
            yield Draft("\n".join(lines[first:last]), what, None, outline.path, first - written + bool(written))
            written = last


_Span = tuple[int, int, Kind, tuple[int, str] | None]


def _structure(source: str, lines: list[str]) -> Iterator[_Span]:
    """First line, line after the last, kind, and a heading's level and text, of each block of the outermost level."""
    from markdown_it import MarkdownIt

    front = _FRONT_MATTER.match(source)
    skipped = source.count("\n", 0, front.end()) if front else 0
    if skipped:
        yield 0, skipped, "code", None
    # Inline markup stays as it is, so the rules for it need not run: they are slow on long hostile lines.
    parser = MarkdownIt("commonmark").enable("table").disable(["inline", "text_join"])
    tokens = parser.parse("\n".join(lines[skipped:]))
    for at, token in enumerate(tokens):
        if token.level == 0 and token.map and token.nesting >= 0:
            heading = (int(token.tag[1]), tokens[at + 1].content) if token.type == "heading_open" else None
            yield token.map[0] + skipped, token.map[1] + skipped, _KINDS.get(token.type, "paragraph"), heading


def _without_blank_ends(lines: list[str], first: int, last: int) -> tuple[int, int]:
    while first < last and not lines[first].strip():
        first += 1
    while first < last and not lines[last - 1].strip():
        last -= 1
    return first, last
