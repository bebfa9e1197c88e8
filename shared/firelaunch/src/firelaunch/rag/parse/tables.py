"""Turn rows of cells into text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .base import Draft

__all__ = ["TABLE_CHARACTERS", "table"]

TABLE_CHARACTERS = 1_000
"""Length from which a table continues in a new block."""

_HEADER_CHARACTERS = 300


def table(rows: Iterable[Iterable[str]], page: int | None = None, headings: tuple[str, ...] = ()) -> Iterator[Draft]:
    """Yield a table's blocks: one line for each row, cells joined by " | ", without empty rows.

    The first row is repeated at the head of each further block, unless it is long. So a block that is read alone says
    what its columns mean.
    """
    header = ""
    lines: list[str] = []
    length = 0
    for row in rows:
        line = " | ".join(" ".join(cell.split()) for cell in row).rstrip(" |")
        if not line.strip(" |"):
            continue
        if not header:
            header = line
        elif not lines and len(header) <= _HEADER_CHARACTERS:
            lines.append(header)
        lines.append(line)
        length += len(line) + 1
        if length >= TABLE_CHARACTERS:
            yield Draft("\n".join(lines), "table", page, headings)
            lines, length = [], 0
    if lines:
        yield Draft("\n".join(lines), "table", page, headings)
