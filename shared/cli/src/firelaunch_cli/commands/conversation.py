"""Show a conversation on a terminal: names in a column, the text beside it, in colour where possible."""

from __future__ import annotations

import os
import shutil
import sys

import click

__all__ = ["Speech", "heading", "note", "step"]

_MARGIN = 8
_WIDEST = 100


def _styled(text: str, **style: bool) -> str:
    plain = not sys.stdout.isatty() or os.environ.get("TERM") == "dumb" or os.environ.get("NO_COLOR")
    return text if plain else click.style(text, **style)


def step(line: str) -> None:
    """Print a step of the command."""
    click.echo(f"{_styled('>', dim=True)} {line}")


def heading(line: str) -> None:
    """Print a title."""
    click.echo("\n" + _styled(line, bold=True))


def note(line: str) -> None:
    """Print an indented remark."""
    click.echo(" " * _MARGIN + _styled(line, dim=True))


class Speech:
    """One speaker's text, written as it arrives and wrapped between words at the terminal's width."""

    def __init__(self, speaker: str) -> None:
        click.echo(_styled(speaker.ljust(_MARGIN), bold=True), nl=False)
        self._width = min(_WIDEST, shutil.get_terminal_size().columns - 1) - _MARGIN
        self._column = self._spaces = 0
        self._word = ""

    def say(self, text: str) -> None:
        """Write ``text`` up to its last whole word; the next call may continue the word."""
        for character in text:
            if character.isspace():
                self._put_word()
                self._put_space(character)
            else:
                self._word += character
        sys.stdout.flush()

    def end(self) -> None:
        """Write the rest and end the line."""
        self._put_word()
        click.echo()

    def _put_word(self) -> None:
        if not self._word:
            return
        if self._column and self._column + self._spaces + len(self._word) > self._width:
            self._break()
        sys.stdout.write(" " * self._spaces + self._word)
        self._column += self._spaces + len(self._word)
        self._word, self._spaces = "", 0

    def _put_space(self, character: str) -> None:
        if character == "\n":
            self._break()
        else:
            self._spaces += 1

    def _break(self) -> None:
        sys.stdout.write("\n" + " " * _MARGIN)
        self._column = self._spaces = 0
