"""Zip packages of XML parts: reading a part within limits, and parsing XML that may be hostile."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from typing import IO, Any

from lxml import etree

from .base import ParseLimits, Unreadable

__all__ = ["MAX_PART", "Package", "elements", "local_name", "root_of", "xml_error"]

MAX_PART = 100 * 2**20
"""The most bytes of one part that are read at once; a tree of more would not fit into the child's memory."""

_ENTITY_ERRORS = frozenset({
    etree.ErrorTypes.ERR_ENTITY_LOOP,
    getattr(etree.ErrorTypes, "ERR_RESOURCE_LIMIT", 117),
})  # fmt: skip


class Package:
    """A zip file's parts by their names. Case and backslashes make no difference, as some programs write them freely.

    Attributes:
        written: the names as they are written.
    """

    def __init__(self, file: IO[bytes], limits: ParseLimits) -> None:
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, ValueError, EOFError) as error:
            raise Unreadable("damaged", str(error)) from error
        self._limits = limits
        self.written = frozenset(part.filename for part in self._zip.infolist())
        self._parts = {self._key(part.filename): part for part in self._zip.infolist() if not part.is_dir()}

    @staticmethod
    def _key(name: str) -> str:
        return name.replace("\\", "/").lstrip("/").lower()

    def __contains__(self, name: str) -> bool:
        return self._key(name) in self._parts

    def names(self) -> Iterator[str]:
        """Yield the parts' names, with slashes."""
        for part in self._parts.values():
            yield part.filename.replace("\\", "/").lstrip("/")

    def open(self, name: str) -> IO[bytes]:
        """Open a part.

        Raises:
            Unreadable: there is no such part, it is protected, or too large.
        """
        part = self._parts.get(self._key(name))
        if part is None:
            raise Unreadable("damaged", f"no part {name[:100]!r}")
        if part.flag_bits & 1:
            raise Unreadable("encrypted")
        if part.file_size > min(MAX_PART, self._limits.unpacked_bytes):
            raise Unreadable("unpacks_too_large", f"{name[:100]!r}: {part.file_size} bytes")
        try:
            return self._zip.open(part)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise Unreadable("damaged", str(error)) from error

    def read(self, name: str) -> bytes:
        """Return a part's content. Errors are those of :meth:`open`."""
        with self.open(name) as part:
            return part.read()

    def root(self, name: str) -> Any:
        """Return the root element of a part that is XML. Errors are those of :meth:`open`."""
        with self.open(name) as part:
            return root_of(part)


def root_of(file: IO[bytes], *, recover: bool = False) -> Any:
    """Return the root element of an XML file. Entities of other files are never read.

    Args:
        recover: read what can be read of a file that is not well-formed.

    Raises:
        Unreadable: the file is no XML, or its entities expand to more than is allowed.
    """
    parser = etree.XMLParser(resolve_entities="internal", no_network=True, load_dtd=False, recover=recover)
    try:
        root = etree.parse(file, parser).getroot()
    except etree.XMLSyntaxError as error:
        raise xml_error(error) from error
    if root is None:
        raise Unreadable("damaged", "no element")
    return root


def elements(file: IO[bytes], *tags: str) -> Iterator[Any]:
    """Yield the elements of these tags, complete, and drop them after that. Errors as :func:`root_of`."""
    steps = etree.iterparse(file, ("end",), tag=tags, resolve_entities=False, no_network=True, load_dtd=False)
    try:
        for _, element in steps:
            yield element
            element.clear()
            while element.getprevious() is not None:
                del element.getparent()[0]
    except etree.XMLSyntaxError as error:
        raise xml_error(error) from error


def xml_error(error: etree.XMLSyntaxError) -> Unreadable:
    """Return the error for XML that cannot be parsed."""
    bomb = error.code in _ENTITY_ERRORS or "amplification" in str(error)
    return Unreadable("unpacks_too_large" if bomb else "damaged", f"XML: {error}"[:300])


def local_name(element: Any) -> str:
    """Return an element's name without its namespace; "" for comments and processing instructions."""
    return etree.QName(element).localname if isinstance(element.tag, str) else ""
