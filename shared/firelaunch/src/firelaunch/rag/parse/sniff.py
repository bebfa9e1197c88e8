"""Detect a file's format: its content decides, and its name only if the content leaves a choice."""

from __future__ import annotations

import re
import zipfile
from typing import BinaryIO

from .base import ParseLimits, Unreadable
from .data import delimiter_of
from .encoding import detect

__all__ = ["EXTRACTORS", "FORMATS", "PICTURES", "sniff"]

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
    "mail": "mail:parse",
    "msg": "mail:parse_outlook",
    "epub": "epub:parse",
    "odf": "opendocument:parse",
    "rtf": "rtf:parse",
    "xls": "spreadsheet:parse",
    "notebook": "notebook:parse",
    "xml": "xml:parse",
    "tex": "tex:parse",
    "picture": "pictures:parse",
    "links": "html:links",
    "pdf_size": "pdf:measure",
}
"""Each format's parser: a module of this package, and a function in it."""

EXTRACTORS = {"mail": "mail:files", "msg": "mail:outlook_files"}
"""The functions that give the files which a document of a format holds."""

PICTURES = {"pdf": "pdf:pictures", "picture": "pictures:files"}
"""The functions that give the pages which are pictures of a document of a format."""

_SAMPLE = 8192
_BY_PART = {"word/document.xml": "docx", "ppt/presentation.xml": "pptx", "xl/workbook.xml": "xlsx"}
_BY_EXTENSION = {
    "md": "markdown", "markdown": "markdown", "mdx": "markdown", "csv": "csv", "tsv": "csv", "json": "json",
    "jsonl": "json", "ndjson": "json", "txt": "text", "text": "text", "log": "text",
}  # fmt: skip
_DOCUMENTS = {"", "pdf", "docx", "doc", "pptx", "xlsx", "html", "htm", "xhtml", "json"}
"""Extensions that say nothing about a text's form: there is none, or it is wrong."""

_OTHERS = (
    (b"\x1f\x8b", "archive"),
    (b"7z\xbc\xaf\x27\x1c", "archive"),
    (b"Rar!", "archive"),
    (b"BZh", "archive"),
    (b"\xfd7zXZ\x00", "archive"),
    (b"\x7fELF", "unsupported"),
    (b"MZ\x90\x00", "unsupported"),
)
"""How other files begin, and the problem that they are."""

_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\x00", b"MM\x00*")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_BY_STREAM = {
    "EncryptedPackage": "encrypted", "__properties_version1.0": "msg", "Workbook": "xls", "Book": "xls",
    "WordDocument": "old_word", "PowerPoint Document": "old_powerpoint",
}  # fmt: skip
"""Streams of an OLE container ([MS-OFFCRYPTO] 2.3.4.4, [MS-OXMSG] 2.2, [MS-XLS] 2.1, [MS-DOC] 2.1.1, [MS-PPT] 2.1.1),
and the format or the problem of the file."""

