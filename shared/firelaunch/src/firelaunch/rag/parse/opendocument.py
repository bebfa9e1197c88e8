"""OpenDocument: texts (ODT), spreadsheets (ODS), presentations (ODP) and drawings, in a package or as one XML file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import Any, BinaryIO

from .base import Draft, Outline, ParseLimits, Unreadable
from .packages import Package, elements, local_name
from .tables import table

__all__ = ["parse", "parse_body"]

_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_DRAW = "{urn:oasis:names:tc:opendocument:xmlns:drawing:1.0}"
_PRESENTATION = "{urn:oasis:names:tc:opendocument:xmlns:presentation:1.0}"

_SKIPPED = frozenset({
    f"{_TEXT}tracked-changes", f"{_TEXT}table-of-content", f"{_OFFICE}annotation", f"{_OFFICE}forms",
    f"{_TEXT}sequence-decls", f"{_TEXT}variable-decls", f"{_TABLE}covered-table-cell", f"{_TEXT}ruby-text",
})  # fmt: skip
"""Deleted text, comments, and what repeats text of elsewhere."""

_DEPTH = 60
_MOST_COLUMNS = 2_000
"""Columns of a sheet that are read; a formatted empty row claims 16,384."""

_MOST_REPEATED = 10_000
"""Times that an equal row is repeated at most."""


def parse(file: BinaryIO, limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft]:
    """Yield the blocks of a package's ``content.xml``.

    Raises:
        Unreadable: the document is protected by a password or damaged.
    """
    package = Package(file, limits)
    manifest = "META-INF/manifest.xml"
    if manifest in package and b"encryption-data" in package.read(manifest):
        raise Unreadable("encrypted")
    if "mimetype" in package and b"spreadsheet" in package.read("mimetype"):
        with package.open("content.xml") as content:
            yield from _sheets(elements(content, f"{_TABLE}table-row", f"{_TABLE}table"))
        return
    root = package.root("content.xml")
    body = root.find(f"{_OFFICE}body")
    if body is None:
        raise Unreadable("damaged", "no body")
    yield from parse_body(body, progress)


def parse_body(body: Any, progress: Callable[[float], None]) -> Iterator[Draft]:
    """Yield the blocks of a document's ``office:body``."""
    for content in body:
        name = local_name(content)
        if name in {"presentation", "drawing"}:
            yield from _slides(content, progress)
        elif name == "spreadsheet":
            yield from _sheets(content.iter(f"{_TABLE}table-row", f"{_TABLE}table"))
        else:
            outline = Outline()
            total = max(1, len(content))
            for at, element in enumerate(content):
                yield from _blocks(element, None, outline)
                progress((at + 1) / total)


def _blocks(element: Any, page: int | None, outline: Outline, depth: int = 0) -> Iterator[Draft]:
    """Yield the blocks of a part of a text, with what is anchored in its paragraphs after them."""
    tag = element.tag
    if not isinstance(tag, str) or tag in _SKIPPED:
        return
    if depth > _DEPTH:
        raise Unreadable("too_deep")
    if tag == f"{_TEXT}h":
        text = " ".join(_own_text(element).split())
        if text:
            level = element.get(f"{_TEXT}outline-level", "1")
            yield Draft(text, "heading", page, outline.enter(int(level) if level.isdecimal() else 1, text))
    elif tag == f"{_TEXT}p":
        yield Draft(_own_text(element), "paragraph", page, outline.path)
        for inner in _anchored(element):
            yield from _blocks(inner, page, outline, depth + 1)
    elif tag == f"{_TEXT}list":
        lines = list(_list_lines(element, 0))
        yield Draft("\n".join(lines), "list", page, outline.path)
    elif tag == f"{_TABLE}table":
        yield from table(_rows(_own_rows(element)), page, outline.path)
    else:
        for child in element:
            yield from _blocks(child, page, outline, depth + 1)


def _anchored(element: Any, depth: int = 0) -> Iterator[Any]:
    """Yield the text boxes and notes of a paragraph: text of its own, that is not within the paragraph's lines."""
    if depth > _DEPTH:
        raise Unreadable("too_deep")
    for child in element:
        if child.tag in {f"{_DRAW}text-box", f"{_TEXT}note-body"}:
            yield child
        elif isinstance(child.tag, str) and child.tag not in _SKIPPED:
            yield from _anchored(child, depth + 1)


def _own_text(element: Any) -> str:
    """Return a paragraph's text, without that of frames, notes and comments in it."""
    parts: list[str] = []
    _gather(element, parts, 0)
    return "".join(parts).strip()


