"""Make small documents for tests: PDFs from lines of text, also protected ones."""

from __future__ import annotations

import textwrap
import zlib
from collections.abc import Iterable, Sequence

__all__ = ["Line", "lines_of", "pdf", "pdf_of_objects"]

Line = tuple[str, int]
"""A line's text and its size in points."""

_BODY = 11
_LEFT, _TOP = 72, 770
_PICTURE = b"q 500 0 0 700 40 60 cm BI /W 1 /H 1 /CS /G /BPC 8 ID \x80 EI Q"
"""Draws one grey pixel, 500 by 700 points large."""


def lines_of(text: str, width: int = 90) -> list[Line]:
    """Split a text into lines. In the text "# " begins a heading and an empty line ends a paragraph."""
    lines: list[Line] = []
    for paragraph in text.split("\n\n"):
        level = len(paragraph) - len(paragraph.lstrip("#"))
        size = {0: _BODY, 1: 22, 2: 16}.get(level, 13)
        lines += [(line, size) for line in textwrap.wrap(paragraph.lstrip("# "), width if not level else 50)]
        lines.append(("", size))
    return lines


def pdf(pages: Sequence[Iterable[Line] | bytes | None], *, protected: bool = False) -> bytes:
    """Return a PDF in Helvetica, in Latin-1 only.

    A page is its lines, or the operators that draw it in font ``/F1``; None is a page that is a picture.

    With ``protected`` readers ask for a password that nobody knows.
    """
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count %d /Kids [%s] >>"
        % (len(pages), b" ".join(b"%d 0 R" % (4 + 2 * n) for n in range(len(pages)))),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for number, lines in enumerate(pages):
        drawn = _PICTURE if lines is None else lines if isinstance(lines, bytes) else _content(lines)
        content = zlib.compress(drawn)
        objects += [
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >>"
            b" /Contents %d 0 R >>" % (5 + 2 * number),
            b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(content), content),
        ]
    trailer = b"/Root 1 0 R"
    if protected:
        key = b"A" * 32
        objects.append(b"<< /Filter /Standard /V 2 /R 3 /Length 128 /P -4 /O (%s) /U (%s) >>" % (key, key))
        trailer += b" /Encrypt %d 0 R /ID [(1234567890123456) (1234567890123456)]" % len(objects)
    return _file(objects, trailer)


def pdf_of_objects(objects: Sequence[str]) -> bytes:
    """Return a PDF of these objects, numbered from 1; the first is the catalog."""
    return _file([body.encode("latin-1") for body in objects], b"/Root 1 0 R")


def _content(lines: Iterable[Line]) -> bytes:
    parts = [b"BT", b"%d %d Td" % (_LEFT, _TOP)]
    for text, size in lines:
        escaped = text.encode("latin-1", "replace").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
        parts.append(b"/F1 %d Tf (%s) Tj 0 %d Td" % (size, escaped, -round(size * 1.3)))
    return b"\n".join([*parts, b"ET"])


def _file(objects: list[bytes], trailer: bytes) -> bytes:
    out = bytearray(b"%PDF-1.7\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size %d %s >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, table)
    return bytes(out)