_ODF = "application/vnd.oasis.opendocument."
_ODF_KINDS = ("text", "spreadsheet", "presentation", "graphics")
_MAIL = re.compile(
    r"(?:From [^\n]{0,300}\n)?((?:[A-Za-z][A-Za-z0-9-]{0,60}:[^\n]{0,2000}\n(?:[ \t][^\n]{0,2000}\n){0,200}){2,200})"
)
_MAIL_FIELDS = re.compile(
    r"^(from|to|subject|date|message-id|received|mime-version|return-path|delivered-to|reply-to|cc):",
    re.MULTILINE | re.IGNORECASE,
)
_MAIL_ONLY = frozenset({"message-id", "received", "mime-version", "return-path", "delivered-to"})
_TEX = re.compile(r"\\(?:documentclass|documentstyle)\b|\\begin{document}|\\(?:chapter|(?:sub)?section)\*?{[^}]*}")
_XML = re.compile(r"\s*(?:<\?xml[\s?]|<!DOCTYPE\s+(?!html\b)\w|<(?:svg|rss|feed|office:document)\b)", re.IGNORECASE)
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
    elif head.startswith(_OLE):
        format_name = _ole_format(file)
    elif _is_picture(head):
        format_name = "picture"
    elif head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{\\rtf"):
        format_name = "rtf"
    else:
        format_name = _text_format(file, head, extension)
    file.seek(0)
    return format_name


def _ole_format(file: BinaryIO) -> str:
    """Return the format of a file in Office's old container format.

    Raises:
        Unreadable: it is one that is not read.
    """
    import olefile

    file.seek(0)
    try:
        with olefile.OleFileIO(file) as container:
            names = {entry[0] for entry in container.listdir()}
    except (OSError, ValueError, IndexError):
        # The container is damaged. Its directory may still tell what it was.
        file.seek(0)
        data = file.read()
        names = {name for name in _BY_STREAM if name.encode("utf-16-le") in data}
    found = next((format_name for name, format_name in _BY_STREAM.items() if name in names), "old_office")
    if found not in FORMATS:
        raise Unreadable(found)
    return found


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
    return _package_format(file, limits)


def _package_format(file: BinaryIO, limits: ParseLimits) -> str:
    """Return the format of a zip file: by the type that it states, by its main part, or by parts that it holds."""
    from .ooxml import main_part
    from .packages import Package

    package = Package(file, limits)
    stated = package.read("mimetype")[:200].decode("ascii", "replace").strip() if "mimetype" in package else ""
    if stated.startswith(tuple(_ODF + kind for kind in _ODF_KINDS)):
        return "odf"
    if stated == "application/epub+zip" or "META-INF/container.xml" in package:
        return "epub"
    if not stated and "content.xml" in package and "META-INF/manifest.xml" in package:
        return "odf"
    main = main_part(package)
    if main is not None:
        return "xls" if main[0] == "xlsb" else main[0]
    for name, format_name in _BY_PART.items():
        if name in package:
            return format_name
    if any(name.lower().endswith(".iwa") for name in package.names()):
        raise Unreadable("iwork")
    raise Unreadable("unsupported" if "[Content_Types].xml" in package or stated else "archive", "a zip file")


def _is_picture(head: bytes) -> bool:
    return (
        head.startswith(_PICTURES)
        or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")
        or (head.startswith(b"BM") and head[6:10] == bytes(4))
    )


def _text_format(file: BinaryIO, head: bytes, extension: str) -> str:
    for magic, problem in _OTHERS:
        if head.startswith(magic):
            raise Unreadable(problem)
    encoding, errors = detect(file, html=True)
    text = head.decode(encoding, errors).lstrip("\ufeff")
    if text.count("\x00") + sum(c < "\x09" for c in text) > len(text) // 100:
        raise Unreadable("unsupported", "")
    return _marked_up(file, text, extension) or _plain(text, extension)


def _marked_up(file: BinaryIO, text: str, extension: str) -> str | None:
    """Return the format of a text that is written for programs; None if it is for readers."""
    if extension in {"html", "htm", "xhtml"} and "<" in text:
        return "html"
    if _HTML.match(text):
        return "html"
    if _XML.match(text) or (extension == "xml" and text.lstrip().startswith("<")):
        return "xml"
    if _JSON.match(text) and (extension in {"json", "jsonl", "ndjson", "ipynb"} or _begins_as_json(text)):
        return "notebook" if _is_notebook(file, text, extension) else "json"
    if _is_mail(text.replace("\r\n", "\n"), extension):
        return "mail"
    if extension not in {"md", "markdown", "mdx"} and (extension in {"tex", "ltx"} or _TEX.search(text)):
        return "tex" if "\\" in text else None
    return None


def _is_mail(text: str, extension: str) -> bool:
    """Return whether a text begins with a mail's headers."""
    if extension in {"mht", "mhtml"}:
        return True
    head = _MAIL.match(text)
    fields = {field.lower() for field in _MAIL_FIELDS.findall(head[1])} if head else set()
    return len(fields) >= (2 if extension == "eml" else 3) and (extension == "eml" or bool(fields & _MAIL_ONLY))


def _is_notebook(file: BinaryIO, text: str, extension: str) -> bool:
    if extension == "ipynb":
        return True
    if '"cell_type"' not in text:
        return False
    file.seek(max(0, file.seek(0, 2) - _SAMPLE))
    return b'"nbformat"' in file.read() or '"nbformat"' in text


def _plain(text: str, extension: str) -> str:
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
