"""Plain text: paragraphs as they stand, so that the extracted text is the file's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

from .base import MAX_BLOCK, Draft, ParseLimits
from .encoding import open_text

__all__ = ["MAX_GAP", "paragraphs", "parse"]

_READ = 64 * 1024
MAX_GAP = 64
"""Newlines between two paragraphs that are kept."""

_BREAK = re.compile(r"\n{2,}")


def parse(file: BinaryIO, _limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft]:
    """Blocks of a text file, read 64 KiB at a time."""
    text = open_text(file, progress)
    return paragraphs(iter(lambda: text.read(_READ), ""))


def paragraphs(parts: Iterator[str]) -> Iterator[Draft]:
    """Paragraphs of a text that comes in parts.

    The drafts and their gaps are the text exactly, but for newlines at its end and what a run has over ``MAX_GAP``.
    """
    gap = 0
    held = ""
    for part in parts:
        held += part
        at = 0
        for found in _BREAK.finditer(held):
            if found.end() == len(held):
                break  # the run of newlines may go on in the next part
            if found.start() > at:
                if held[at : found.start()].isspace():
                    continue  # spaces alone are no paragraph; they go with the next one
                yield Draft(held[at : found.start()], gap=gap)
                gap = 0
            gap = min(gap + found.end() - found.start(), MAX_GAP)
            at = found.end()
        held = held[at:]
        while len(held) > 2 * MAX_BLOCK:
            cut = held.rfind("\n", 0, MAX_BLOCK) + 1 or held.rfind(" ", 0, MAX_BLOCK) + 1 or MAX_BLOCK
            if held[:cut].strip("\n"):
                yield Draft(held[:cut], gap=gap)
                gap = 0
            else:
                gap = min(gap + cut, MAX_GAP)
            held = held[cut:]
    if held.strip("\n"):
        yield Draft(held, gap=gap)
