"""Detect a text file's encoding from its bytes."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable
from typing import BinaryIO

__all__ = ["detect", "open_text", "read_text"]

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE = 64 * 1024
_PART = 1 << 20
_META = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE)
_MIXED = "firelaunch-mixed"


def open_text(file: BinaryIO, progress: Callable[[float], None], *, html: bool = False) -> io.TextIOWrapper:
    """Return the file as text with ``\\n`` line ends, decoded while it is read.

    Bytes that cannot be decoded become U+FFFD.
    """
    encoding, errors = detect(file, html=html)
    counted = io.BufferedReader(_ProgressReader(file, progress), 1 << 16)
    return io.TextIOWrapper(counted, encoding=encoding, errors=errors)


def read_text(file: BinaryIO, progress: Callable[[float], None], *, html: bool = False) -> str:
    """Return the whole file as text."""
    return open_text(file, progress, html=html).read()


def detect(file: BinaryIO, *, html: bool = False) -> tuple[str, str]:
    """Return the encoding and the error handler for the file; leave the file at its start.

    A byte order mark decides. Then comes UTF-8 if the whole file is valid, then (for HTML) the encoding that the file
    declares. In a file that is UTF-8 except for a few bytes, those are read as Windows-1252. Otherwise
    charset-normalizer guesses from the 64 KiB around the first byte that is not UTF-8.
    """
    file.seek(0)
    head = file.read(4096)
    for bom, name in _BOMS:
        if head.startswith(bom):
            file.seek(0)
            return name, "replace"
    wide = _wide(head)
    bad = None if wide else _first_bad_byte(file)
    if bad is not None:
        file.seek(max(0, bad - _SAMPLE // 2))
        encoding = _declared_encoding(head) if html else None
        encoding_and_errors = (encoding, "replace") if encoding else _guess(file.read(_SAMPLE))
    else:
        encoding_and_errors = (wide or "utf-8", "replace")
    file.seek(0)
    return encoding_and_errors


def _wide(head: bytes) -> str | None:
    """Recognize UTF-16 without a mark: mostly ASCII text has zeros at every second byte."""
    zeros = head[0::2].count(0), head[1::2].count(0)
    few, many = len(head) // 50, len(head) // 5
    if zeros[1] > many and zeros[0] <= few:
        return "utf-16-le"
    if zeros[0] > many and zeros[1] <= few:
        return "utf-16-be"
    return None


def _first_bad_byte(file: BinaryIO) -> int | None:
    """Return the offset, give or take 4 bytes, of the first byte that is not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    file.seek(0)
    at = 0
    while part := file.read(_PART):
        try:
            decoder.decode(part)
        except UnicodeDecodeError as error:
            return max(0, at + error.start - 4)
        at += len(part)
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return max(0, at - 4)
    return None


def _declared_encoding(head: bytes) -> str | None:
    match = _META.search(head)
    if not match:
        return None
    try:
        name = codecs.lookup(match[1].decode("ascii")).name
    except LookupError:
        return None
    # Latin-1 in a page means Windows-1252 (https://encoding.spec.whatwg.org/#names-and-labels).
    return {"iso8859-1": "cp1252", "ascii": "cp1252", "utf-8": None}.get(name, name)


def _guess(sample: bytes) -> tuple[str, str]:
    text = sample.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    good = sum(character > "\x7f" for character in text) - bad
    if good > 2 * bad:
        codecs.register_error(_MIXED, _as_cp1252)
        return "utf-8", _MIXED
    from charset_normalizer import from_bytes

    best = from_bytes(sample).best()
    return (best.encoding if best else "cp1252"), "replace"


def _as_cp1252(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


class _ProgressReader(io.RawIOBase):
    """A file that reports how much of it was read."""

    def __init__(self, file: BinaryIO, progress: Callable[[float], None]) -> None:
        self._file = file
        self._size = max(1, file.seek(0, io.SEEK_END))
        file.seek(0)
        self._progress = progress

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read from the file, and report the progress."""
        part = self._file.read(len(buffer))
        buffer[: len(part)] = part
        self._progress(self._file.tell() / self._size)
        return len(part)
