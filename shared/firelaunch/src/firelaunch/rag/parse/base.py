"""The result of parsing: blocks in reading order, each with its place in the document."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal, Protocol, get_args

from .omissions import Omission

__all__ = [
    "KINDS",
    "MAX_BLOCK",
    "MEMORY_STATUS",
    "Block",
    "Draft",
    "Extract",
    "Kind",
    "Outline",
    "ParseLimits",
    "Parser",
    "Unreadable",
    "document_text",
    "place",
]

Kind = Literal["heading", "paragraph", "table", "list", "code"]
KINDS: tuple[str, ...] = get_args(Kind)

MAX_BLOCK = 16_384
"""The most characters of a block's text. Longer text continues in the next block, with nothing in between."""

MAX_HEADING = 300
"""Characters kept of each heading in a block's heading path."""

MAX_DEPTH = 12
"""The most headings of a heading path."""

MEMORY_STATUS = 77
"""Exit status of a parsing process that ended because it ran out of memory."""

_BEFORE = 1_024
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a document.

    Args:
        text: the text itself, never empty, at most ``MAX_BLOCK`` characters.
        kind: its role in the document.
        start: characters of the document's extracted text before this block.
        page: page, slide or sheet, counted from 1; ``None`` in formats that have none.
        headings: the headings above it, outermost first; the path of a heading ends with its own text.
    """

    text: str
    kind: Kind
    start: int
    page: int | None = None
    headings: tuple[str, ...] = ()

    @property
    def end(self) -> int:
        """Characters of the document's extracted text up to this block's end."""
        return self.start + len(self.text)


def document_text(blocks: Iterable[Block]) -> str:
    """Return the document's extracted text, into which all spans point.

    The blocks are at their places, with newlines between them.
    """
    parts = []
    at = 0
    for block in blocks:
        parts += ["\n" * (block.start - at), block.text]
        at = block.end
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class ParseLimits:
    """The limits of reading one document.

    Args:
        file_bytes: size of the file.
        unpacked_bytes: size of the unpacked content of a DOCX, PPTX or XLSX file.
        text_characters: size of the extracted text.
        memory_bytes: address space of the parsing process. This is the bound on memory: the caller's own process holds
            one block at a time, whatever the file's size.
        cpu_seconds: processor time of that process, whole seconds.
        wall_seconds: time spent waiting for it; the caller's own work on each block does not count.
    """

    file_bytes: int = 100 * 2**20
    unpacked_bytes: int = 300 * 2**20
    text_characters: int = 20_000_000
    memory_bytes: int = 384 * 2**20
    cpu_seconds: int = 60
    wall_seconds: float = 120.0


class Unreadable(Exception):
    """The error that parsers raise, in the child process: ``problem`` is a key of ``failures.MESSAGES``."""

    def __init__(self, problem: str, detail: str = "") -> None:
        self.problem = problem
        self.detail = detail
        super().__init__(problem, detail)


@dataclass(frozen=True, slots=True)
class Draft:
    """A parser's block, before it has its place.

    ``text`` has any length. ``gap`` is the number of newlines before it; None leaves the default of two.
    """

    text: str
    kind: Kind = "paragraph"
    page: int | None = None
    headings: tuple[str, ...] = ()
    gap: int | None = None


@dataclass(frozen=True, slots=True)
class Extract:
    """A file that a document holds: an attachment's name and content, or a page's picture."""

    name: str
    content: bytes


def place(drafts: Iterable[Draft], characters: int = sys.maxsize) -> Iterator[Block]:
    """Yield blocks at their places in the extracted text, none longer than ``MAX_BLOCK``; drop drafts without text.

    Raises:
        Unreadable: the text is longer than ``characters``.
    """
    at = 0
    for draft in drafts:
        # Databases refuse U+0000 and lone surrogates; the replacement has the same length.
        text = _UNSTORABLE.sub("\ufffd", draft.text)
        if not text.strip():
            continue
        gap = (2 if at else 0) if draft.gap is None else draft.gap
        for part in _parts(text):
            block = Block(part, draft.kind, at + gap, draft.page, draft.headings)
            if block.end > characters:
                raise Unreadable("too_much_text")
            yield block
            at, gap = block.end, 0


def _parts(text: str) -> Iterator[str]:
    """Yield a text in parts that fit a block, cut after a space if there is one."""
    start = 0
    while len(text) - start > MAX_BLOCK:
        before, most = start + MAX_BLOCK - _BEFORE, start + MAX_BLOCK
        stop = max(text.rfind(" ", before, most), text.rfind("\n", before, most)) + 1 or most
        yield text[start:stop]
        start = stop
    yield text[start:]


class Parser(Protocol):
    """One format's parser: a function of the open file (seekable, at its start)."""

    def __call__(
        self, file: BinaryIO, limits: ParseLimits, progress: Callable[[float], None]
    ) -> Iterator[Draft | Omission]:
        """Yield the document's blocks in reading order, and among them what is left out, each code once.

        Raises:
            Unreadable: the file cannot be read; names the problem.
        """
        ...


class Outline:
    """The headings above the current place of a document."""

    def __init__(self) -> None:
        self._stack: list[tuple[float, str]] = []

    @property
    def path(self) -> tuple[str, ...]:
        """The texts of the headings, outermost first."""
        return tuple(text for _, text in self._stack)

    def enter(self, level: float, text: str) -> tuple[str, ...]:
        """Begin a heading of this level (1 is the highest), and return the new path."""
        while self._stack and self._stack[-1][0] >= level:
            self._stack.pop()
        if len(self._stack) < MAX_DEPTH:
            self._stack.append((level, " ".join(text.split())[:MAX_HEADING]))
        return self.path
