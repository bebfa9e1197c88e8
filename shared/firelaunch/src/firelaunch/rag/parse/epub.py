"""EPUB: the chapters of a book in their order, each as a page of HTML."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO
from urllib.parse import unquote

from . import html
from .base import Draft, ParseLimits, Unreadable
from .packages import Package, local_name

__all__ = ["parse"]

_FONT_ALGORITHMS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
"""Ways to disguise fonts, which leave the text as it is."""

_MOST_CHAPTERS = 5_000


def parse(file: BinaryIO, limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft]:
    """Yield the blocks of each chapter; in the place of a page stands the chapter's number.

    Raises:
        Unreadable: the book is protected against copying, or damaged.
    """
    package = Package(file, limits)
    _check_protection(package)
    chapters = list(_chapters(package))
    if len(chapters) > _MOST_CHAPTERS:
        raise Unreadable("too_many_pages", f"{len(chapters)} chapters")
    for number, chapter in enumerate(chapters, start=1):
        if chapter in package:
            source = html.with_end_tags(package.read(chapter))
            for draft in html.drafts(source):
                yield Draft(draft.text, draft.kind, number, draft.headings, draft.gap)
        progress(number / len(chapters))


def _check_protection(package: Package) -> None:
    name = "META-INF/encryption.xml"
    if name not in package:
        return
    methods = [
        node.get("Algorithm", "") for node in package.root(name).iter() if local_name(node) == "EncryptionMethod"
    ]
    if any(method not in _FONT_ALGORITHMS for method in methods):
        raise Unreadable("encrypted", "copy protection")


def _chapters(package: Package) -> Iterator[str]:
    """Yield the names of the parts of the book's spine, in order."""
    container = package.root("META-INF/container.xml")
    path = next((node.get("full-path") for node in container.iter() if local_name(node) == "rootfile"), None)
    if not path:
        raise Unreadable("damaged", "the container names no book")
    book = package.root(path)
    folder = posixpath.dirname(path)
    items: dict[str | None, Any] = {node.get("id"): node for node in book.iter() if local_name(node) == "item"}
    for reference in book.iter():
        if local_name(reference) != "itemref":
            continue
        item = items.get(reference.get("idref"))
        if item is not None and "nav" not in (item.get("properties") or "").split() and item.get("href"):
            yield posixpath.normpath(posixpath.join(folder, unquote(item.get("href"))))
