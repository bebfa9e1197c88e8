"""A document's stored text: its blocks, a line of JSON each, compressed. Any chunker can start from it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from typing import IO

from ..errors import StoreError
from ..precedence import give_way
from .parse.base import Block

__all__ = ["Excerpt", "read_blocks", "read_span", "write_blocks"]

_LEVEL = 3
"""Compression level: on prose nearly as small as the highest, in a fraction of its time."""


def write_blocks(blocks: Iterable[Block], file: IO[bytes]) -> int:
    """Write a document's blocks; one is in memory at a time.

    Returns:
        characters of the document's text.
    """
    end = 0
    # Without a time and a name, equal texts give equal bytes.
    with gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed:
        for block in blocks:
            end = block.end
            line = json.dumps([block.text, block.kind, block.start, block.page, block.headings], ensure_ascii=False)
            packed.write(line.encode() + b"\n")
    return end


def read_blocks(file: IO[bytes]) -> Iterator[Block]:
    """Yield the blocks that :func:`write_blocks` wrote; one is in memory at a time.

    Raises:
        StoreError: the file is damaged.
    """
    try:
        with gzip.GzipFile(fileobj=file) as packed:
            for line in TextIOWrapper(packed, encoding="utf-8", newline="\n"):
                give_way()
                text, kind, start, page, headings = json.loads(line)
                yield Block(text, kind, start, page, tuple(headings))
    except (OSError, EOFError, ValueError) as error:
        raise StoreError(reason=f"the stored text of a document is damaged: {error}") from error


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A part of a document's text, with the text around it.

    Args:
        start: where ``text`` begins in the document's text, in characters.
        page, headings: of the block in which it begins, as in :class:`.parse.base.Block`.
        last_page: of the block in which it ends.
    """

    before: str
    text: str
    after: str
    start: int
    page: int | None
    headings: tuple[str, ...]
    last_page: int | None = None

    @property
    def end(self) -> int:
        """Characters of the document's text up to the end of ``text``."""
        return self.start + len(self.text)


def read_span(file: IO[bytes], start: int, end: int, around: int = 0) -> Excerpt | None:
    """Read characters ``start`` to ``end`` of a stored text, or up to its end; None if it ends before ``start``.

    Reading stops after them. Besides the result, one block is in memory at a time.

    Args:
        around: characters to read before and after them.

    Raises:
        StoreError: the file is not one that :func:`write_blocks` wrote.
    """
    first, last = max(0, start - around), end + around
    parts: list[str] = []
    first_block: Block | None = None
    last_page: int | None = None
    at = 0
    for block in read_blocks(file):
        if at >= last:
            break
        text = "\n" * (block.start - at) + block.text
        parts.append(text[max(0, first - at) : last - at])
        if first_block is None and block.end > start:
            first_block = block
        if block.start < end:
            last_page = block.page
        at = block.end
    if first_block is None:
        return None
    text, begin, stop = "".join(parts), start - first, end - first
    before, after = text[:begin], text[stop:]
    return Excerpt(before, text[begin:stop], after, start, first_block.page, first_block.headings, last_page)
