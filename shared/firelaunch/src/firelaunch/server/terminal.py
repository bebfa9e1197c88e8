"""Fit sentences into a terminal's width. Elsewhere lines stay whole, so that they can be searched and compared."""

from __future__ import annotations

import os
import shutil
import textwrap
from typing import TextIO

__all__ = ["line_width", "wrapped"]

_WIDEST = 100
"""Longer lines of prose are hard to read, however wide the terminal is."""

_NARROWEST = 30


def line_width(stream: TextIO) -> int:
    """Return the columns for a line of prose on ``stream``; 0 if it is no terminal and COLUMNS is not set."""
    if not (stream.isatty() or os.environ.get("COLUMNS", "").isdecimal()):
        return 0
    return max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size().columns))


def wrapped(text: str, width: int, *, first: str = "", rest: str = "") -> str:
    """Break the lines of ``text`` at spaces. Words, such as paths and addresses, and indented lines stay whole.

    Args:
        width: columns; with 0 no line is broken.
        first: what stands before the first line.
        rest: what stands before each other line.
    """
    lines: list[str] = []
    for line in text.splitlines() or [""]:
        before = rest if lines else first
        if not width or line.startswith((" ", "\t")) or len(before) + len(line) <= width:
            lines.append(f"{before}{line}".rstrip())
            continue
        lines += textwrap.wrap(
            line,
            width,
            initial_indent=before,
            subsequent_indent=rest,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)
