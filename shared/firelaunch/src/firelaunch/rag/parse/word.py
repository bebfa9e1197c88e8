"""The content of a DOCX file: paragraphs with the numbers that Word shows, tables, notes, text boxes and charts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .base import Draft, Kind, Outline
from .charts import chart_drafts, diagram_draft
from .numbering import Numbering
from .omissions import Omission
from .tables import table

__all__ = ["document_drafts"]

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_CHART = "{http://schemas.openxmlformats.org/drawingml/2006/chart}chart"
_DIAGRAM = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}relIds"
_HEADING = re.compile(r"heading (\d)", re.IGNORECASE)
_DEPTH = 20
_MOST_SPANNED = 500
_FURNITURE_LETTERS = 4
"""A header or footer with fewer letters beside the word "page" is a page number."""

_PAGE_NUMBER = re.compile(r"\b(?:page|seite|p\u00e1gina|pagina|of|von|de|di|sur)\b", re.IGNORECASE)


def document_drafts(document: Any) -> Iterator[Draft | Omission | float]:
    """Yield the drafts of a document that python-docx has opened, and between them the share that was read.

    Headers come first and footers last, each text once. A note stands below the paragraph or the table that refers to
    it, with the mark that its reference has in the text. Comments are left out.
    """
    word = _Word(document)
    yield from word.furniture("header")
    body = document.element.body
    total = max(1, len(body))
    for at, element in enumerate(body):
        for part in _body_parts(element):
            yield from word.drafts(part)
        yield (at + 1) / total
    yield from word.furniture("footer")
    comments = word.related("comments")
    count = 0 if comments is None else len(comments.findall(f"{_W}comment"))
    if count:
        yield Omission("comments", count)


def _body_parts(element: Any, depth: int = 0) -> Iterator[Any]:
    """Yield paragraphs and tables, including those in content controls."""
    if element.tag in {f"{_W}p", f"{_W}tbl"}:
        yield element
    elif element.tag in {f"{_W}sdt", f"{_W}sdtContent", f"{_W}customXml"} and depth < _DEPTH:
        for child in element:
            yield from _body_parts(child, depth + 1)


@dataclass(slots=True)
class _Found:
    """A text of a document, and what is anchored in it: notes with their marks, text boxes, charts and diagrams."""

    parts: list[str] = field(default_factory=list)
    notes: list[tuple[str, str, str]] = field(default_factory=list)
    boxes: list[Any] = field(default_factory=list)
    drawings: list[Any] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.parts).strip("\n")


class _Word:
    """A document that is being read: its styles, numbers, and notes so far."""

    def __init__(self, document: Any) -> None:
        self._part = document.part
        self._document = document
        self._styles = {style.style_id: style for style in document.styles}
        self._numbering = Numbering(self.related("numbering"), {key: s.element for key, s in self._styles.items()})
        self._notes = {kind: self._notes_of(kind) for kind in ("footnote", "endnote")}
        self._outline = Outline()
        self._marks = 0

    def related(self, kind: str) -> Any:
        """Return the root of the part of this kind ("numbering", "footnotes"), or None."""
        for relation in self._part.rels.values():
            if relation.reltype.endswith(f"/{kind}") and not relation.is_external:
                return _root(relation.target_part)
        return None

    def _notes_of(self, kind: str) -> dict[str, Any]:
        root = self.related(f"{kind}s")
        notes = () if root is None else root.findall(f"{_W}{kind}")
        return {note.get(f"{_W}id"): note for note in notes if note.get(f"{_W}type") in {None, "normal"}}

    def furniture(self, kind: str) -> Iterator[Draft]:
        """Yield the texts of headers or footers, each once, without page numbers."""
        seen = set()
        for reference in self._document.element.body.iter(f"{_W}{kind}Reference"):
            part = self._part.related_parts.get(reference.get(f"{_R}id"))
            text = "" if part is None else self._found(_root(part)).text
            lines = [" ".join(line.split()) for line in text.split("\n")]
            text = "\n".join(line for line in lines if line)
            letters = sum(map(str.isalpha, _PAGE_NUMBER.sub("", text)))
            if letters >= _FURNITURE_LETTERS and text not in seen:
                seen.add(text)
                yield Draft(text)

    def drafts(self, element: Any, depth: int = 0) -> Iterator[Draft | Omission]:
        """Yield the drafts of a paragraph or a table, and of what is anchored in it."""
        found = _Found()
        if element.tag == f"{_W}tbl":
            rows = [self._row(row, found) for row in _children(element, "tr")]
            headers = sum(1 for row in _children(element, "tr") if row.find(f"{_W}trPr/{_W}tblHeader") is not None)
            yield from table(_without_merged(rows), None, self._outline.path, headers or None)
        else:
            self._read(element, found)
            yield from self._paragraph(element, found.text)
        yield from self._anchored(found, depth)

    def _anchored(self, found: _Found, depth: int) -> Iterator[Draft | Omission]:
        for box in found.boxes if depth < _DEPTH else ():
            for child in box:
                for part in _body_parts(child):
                    yield from self.drafts(part, depth + 1)
        for drawing in found.drawings:
            yield from self._drawing(drawing)
        for mark, kind, name in found.notes:
            note = self._notes[kind].get(name)
            text = "" if note is None else " ".join(self._found(note).text.split())
            yield Draft(f"[^{mark}]: {text}" if text else "", "paragraph", None, self._outline.path)

    def _drawing(self, drawing: Any) -> Iterator[Draft | Omission]:
        chart = drawing.tag == _CHART
        part = self._part.related_parts.get(drawing.get(f"{_R}{'id' if chart else 'dm'}"))
        if part is not None:
            if chart:
                yield from chart_drafts(_root(part), None, self._outline.path)
            else:
                yield diagram_draft(_root(part), None, self._outline.path)

    def _paragraph(self, element: Any, text: str) -> Iterator[Draft]:
        style = self._styles.get(element.style or "")
        name = "" if style is None else style.name or ""
        label = self._numbering.label(element)
        if not text.strip():
            return
        level = _HEADING.match(name)
        kind: Kind = "paragraph"
        gap = 2
        if level or name.lower() == "title":
            text = f"{label.text} {text}".strip() if label is not None and not label.is_bullet else text
            self._outline.enter(int(level[1]) if level else 0, text)
            kind = "heading"
        elif label is not None or name.lower().startswith("list"):
            indent, mark = ("  " * label.level, label.text) if label is not None else ("", "-")
            kind, gap = "list", 1
            text = f"{indent}{mark} {text}" if mark else f"{indent}{text}"
        yield Draft(text, kind, None, self._outline.path, gap)

    def _row(self, row: Any, found: _Found) -> list[tuple[str, str]]:
        """Return the texts of a row's cells by column, and how each is merged with those below it or above.

        The second is "" for a cell of one row, "restart" for the first of several, "on" for the others.
        """
        before = row.find(f"{_W}trPr/{_W}gridBefore")
        cells = [("", "")] * _count(before)
        for cell in _children(row, "tc"):
            begin = len(found.parts)
            for child in cell:
                self._read(child, found)
            text = "".join(found.parts[begin:]).strip("\n")
            del found.parts[begin:]
            merged = cell.find(f"{_W}tcPr/{_W}vMerge")
            how = "" if merged is None else "restart" if merged.get(f"{_W}val") == "restart" else "on"
            span = cell.find(f"{_W}tcPr/{_W}gridSpan")
            cells += [(text, how), *[("", how and "on")] * (max(1, _count(span)) - 1)]
        return cells

    def _found(self, element: Any) -> _Found:
        found = _Found()
        self._read(element, found)
        return found

    def _read(self, root: Any, found: _Found) -> None:
        """Gather an element's text with all changes accepted, and what is anchored in it."""
        for node in _nodes(root):
            tag = node.tag
            if tag in {f"{_W}t", f"{_M}t"}:
                found.parts.append(node.text or "")
            elif tag == f"{_W}tab":
                found.parts.append("\t" if node.getparent().tag != f"{_W}tabs" else "")
            elif tag == f"{_W}noBreakHyphen":
                found.parts.append("-")
            elif tag in _NOTES:
                name = node.get(f"{_W}id")
                if name in self._notes[_NOTES[tag]]:
                    self._marks += 1
                    found.parts.append(f"[^{self._marks}]")
                    found.notes.append((str(self._marks), _NOTES[tag], name))
            elif tag == f"{_W}txbxContent":
                found.boxes.append(node)
            elif tag in {_CHART, _DIAGRAM}:
                found.drawings.append(node)
            elif tag in {f"{_W}br", f"{_W}cr", f"{_W}p"}:
                found.parts.append("\n")


