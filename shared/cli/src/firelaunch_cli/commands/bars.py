"""Draw rows of figures with bars as wide as the terminal, and as plain columns elsewhere."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

import click

__all__ = ["draw"]

_EIGHTHS = " ▏▎▍▌▋▊▉"
_WIDEST_NAME = 40


def draw(rows: Sequence[tuple[str, int, str]]) -> None:
    """Print a line for each row.

    Args:
        rows: the name, the figure that the bar stands for, and the figure as people read it.
    """
    if not rows:
        return
    names = min(_WIDEST_NAME, max(len(name) for name, _, _ in rows))
    figures = max(len(figure) for _, _, figure in rows)
    most = max(1, *(value for _, value, _ in rows))
    room = shutil.get_terminal_size().columns - names - figures - 5 if sys.stdout.isatty() else 0
    for name, value, figure in rows:
        shown = name if len(name) <= names else name[: names - 1] + "…"
        bar = _bar(value / most, room) if room > 0 else ""
        click.echo(f"{shown:<{names}}  {figure:>{figures}}  {bar}".rstrip())


def _bar(part: float, room: int) -> str:
    eighths = round(part * room * 8)
    if "utf" not in (sys.stdout.encoding or "").lower():
        return "#" * (eighths // 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
