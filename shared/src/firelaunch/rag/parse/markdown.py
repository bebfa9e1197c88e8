"""Markdown: the source itself, cut at its blocks, so that spans point into the file as it was written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

from .base import Draft, Kind, Limits, Outline
from .encoding import open_text
from .text import paragraphs

__all__ = ["MAX_CHARACTERS", "parse"]

MAX_CHARACTERS = 4_000_000
"""Length from which on Markdown is read as plain text: its structure is held in memory, plain text is not."""

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


def parse(file: BinaryIO, _limits: Limits, progress: Callable[[float], None]) -> Iterator[Draft]:
    """Blocks of a Markdown file."""
    text = open_text(file, progress)
    source = text.read(MAX_CHARACTERS)
    more = text.read(1)
    if more:
        rest = iter(lambda: text.read(1 << 16), "")
        return paragraphs(part for parts in ((source, more), rest) for part in parts)
    return blocks(source)


def blocks(source: str) -> Iterator[Draft]:
    """Blocks of a Markdown text; what its grammar gives no block for, such as link definitions, is a paragraph."""
    lines = source.split("\n")
    outline = Outline()
    written = 0
    for begin, end, kind, heading in [*_structure(source, lines), (len(lines), len(lines), "paragraph", None)]:
        spans: tuple[tuple[int, int, Kind], ...] = ((written, begin, "paragraph"), (begin, end, kind))
        for first, last, what in spans:
            first, last = _without_blank_ends(lines, first, last)
            if first == last:
                continue
            if what is kind and heading:
                outline.enter(*heading)
            gap = first - written + 1 if written else first
            yield Draft("\n".join(lines[first:last]), what, None, outline.path, gap)
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
