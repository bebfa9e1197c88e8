"""Office's XML packages as the libraries that read them expect them: one of their names for each part and namespace.

Some programs write Strict Open XML, whose namespaces are others (ISO/IEC 29500-1), templates and files with macros,
whose main part has another type, and names with other slashes or letters.
"""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

from .base import ParseLimits, Unreadable
from .packages import Package, local_name

__all__ = ["main_part", "normalized"]

_MAIN = {
    "wordprocessingml.document.main": "docx", "wordprocessingml.template.main": "docx",
    "ms-word.document.macroenabled.main": "docx", "ms-word.template.macroenabledtemplate.main": "docx",
    "presentationml.presentation.main": "pptx", "presentationml.slideshow.main": "pptx",
    "presentationml.template.main": "pptx", "ms-powerpoint.presentation.macroenabled.main": "pptx",
    "ms-powerpoint.slideshow.macroenabled.main": "pptx", "ms-powerpoint.template.macroenabled.main": "pptx",
    "spreadsheetml.sheet.main": "xlsx", "spreadsheetml.template.main": "xlsx",
    "ms-excel.sheet.macroenabled.main": "xlsx", "ms-excel.template.macroenabled.main": "xlsx",
    "ms-excel.sheet.binary.macroenabled.main": "xlsb",
}  # fmt: skip
"""The types of main parts, between their beginning and "+xml", and the formats that they are of."""

_TYPES = {
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation.main+xml",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml",
}
_OLD = "http://schemas.openxmlformats.org/"
_STRICT = "http://purl.oclc.org/ooxml/"
_NAMESPACES = {
    "drawingml/main": "drawingml/2006/main", "drawingml/chart": "drawingml/2006/chart",
    "drawingml/chartDrawing": "drawingml/2006/chartDrawing", "drawingml/diagram": "drawingml/2006/diagram",
    "drawingml/lockedCanvas": "drawingml/2006/lockedCanvas", "drawingml/picture": "drawingml/2006/picture",
    "drawingml/spreadsheetDrawing": "drawingml/2006/spreadsheetDrawing",
    "drawingml/wordprocessingDrawing": "drawingml/2006/wordprocessingDrawing",
    "officeDocument/bibliography": "officeDocument/2006/bibliography",
    "officeDocument/customProperties": "officeDocument/2006/custom-properties",
    "officeDocument/customXml": "officeDocument/2006/customXml",
    "officeDocument/docPropsVTypes": "officeDocument/2006/docPropsVTypes",
    "officeDocument/extendedProperties": "officeDocument/2006/extended-properties",
    "officeDocument/math": "officeDocument/2006/math",
    "officeDocument/relationships/customProperties": "officeDocument/2006/relationships/custom-properties",
    "officeDocument/relationships/extendedProperties": "officeDocument/2006/relationships/extended-properties",
    "officeDocument/relationships": "officeDocument/2006/relationships",
    "officeDocument/sharedTypes": "officeDocument/2006/sharedTypes",
    "presentationml/main": "presentationml/2006/main", "spreadsheetml/main": "spreadsheetml/2006/main",
    "wordprocessingml/main": "wordprocessingml/2006/main",
}  # fmt: skip
"""Strict namespaces, and those of the usual form (ISO/IEC 29500-4, annex A)."""

_STRICT_NAME = re.compile(
    re.escape(_STRICT.encode()) + f"({'|'.join(sorted(_NAMESPACES, key=len, reverse=True))})".encode()
)
_PART = re.compile(r"\.(?:xml|rels|vml)$", re.IGNORECASE)
_MOST_COPIED = 100 * 2**20
"""The most bytes of XML of a package that is copied."""
_RELATIONSHIPS = "_rels/.rels"
_CONTENT_TYPES = "[Content_Types].xml"


def main_part(package: Package) -> tuple[str, str, str] | None:
    """Return a package's format, the name of its main part and that part's type; None if it is none of Office's."""
    if _CONTENT_TYPES not in package:
        return None
    defaults, overrides = {}, {}
    for element in package.root(_CONTENT_TYPES):
        kind = element.get("ContentType", "")
        if local_name(element) == "Override":
            overrides[element.get("PartName", "").lstrip("/").lower()] = kind
        elif local_name(element) == "Default":
            defaults[element.get("Extension", "").lower()] = kind
    candidates = list(overrides)
    if _RELATIONSHIPS in package:
        candidates = list(_targets(package, "", "/officeDocument")) or candidates
    for name in candidates:
        kind = overrides.get(name.lower()) or defaults.get(name.rpartition(".")[2].lower(), "")
        format_name = _MAIN.get(_short(kind))
        if format_name is not None and name in package:
            return format_name, name, kind
    return None


def _targets(package: Package, source: str, ending: str = "") -> Iterator[str]:
    """Yield the names of the parts to which a part's relationships lead, as they write them; "" is the package."""
    relationships = _relationships_of(source)
    if relationships not in package:
        return
    for element in package.root(relationships):
        if (
            local_name(element) == "Relationship"
            and element.get("TargetMode") != "External"
            and element.get("Type", "").endswith(ending)
        ):
            target = element.get("Target", "").replace("\\", "/")
            yield posixpath.normpath(posixpath.join("/", posixpath.dirname(source), target)).lstrip("/")


def _relationships_of(source: str) -> str:
    return posixpath.join(posixpath.dirname(source), "_rels", posixpath.basename(source) + ".rels")


def _referred(package: Package) -> dict[str, str]:
    """Return the names of parts as relationships write them, by the names in small letters."""
    referred = {_CONTENT_TYPES.lower(): _CONTENT_TYPES, _RELATIONSHIPS: _RELATIONSHIPS}
    sources = [""]
    while sources:
        for target in _targets(package, sources.pop()):
            if target.lower() not in referred:
                referred[target.lower()] = target
                relationships = _relationships_of(target)
                referred[relationships.lower()] = relationships
                sources.append(target)
    return referred


def _short(kind: str) -> str:
    return (
        kind.lower()
        .removesuffix("+xml")
        .removeprefix("application/vnd.")
        .removeprefix("openxmlformats-officedocument.")
    )


def normalized(file: BinaryIO, limits: ParseLimits) -> BinaryIO:
    """Return a package with the usual names: the file itself if it has them, or a copy in memory without its media.

    Raises:
        Unreadable: the package is damaged, or too large to be copied.
    """
    package = Package(file, limits)
    found = main_part(package)
    if found is None:
        raise Unreadable("damaged", "no main part")
    format_name, main, kind = found
    names = list(package.names())
    strict = any(_STRICT.encode() in package.read(name) for name in (_RELATIONSHIPS, main) if name in package)
    usual_kind = _TYPES.get(format_name, kind)
    if not strict and kind == usual_kind and main in package.written and _CONTENT_TYPES in package.written:
        file.seek(0)
        return file
    return _copy(package, names, kind, usual_kind)


def _copy(package: Package, names: list[str], kind: str, usual_kind: str) -> BinaryIO:
    copy = io.BytesIO()
    total = 0
    referred = _referred(package)
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            content = package.read(name) if _PART.search(name) else b""
            total += len(content)
            if total > _MOST_COPIED:
                raise Unreadable("too_much_memory", f"{total} bytes of XML")
            if name.lower() == _CONTENT_TYPES.lower():
                content = content.replace(kind.encode(), usual_kind.encode())
            archive.writestr(referred.get(name.lower(), name), _STRICT_NAME.sub(_usual_namespace, content))
    copy.seek(0)
    return copy


def _usual_namespace(strict: re.Match[bytes]) -> bytes:
    return (_OLD + _NAMESPACES[strict[1].decode()]).encode()
