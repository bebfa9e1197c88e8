"""Markdown: the source itself, cut at its blocks; a long table repeats the names of its columns."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import BinaryIO

from .base import Draft, Kind, Outline, ParseLimits
from .encoding import open_text
from .tables import markdown_blocks

__all__ = ["WINDOW", "drafts", "parse"]

WINDOW = 256 * 1024
"""Characters whose structure is in memory at a time."""

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
    """Yield blocks of a Markdown file, ``WINDOW`` characters at a time."""
    return drafts(open_text(file, progress), Outline())


def drafts(text: io.TextIOBase, outline: Outline) -> Iterator[Draft]:
    """Yield blocks of a Markdown text under the headings of ``outline``, which gets the text's own."""
    gap = 0
    for window in _windows(text):
        for draft in _blocks(window, outline):
            yield replace(draft, gap=(draft.gap or 0) + gap)
            gap = 0
        gap = len(window) - len(window.rstrip("\n"))


def _windows(text: io.TextIOBase) -> Iterator[str]:
    """Yield the text in parts that end with a blank line outside of fenced code, if there is one."""
    rest = ""
    while part := text.read(WINDOW - len(rest)):
        rest += part
        if len(rest) < WINDOW:
            continue
        fenced = False
        cut = 0
        for match in _FENCE_OR_BLANK.finditer(rest):
            if match[0].strip():
                fenced = not fenced
            elif not fenced:
                cut = match.end()
        cut = cut or rest.rfind("\n") + 1 or WINDOW
        yield rest[:cut]
        rest = rest[cut:]
    yield rest


def _blocks(source: str, outline: Outline) -> Iterator[Draft]:
    """Yield blocks of a Markdown text.

    Text for which Markdown's grammar has no block, such as link definitions, becomes a paragraph.
    """
    lines = source.split("\n")
    written = 0
    for begin, end, kind, heading in [*_structure(source, lines), (len(lines), len(lines), "paragraph", None)]:
        spans: tuple[tuple[int, int, Kind], ...] = ((written, begin, "paragraph"), (begin, end, kind))
        for first, last, span_kind in spans:
            first, last = _without_blank_ends(lines, first, last)
            if first == last:
                continue
            if span_kind is kind and heading:
                outline.enter(*heading)
            gap = first - written + bool(written)
            texts = markdown_blocks(lines[first:last]) if span_kind == "table" else ["\n".join(lines[first:last])]
            for text in texts:
                yield Draft(text, span_kind, None, outline.path, gap)
                gap = 2
            written = last


_Span = tuple[int, int, Kind, tuple[int, str] | None]


def _structure(source: str, lines: list[str]) -> Iterator[_Span]:
    """Yield first line, line after the last, kind, and a heading's level and text, of each outermost block."""
    from markdown_it import MarkdownIt

    front = _FRONT_MATTER.match(source)
    skipped = source.count("\n", 0, front.end()) if front else 0
    if skipped:
        yield 0, skipped, "code", None
    # Inline markup stays unchanged, so skip its rules, which are slow on long hostile lines.
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