_NOTES = {f"{_W}footnoteReference": "footnote", f"{_W}endnoteReference": "endnote"}
_CLOSED = {_FALLBACK, f"{_W}moveFrom", f"{_W}txbxContent", f"{_W}del"}
"""Elements whose content is read elsewhere, or is not the document's: repeated for old readers, moved away, deleted."""


def _nodes(root: Any) -> Iterator[Any]:
    """Yield the elements below and with ``root`` in order, without recursion, and without what is in ``_CLOSED``."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        if node is root or node.tag not in _CLOSED:
            stack.extend(reversed(node))


def _children(element: Any, name: str, depth: int = 0) -> Iterator[Any]:
    """Yield an element's rows or cells, including those in content controls."""
    for child in element:
        if child.tag == f"{_W}{name}":
            yield child
        elif child.tag in {f"{_W}sdt", f"{_W}sdtContent", f"{_W}customXml"} and depth < _DEPTH:
            yield from _children(child, name, depth + 1)


def _without_merged(rows: list[list[tuple[str, str]]]) -> Iterator[list[str]]:
    """Yield rows of texts; a cell that is merged with those below it is in each of them."""
    above: dict[int, str] = {}
    for row in rows:
        texts = []
        for at, (text, merged) in enumerate(row):
            if merged == "restart":
                above[at] = text
            elif not merged:
                above.pop(at, None)
            texts.append(above.get(at, text) if merged else text)
        yield texts


def _count(element: Any) -> int:
    value = "" if element is None else element.get(f"{_W}val") or ""
    return min(int(value), _MOST_SPANNED) if value.isdecimal() else 0


def _root(part: Any) -> Any:
    """Return the root of a part's XML."""
    from docx.oxml import parse_xml

    element = getattr(part, "element", None)
    return parse_xml(part.blob) if element is None else element
