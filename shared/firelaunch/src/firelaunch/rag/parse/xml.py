"""XML: the text of its elements, without markup. Records give lines of "name: value", prose its paragraphs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from lxml import etree

from . import html, opendocument
from .base import Draft, Outline, ParseLimits, Unreadable
from .packages import local_name, root_of
from .tables import TABLE_CHARACTERS

__all__ = ["parse"]

_DEPTH = 200
_ODF_BODY = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}body"
_TITLES = frozenset({"title", "head", "heading", "headline"})
_BROKEN_LINES = frozenset({"br", "lb", "line"})
_RECORD_CHARACTERS = 300
"""The most characters of a value in a line of a record; longer text is prose."""

_ATTRIBUTE_CHARACTERS = 200
_TAGS = re.compile(r"</?[a-z][a-z0-9]{0,9}(?:\s[^<>]{0,300})?/?>", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/=]{60,}(?:\s+[A-Za-z0-9+/=]+)*")
_SVG = "{http://www.w3.org/2000/svg}"


def parse(file: BinaryIO, _limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft]:
    """Yield the text of an XML file, which is held whole.

    Raises:
        Unreadable: the file is no XML, is nested too deeply, or its entities expand to more than is allowed.
    """
    root = _root(file)
    progress(0.5)
    body = root.find(_ODF_BODY)
    if body is not None:
        yield from opendocument.parse_body(body, progress)
        return
    yield from _joined(_Reader(attributes=not str(root.tag).startswith(_SVG)).blocks(root, 0))


def _root(file: BinaryIO) -> Any:
    try:
        return root_of(file)
    except Unreadable as error:
        if error.problem != "damaged":
            raise
        file.seek(0)
        return root_of(file, recover=True)


def _joined(drafts: Iterator[Draft]) -> Iterator[Draft]:
    """Join short records under the same headings, so that a block holds several."""
    waiting: list[Draft] = []
    length = 0
    for draft in drafts:
        together = draft.kind == "code" and waiting and waiting[0].headings == draft.headings
        if waiting and not (together and length + len(draft.text) <= TABLE_CHARACTERS):
            yield Draft("\n\n".join(part.text for part in waiting), waiting[0].kind, None, waiting[0].headings)
            waiting, length = [], 0
        if draft.kind == "code":
            waiting.append(draft)
            length += len(draft.text)
        else:
            yield draft
    if waiting:
        yield Draft("\n\n".join(part.text for part in waiting), "code", None, waiting[0].headings)


class _Reader:
    """A walk through a tree's elements.

    Args:
        attributes: whether records show their attributes.
    """

    def __init__(self, *, attributes: bool) -> None:
        self._attributes = attributes
        self._outline = Outline()

    def blocks(self, element: Any, depth: int) -> Iterator[Draft]:
        """Yield the blocks of an element."""
        if depth > _DEPTH:
            raise Unreadable("too_deep")
        children = [child for child in element if local_name(child)]
        if not children or _is_mixed(element, children):
            yield from self._text(element)
        elif _is_record(children):
            yield from self._record(element, children)
        else:
            lines = self._attribute_lines(element)
            yield Draft("\n".join(lines), "code", None, self._outline.path)
            for child in children:
                if local_name(child).lower() in _TITLES and len(text := _inline(child)) <= _RECORD_CHARACTERS:
                    if text:
                        yield Draft(text, "heading", None, self._outline.enter(depth, text))
                else:
                    yield from self.blocks(child, depth + 1)

    def _text(self, element: Any) -> Iterator[Draft]:
        text = _inline(element)
        if len(_TAGS.findall(text)) > 1:  # a page in a feed
            for draft in html.drafts(text.encode("utf-8", "replace")):
                yield Draft(draft.text, draft.kind, None, (*self._outline.path, *draft.headings)[:12])
            return
        lines = self._attribute_lines(element) if not text else []
        yield Draft(text or "\n".join(lines), "paragraph" if text else "code", None, self._outline.path)

    def _record(self, element: Any, children: list[Any]) -> Iterator[Draft]:
        lines = self._attribute_lines(element)
        for child in children:
            value, more = _inline(child), self._attribute_lines(child)
            name = local_name(child)
            if value:
                lines.append(f"{name}: {value}" + (f" ({', '.join(more)})" if more else ""))
            elif more:
                lines.append(f"{name}: {', '.join(more)}")
        yield Draft("\n".join(lines), "code", None, self._outline.path)

    def _attribute_lines(self, element: Any) -> list[str]:
        if not self._attributes:
            return []
        return [
            f"{etree.QName(name).localname}: {' '.join(value.split())}"
            for name, value in element.attrib.items()
            if value.strip() and len(value) <= _ATTRIBUTE_CHARACTERS and not _is_technical(name, value)
        ]


def _is_record(children: list[Any]) -> bool:
    """Return whether an element's children are short values, most of them of different names."""
    names = {local_name(child) for child in children}
    return len(names) > len(children) / 2 and all(map(_is_value, children))


def _is_value(element: Any) -> bool:
    """Return whether an element holds a short text and nothing else, nor a page as text."""
    text = element.text or ""
    return len(text) <= _RECORD_CHARACTERS and len(_TAGS.findall(text)) < 2 and not any(map(local_name, element))


def _is_technical(name: str, value: str) -> bool:
    """Return whether an attribute is for programs: of XML itself, or the place of a schema."""
    return name.startswith(("{http://www.w3.org/XML", "{http://www.w3.org/2001/XMLSchema-instance")) or (
        "schemaLocation" in name or value.startswith("urn:")
    )


def _is_mixed(element: Any, children: list[Any]) -> bool:
    """Return whether text stands beside the children, as in a paragraph with emphasis."""
    return bool((element.text or "").strip()) or any((child.tail or "").strip() for child in children)


def _inline(element: Any) -> str:
    """Return the text of an element and all in it, in one line but for marked line ends; embedded data is left out."""
    parts: list[str] = []
    for event, node in etree.iterwalk(element, events=("start", "end", "comment", "pi")):
        if event == "start":
            text = node.text or ""
            if len(text) < 500 or not _BASE64.fullmatch(text.strip()):
                parts.append(" ".join(text.split("\n")))
            if local_name(node).lower() in _BROKEN_LINES:
                parts.append("\n")
        if event != "start" and node is not element:
            parts.append((node.tail or "").replace("\n", " "))
    return "\n".join(filter(None, (" ".join(line.split()) for line in "".join(parts).split("\n"))))
