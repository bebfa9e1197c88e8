"""Plain text: paragraphs unchanged, so that the extracted text is the file's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

from .base import MAX_BLOCK, Draft, ParseLimits
from .encoding import open_text

__all__ = ["MAX_GAP", "paragraphs", "parse"]

_READ = 64 * 1024
MAX_GAP = 64
"""The most newlines between two paragraphs that are kept."""

_BREAK = re.compile(r"\n{2,}")


def parse(file: BinaryIO, _limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft]:
    """Yield blocks of a text file, read 64 KiB at a time."""
    text = open_text(file, progress)
    return paragraphs(iter(lambda: text.read(_READ), ""))


def paragraphs(parts: Iterator[str]) -> Iterator[Draft]:
    """Yield paragraphs of a text that arrives in parts.

    The drafts and their gaps are exactly the text, except for newlines at its end and those of a run beyond
    ``MAX_GAP``.
    """
    gap = 0
    rest = ""
    for part in parts:
        rest += part
        at = 0
        for match in _BREAK.finditer(rest):
            if match.end() == len(rest):
                break  # the run of newlines may go on in the next part
            if match.start() > at:
                if rest[at : match.start()].isspace():
                    continue  # spaces alone are no paragraph; they go with the next one
                yield Draft(rest[at : match.start()], gap=gap)
                gap = 0
            gap = min(gap + match.end() - match.start(), MAX_GAP)
            at = match.end()
        rest = rest[at:]
        while len(rest) > 2 * MAX_BLOCK:
            cut = rest.rfind("\n", 0, MAX_BLOCK) + 1 or rest.rfind(" ", 0, MAX_BLOCK) + 1 or MAX_BLOCK
            if rest[:cut].strip("\n"):
                yield Draft(rest[:cut], gap=gap)
                gap = 0
            else:
                gap = min(gap + cut, MAX_GAP)
            rest = rest[cut:]
    if rest.strip("\n"):
        yield Draft(rest, gap=gap)
