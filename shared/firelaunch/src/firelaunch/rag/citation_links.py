"""Keep citations from becoming links: "[1](https://…)" in an answer would lead readers wherever a document wants.

Most clients show an answer as Markdown. A citation becomes a link if a target, a reference or a definition follows it,
if it lies in the text of a link, or if it is wrapped in ``<a>``. One space breaks each of these and removes nothing.
The rules are CommonMark's (https://spec.commonmark.org/0.31.2/#links). Where it is uncertain which bracket closes
which, a space is added.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["LinkBreaker"]

_TOKEN = re.compile(r"[\[\]\\<`]")
_ANCHOR = re.compile(r"<(?=a[\s/>])", re.IGNORECASE)
_NUMBER = re.compile(r"\[\d{1,4}\]")
_MAY_GO_ON = re.compile(r"(?:<a?|\[\d{0,4})\Z", re.IGNORECASE)
"""An end that more text may turn into ``<a>``, or into an adjacent citation, which needs no space."""

_FENCE = re.compile(r"(`{3,})[^`]*\Z|(~{3,}).*\Z")
_CONTAINERS = re.compile(r"[\s>*+\-.)\d]*")
"""Characters that may stand before a block's own text: quotes, lists and blanks."""

_DECORATION = re.compile(r"[\s\[\]\\^*_~`!<>]+")
_LONGEST_LABEL = 100
_MOST_OPEN = 16
"""Open brackets that are remembered; of earlier ones, only their existence is."""

_LONGEST_LINE = 300
"""Characters of a line that are checked for the begin or end of a code block."""


@dataclass(slots=True)
class _Bracket:
    """An open bracket: where it stands, what follows it so far, and whether it contains a citation."""

    at_line_start: bool
    text: str = ""
    cites: bool = False


@dataclass(slots=True)
class LinkBreaker:
    """A filter that takes an answer piece by piece, and returns it with its citations free of links.

    The pieces may be split anywhere without changing the result. Code blocks stay as they are if they are fenced at
    the start of a line, outside of quotes, lists and HTML.
    """

    _pending: str = ""
    _line: str = ""
    _open: list[_Bracket] = field(default_factory=list)
    _cited: bool = False
    """Whether the paragraph has a citation."""
    _unclear: bool = False
    """Whether the paragraph has something that can disable a bracket: escapes, HTML or code."""
    _closed: _Bracket | None = None
    """The bracket that the last character closed, if it contains a citation or may do so."""
    _after_return: bool = False
    """Whether the last character was a carriage return; a line feed after it ends no further line."""
    _fence: str = ""
    _sure: bool = True
    """Whether all code blocks so far were certain, so that the next one is, too."""

    def feed(self, piece: str) -> str:
        """Add a piece of the answer, and return the text that may be shown now."""
        text = self._pending + piece
        match = _MAY_GO_ON.search(text)
        keep = len(text) if match is None else match.start()
        self._pending = text[keep:]
        return self._read(text[:keep])

    def end(self) -> str:
        """Return the rest of the answer."""
        text, self._pending = self._pending, ""
        return self._read(text)

    def _read(self, text: str) -> str:
        parts = re.split(r"([\r\n])", text)
        shown = []
        for line, end in zip(parts[::2], [*parts[1::2], ""], strict=True):
            in_code = bool(self._fence)
            part = self._part(line) + end
            shown.append(part if in_code else _ANCHOR.sub("< ", part))
            if line:
                self._after_return = False
            if end and not (end == "\n" and self._after_return):
                self._end_line()
            self._after_return = end == "\r" if end else self._after_return
        return "".join(shown)

    def _part(self, part: str) -> str:
        if self._fence:
            self._line = (self._line + part)[:_LONGEST_LINE]
            return part
        shown: list[str] = []
        at = 0
        while at < len(part):
            token = _TOKEN.search(part, at)
            end = token.start() if token else len(part)
            self._text(part[at:end], shown)
            if token is None:
                break
            at = self._special(part, end, shown)
        return "".join(shown)

    def _text(self, text: str, shown: list[str]) -> None:
        """Process characters that are not in ``_TOKEN``."""
        if not text:
            return
        if text[0] in "(:":
            self._follow(text[0], shown)
        self._closed = None
        self._append(text, shown)

    def _special(self, part: str, at: int, shown: list[str]) -> int:
        """Process one character of ``_TOKEN``; return the position after it."""
        character = part[at]
        if not _NUMBER.match(part, at):
            self._follow(character, shown)
        self._closed = None
        if character == "[":
            bracket = _Bracket(_CONTAINERS.fullmatch(self._line) is not None)
            self._append(character, shown)
            self._open.append(bracket)
            if len(self._open) > _MOST_OPEN:
                self._open.pop(0)
                self._unclear = True
        elif character == "]":
            self._close()
            self._append(character, shown)
        else:
            self._unclear = True
            self._append(character, shown)
        return at + 1

    def _append(self, text: str, shown: list[str]) -> None:
        shown.append(text)
        self._line = (self._line + text)[:_LONGEST_LINE]
        for bracket in self._open:
            if len(bracket.text) <= _LONGEST_LABEL:
                bracket.text += text[: _LONGEST_LABEL + 1]

    def _close(self) -> None:
        bracket = self._open.pop() if self._open else None
        if bracket is not None and _DECORATION.sub("", bracket.text).isdigit():
            bracket.cites = self._cited = True
            for outer in self._open:
                outer.cites = True
        if bracket is None or (self._unclear and self._cited):
            bracket = _Bracket(at_line_start=True, cites=self._cited)
        self._closed = bracket if bracket.cites else None

    def _follow(self, character: str, shown: list[str]) -> None:
        """Put a space between a closed bracket with a citation and a character that would make it a link."""
        closed = self._closed
        if closed is not None and (character in "([" or (character == ":" and closed.at_line_start)):
            self._append(" ", shown)

    def _end_line(self) -> None:
        line, self._line = self._line, ""
        self._closed = None
        if self._fence:
            if re.match(f" {{0,3}}{re.escape(self._fence)}{re.escape(self._fence[0])}*[ \t]*\\Z", line):
                self._fence = ""
            return
        if not line.strip("> \t"):
            self._open.clear()
            self._cited = self._unclear = False
        fence = _FENCE.match(line) if self._sure and len(line) < _LONGEST_LINE else None
        if fence is not None:
            self._fence = fence[1] or fence[2]
            self._open.clear()
            self._cited = self._unclear = False
        elif "```" in line or "~~~" in line or line[_CONTAINERS.match(line).end() :].startswith("<"):  # type: ignore[union-attr]
            self._sure = False
        for bracket in self._open:
            bracket.text += "\n"