def _gather(element: Any, parts: list[str], depth: int) -> None:
    if depth > _DEPTH:
        raise Unreadable("too_deep")
    parts.append((element.text or "").replace("\n", " "))
    for child in element:
        tag = child.tag
        if tag == f"{_TEXT}s":
            count = child.get(f"{_TEXT}c", "1")
            parts.append(" " * min(100, int(count) if count.isdecimal() else 1))
        elif tag == f"{_TEXT}tab":
            parts.append("\t")
        elif tag == f"{_TEXT}line-break":
            parts.append("\n")
        elif tag == f"{_TEXT}note":
            citation = child.find(f"{_TEXT}note-citation")
            parts.append(f"[{citation.text}]" if citation is not None and citation.text else "")
        elif (isinstance(tag, str) and tag not in _SKIPPED and not tag.startswith(_DRAW)) or tag == f"{_DRAW}a":
            _gather(child, parts, depth + 1)
        parts.append((child.tail or "").replace("\n", " "))


def _list_lines(element: Any, depth: int) -> Iterator[str]:
    if depth > _DEPTH:
        raise Unreadable("too_deep")
    for item in element:
        if local_name(item) not in {"list-item", "list-header"}:
            continue
        for child in item:
            if local_name(child) == "list":
                yield from _list_lines(child, depth + 1)
            elif local_name(child) in {"p", "h"} and (text := _own_text(child)):
                yield f"{'  ' * depth}- {text}"


def _slides(content: Any, progress: Callable[[float], None]) -> Iterator[Draft]:
    slides = content.findall(f"{_DRAW}page")
    for number, slide in enumerate(slides, start=1):
        outline = Outline()
        frames = list(slide)
        titles = [frame for frame in frames if frame.get(f"{_PRESENTATION}class") == "title"]
        for title in titles[:1]:
            text = " ".join(" ".join(map(_own_text, title.iter(f"{_TEXT}p"))).split())
            if text:
                yield Draft(text, "heading", number, outline.enter(1, text))
        for frame in frames:
            if frame not in titles[:1]:
                yield from _blocks(frame, number, outline)
        progress(number / len(slides))


def _sheets(found: Iterable[Any]) -> Iterator[Draft]:
    """Yield sheets as tables under their names, from rows and tables in the order in which they end."""
    number = 0
    waiting: list[Any] = []
    source = iter(found)
    current: str | None = None

    def rows_of_sheet(first: Any) -> Iterator[Any]:
        nonlocal current
        element = first
        while element is not None:
            if element.tag == f"{_TABLE}table":
                return
            yield element
            following = next(source, None)
            if following is not None and following.tag != f"{_TABLE}table" and _sheet_name(following) != current:
                waiting.append(following)
                return
            element = following

    while True:
        element = waiting.pop() if waiting else next(source, None)
        if element is None:
            return
        if element.tag == f"{_TABLE}table":
            continue
        number += 1
        current = _sheet_name(element)
        yield Draft(current, "heading", number, (current[:300],))
        yield from table(_rows(rows_of_sheet(element)), number, (current[:300],))


def _sheet_name(row: Any) -> str:
    sheet = next(row.iterancestors(f"{_TABLE}table"), None)
    return (sheet.get(f"{_TABLE}name") if sheet is not None else None) or "Sheet"


def _own_rows(element: Any) -> Iterator[Any]:
    """Yield a table's rows, without those of tables in its cells."""
    for child in element:
        if local_name(child) == "table-row":
            yield child
        elif local_name(child) in {"table-rows", "table-header-rows", "table-row-group"}:
            yield from _own_rows(child)


def _rows(rows: Iterable[Any]) -> Iterator[list[str]]:
    for row in rows:
        cells: list[str] = []
        for cell in row:
            name = local_name(cell)
            if name not in {"table-cell", "covered-table-cell"} or len(cells) >= _MOST_COLUMNS:
                continue
            cells += repeat("" if name.startswith("covered") else _cell(cell), _count(cell, "columns", _MOST_COLUMNS))
        while cells and not cells[-1]:
            cells.pop()
        yield from repeat(cells, _count(row, "rows", _MOST_REPEATED) if cells else 1)


def _count(element: Any, what: str, most: int) -> int:
    count = element.get(f"{_TABLE}number-{what}-repeated", "1")
    return min(most, int(count)) if count.isdecimal() else 1


def _cell(cell: Any) -> str:
    text = " ".join(filter(None, (_own_text(part) for part in cell.iter(f"{_TEXT}p", f"{_TEXT}h"))))
    return text or next((cell.get(f"{_OFFICE}{name}") or "" for name in _VALUES if cell.get(f"{_OFFICE}{name}")), "")


_VALUES: tuple[str, ...] = ("value", "date-value", "time-value", "boolean-value", "string-value")
"""A cell's value where the file holds no text of it."""
