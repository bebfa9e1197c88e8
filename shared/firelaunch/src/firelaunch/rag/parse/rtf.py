"""RTF: its text, without pictures and other embedded data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

from .base import Draft, ParseLimits
from .tables import table

__all__ = ["parse", "text_of"]

_HEX_RUN = re.compile(rb"(?:[0-9A-Fa-f]{32,}[\s]{0,4}){4,}")
"""Digits of pictures and objects. Nobody reads them, and they are most of a large file."""


def text_of(source: bytes) -> str:
    """Return the text of an RTF document; a row of a table is a line, and "|" ends each of its cells."""
    from striprtf.striprtf import rtf_to_text

    source = _HEX_RUN.sub(b"", source)
    return str(rtf_to_text(source.decode("latin-1"), encoding="cp1252", errors="replace"))  # type: ignore[no-untyped-call]


def parse(file: BinaryIO, _limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft]:
    """Yield paragraphs and tables of a document, which is held whole."""
    source = file.read()
    progress(0.1)
    rows: list[list[str]] = []
    for line in text_of(source).split("\n"):
        cells = line.rstrip().split("|")
        if line.rstrip().endswith("|") and len(cells) > 2:
            rows.append(cells[:-1])
            continue
        yield from table(rows)
        rows = []
        yield Draft(line.strip(), "paragraph")
    yield from table(rows)
    progress(1.0)


def unpacked(packed: bytes) -> bytes:
    """Return an RTF text that Outlook has compressed ([MS-OXRTFCP]); empty if it is damaged."""
    size, kind = int.from_bytes(packed[4:8], "little"), packed[8:12]
    if kind == b"MELA":
        return packed[16 : 16 + size]
    window = bytearray(_DICTIONARY.ljust(4096, b" "))
    at, place, out = 16, len(_DICTIONARY), bytearray()

    def put(byte: int) -> None:
        nonlocal place
        out.append(byte)
        window[place] = byte
        place = (place + 1) % 4096

    while at < len(packed) and len(out) < size:
        flags = packed[at]
        at += 1
        for bit in range(8):
            if at + (flags >> bit & 1) >= len(packed):
                return bytes(out)
            if flags >> bit & 1:
                reference = packed[at] << 8 | packed[at + 1]
                at += 2
                begin = reference >> 4
                if begin == place:
                    return bytes(out)
                for step in range((reference & 15) + 2):
                    put(window[(begin + step) % 4096])
            else:
                put(packed[at])
                at += 1
    return bytes(out)


_DICTIONARY = (
    rb"{\rtf1\ansi\mac\deff0\deftab720{\fonttbl;}{\f0\fnil \froman \fswiss \fmodern \fscript \fdecor MS Sans "
    rb"SerifSymbolArialTimes New RomanCourier{\colortbl\red0\green0\blue0"
    + b"\r\n"
    + rb"\par \pard\plain\f0\fs20\b\i\u\tab\tx"
)
"""The text with which each dictionary begins ([MS-OXRTFCP] 2.1.3.1)."""
