"""Detect a file's format: its content decides, and its name only if the content leaves a choice."""

from __future__ import annotations

import re
import zipfile
from typing import BinaryIO

from .base import ParseLimits, Unreadable
from .data import delimiter_of
from .encoding import detect

__all__ = ["FORMATS", "sniff"]

FORMATS = {
    "pdf": "pdf:parse",
    "docx": "office:parse_docx",
    "pptx": "office:parse_pptx",
    "xlsx": "office:parse_xlsx",
    "html": "html:parse",
    "markdown": "markdown:parse",
    "text": "text:parse",
    "csv": "data:parse_csv",
    "json": "data:parse_json",
    "links": "html:links",
    "pdf_size": "pdf:measure",
}
"""Each format's parser: a module of this package, and a function in it."""

_SAMPLE = 8192
_BY_PART = {"word/document.xml": "docx", "ppt/presentation.xml": "pptx", "xl/workbook.xml": "xlsx"}
_BY_EXTENSION = {
    "md": "markdown", "markdown": "markdown", "mdx": "markdown", "csv": "csv", "tsv": "csv", "json": "json",
    "jsonl": "json", "ndjson": "json", "txt": "text", "text": "text", "log": "text",
}  # fmt: skip
_DOCUMENTS = {"", "pdf", "docx", "doc", "pptx", "xlsx", "html", "htm", "xhtml", "json"}
"""Extensions that say nothing about a text's form: there is none, or it is wrong."""

_OTHERS = (
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"II*\x00", "an image"),
    (b"MM\x00*", "an image"),
    (b"{\\rtf", "an RTF document"),
    (b"\x1f\x8b", "a compressed archive"),
    (b"7z\xbc\xaf\x27\x1c", "a compressed archive"),
    (b"Rar!", "a compressed archive"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90\x00", "a program"),
)
_HTML = re.compile(
    r"\s*(?:<\?xml[^>]{0,200}\?>\s*)?(?:<!--(?:(?!-->).){0,2000}-->\s*)*<(?:!doctype\s+html|html|head|body|title|meta)\b",
    re.IGNORECASE | re.DOTALL,
)
_TAGS = re.compile(r"</?(?:p|div|span|a|h[1-6]|ul|ol|li|table|tr|td|br)\b[^<>]{0,300}>", re.IGNORECASE)
_JSON = re.compile(r"\s*(?:\{\s*(?:\"|\}|$)|\[\s*(?:[\[{\"\]\d-]|true|false|null|$))")
_MARKDOWN = re.compile(r"^(?:#{1,6} \S|```|\[[^\]\n]+\]: \S)", re.MULTILINE)
_MAX_PARTS = 20_000
_MAX_RATIO = 500
_RATIO_FROM = 10 * 2**20


def sniff(file: BinaryIO, extension: str, limits: ParseLimits) -> str:
    """Return the file's format, a key of ``FORMATS``; leave the file at its start.

    Raises:
        Unreadable: the format is not supported, with its name if that is known; or the file is a decompression bomb.
    """
    file.seek(0)
    head = file.read(_SAMPLE)
    if not head.strip():
        raise Unreadable("empty")
    if b"%PDF-" in head[:1024]:
        format_name = "pdf"
    elif head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        format_name = _zip_format(file, limits)
    elif head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        raise Unreadable("encrypted" if _holds_encrypted_package(file) else "old_office")
    else:
        format_name = _text_format(file, head, extension)
    file.seek(0)
    return format_name


def _holds_encrypted_package(file: BinaryIO) -> bool:
    """Return whether a file in Office's old container format is a protected document.

    Office stores it as a stream with this name ([MS-OFFCRYPTO] 2.3.4.4).
    """
    name = "EncryptedPackage".encode("utf-16-le")
    file.seek(0)
    tail = b""
    while part := file.read(1 << 20):
        if name in tail + part:
            return True
        tail = part[-len(name) :]
    return False


def _zip_format(file: BinaryIO, limits: ParseLimits) -> str:
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, ValueError, EOFError) as error:
        raise Unreadable("damaged", str(error)) from error
    total = sum(part.file_size for part in parts)
    if len(parts) > _MAX_PARTS or total > limits.unpacked_bytes:
        raise Unreadable("unpacks_too_large", f"{len(parts)} parts, {total} bytes")
    for part in parts:
        if part.file_size > _RATIO_FROM and part.file_size > _MAX_RATIO * max(1, part.compress_size):
            raise Unreadable("unpacks_too_large", f"{part.file_size} bytes from {part.compress_size}")
        if part.flag_bits & 1:
            raise Unreadable("encrypted")
    names = {part.filename for part in parts}
    for name, format_name in _BY_PART.items():
        if name in names:
            return format_name
    raise Unreadable("unsupported", "a ZIP archive")


def _text_format(file: BinaryIO, head: bytes, extension: str) -> str:
    for magic, name in _OTHERS:
        if head.startswith(magic):
            raise Unreadable("unsupported", name)
    encoding, errors = detect(file, html=True)
    text = head.decode(encoding, errors).lstrip("\ufeff")
    if text.count("\x00") + sum(c < "\x09" for c in text) > len(text) // 100:
        raise Unreadable("unsupported", "")
    if extension in {"html", "htm", "xhtml"} and "<" in text:
        return "html"
    if _HTML.match(text):
        return "html"
    if _JSON.match(text) and (extension in {"json", "jsonl", "ndjson"} or _begins_as_json(text)):
        return "json"
    by_name = _BY_EXTENSION.get(extension, "")
    if by_name and by_name != "json":
        return by_name
    if len(_TAGS.findall(text)) > 10 + len(text) // 400:
        return "html"
    if by_name != "json" and extension and (delimiter_of(text) or "") in "\t;," and _is_table(text):
        return "csv"
    likely = extension in _DOCUMENTS and _MARKDOWN.search(text)
    return "markdown" if likely else "text"


def _is_table(text: str) -> bool:
    delimiter = delimiter_of(text)
    lines = text.splitlines()[:-1]
    return delimiter is not None and len(lines) > 2 and lines[0].count(delimiter) > 1


def _begins_as_json(text: str) -> bool:
    """Return whether a JSON parser that sees only this much finds no error but its sudden end."""
    import ijson

    try:
        for _ in ijson.basic_parse(text.encode("utf-8", "replace"), multiple_values=True):
            pass
    except ijson.IncompleteJSONError as error:
        return "premature EOF" in str(error) or "incomplete" in str(error).lower()
    except ijson.JSONError:
        return False
    return True
