"""A document's text as it is kept: its blocks, a line of JSON each, compressed. Any chunker can begin from it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from io import TextIOWrapper
from typing import IO

from ..errors import StoreError
from .parse.base import Block

__all__ = ["read_blocks", "write_blocks"]

_LEVEL = 3
"""Of compression: on prose nearly as small as the highest, in a fraction of its time."""


def write_blocks(blocks: Iterable[Block], file: IO[bytes]) -> int:
    """Write a document's blocks; one is held at a time.

    Returns:
        characters of the document's text.
    """
    end = 0
    # Without a time and a name the same text is the same bytes.
    with gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed:
        for block in blocks:
            end = block.end
            line = json.dumps([block.text, block.kind, block.start, block.page, block.headings], ensure_ascii=False)
            packed.write(line.encode() + b"\n")
    return end


def read_blocks(file: IO[bytes]) -> Iterator[Block]:
    """The blocks that :func:`write_blocks` wrote; one is held at a time.

    Raises:
        StoreError: the file is not what was written.
    """
    try:
        with gzip.GzipFile(fileobj=file) as packed:
            for line in TextIOWrapper(packed, encoding="utf-8", newline="\n"):
                text, kind, start, page, headings = json.loads(line)
                yield Block(text, kind, start, page, tuple(headings))
    except (OSError, EOFError, ValueError) as error:
        raise StoreError(reason=f"the stored text of a document is damaged: {error}") from error
