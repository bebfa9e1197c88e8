"""HTML: the visible text, with its headings, lists and tables, without scripts, styles and navigation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO, Literal

from .base import Draft, Kind, Outline, ParseLimits, Unreadable
from .encoding import read_text
from .tables import table

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

__all__ = ["MAX_NESTING", "links", "parse", "with_end_tags"]

# ruff: noqa: SIM905 - names in a row read better than a list of a line each
_HIDDEN = frozenset(
    "script style noscript template head svg math iframe object canvas nav form button select textarea dialog".split()
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(
    "address article aside blockquote body caption center dd details div dl dt fieldset figcaption figure footer "
    "header hr html li main ol p pre section summary table tbody td tfoot th thead tr ul".split()
)
_SPACES = re.compile(r"\s+")
_INVISIBLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)

_CONTAINER = re.compile(r"<(/?)(?:div|span|section|article|table|ul|ol|dl|blockquote|center)\b", re.IGNORECASE)
MAX_NESTING = 5_000
"""The most levels of nested containers; building the tree takes time with the square of the depth."""

_MAIN_CHARACTERS = 200
_SELF_CLOSED = re.compile(
    rb"<(?!(?:area|base|br|col|embed|hr|img|input|link|meta|param|source|track|wbr)\b)([A-Za-z][A-Za-z0-9:-]*)([^<>]{0,2000}?)/>",
    re.IGNORECASE,
)
_LAYOUT = "table, h1, h2, h3, h4, h5, h6, ul, ol, pre"
_MAX_HEADING = 500

Step = tuple[Literal["open", "close", "text", "whole"], "LexborNode"]


def parse(file: BinaryIO, _limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft]:
    """Yield blocks of a page; the whole page is in memory, within the child's limit.

    Raises:
        Unreadable: the page is nested deeper than ``MAX_NESTING``, or too large for the memory.
    """
    tree = _tree(file, progress)
    if tree.root is not None:
        # Trust a page that marks its main content.
        main = tree.css("main") or tree.css("article")
        yield from _blocks(main[0] if len(main) == 1 and len(main[0].text()) > _MAIN_CHARACTERS else tree.root)


def links(file: BinaryIO, _limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft]:
    """Yield the addresses that a page links to, unchanged, one for each draft; the page's base address comes first."""
    tree = _tree(file, progress)
    base = tree.css_first("base[href]")
    yield Draft((base.attributes.get("href") if base else None) or "#")
    for node in tree.css("a[href], area[href]"):
        if "nofollow" not in (node.attributes.get("rel") or "").lower().split():
            yield Draft(node.attributes.get("href") or "#")


def with_end_tags(source: bytes) -> bytes:
    """Return XHTML with an end tag for each element that ends itself, as a parser of HTML needs it."""
    return _SELF_CLOSED.sub(rb"<\1\2></\1>", source)


def _tree(file: BinaryIO, progress: Callable[[float], None]) -> LexborHTMLParser:
    from selectolax.lexbor import LexborHTMLParser, SelectolaxError

    source = read_text(file, progress, html=True)
    depth = 0
    for tag in _CONTAINER.finditer(source):
        depth = max(0, depth + (-1 if tag[1] else 1))
        if depth > MAX_NESTING:
            raise Unreadable("too_deep")
    try:
        return LexborHTMLParser(source)
    except SelectolaxError as error:  # it parses any HTML, so it can only have run out of memory
        raise Unreadable("too_much_memory", str(error)) from error


def _blocks(root: LexborNode) -> Iterator[Draft]:
    """Yield a tree's drafts, gathering text until a tag ends its block."""
    outline = Outline()
    parts: list[str] = []
    lists = 0
    for step, node in _steps(root, _is_whole):
        tag = node.tag or ""
        if step == "text":
            parts.append(_SPACES.sub(" ", node.text_content or ""))
        elif tag == "br":
            parts.append("\n" if step == "open" else "")
        elif tag in {"ul", "ol"}:
            if lists == 0 or (lists == 1 and step == "close"):
                yield from _draft(parts, "list" if step == "close" else "paragraph", outline)
            lists = max(0, lists + (1 if step == "open" else -1))
        elif lists and step != "whole":
            if tag in _BLOCKS:
                parts.append("\n- " if tag == "li" and step == "open" else "\n")
        elif tag in _BLOCKS or step == "whole":
            yield from _draft(parts, "list" if lists else "paragraph", outline)
            if step == "whole":
                yield from _element_drafts(node, tag, outline)
    yield from _draft(parts, "paragraph", outline)


def _draft(parts: list[str], kind: Kind, outline: Outline) -> Iterator[Draft]:
    """Yield the gathered text, without the spaces that a browser would not show."""
    lines = (" ".join(line.split()) for line in "".join(parts).split("\n"))
    parts.clear()
    text = "\n".join(line for line in lines if line not in {"", "-"})
    if text:
        yield Draft(text, kind, None, outline.path)


def _is_whole(node: LexborNode) -> bool:
    """Return whether an element is one block or table, whatever it contains; layout tables are not."""
    if node.tag == "table":
        return not any(part.css_first(_LAYOUT) for part in node.iter())
    return node.tag in _HEADINGS or node.tag == "pre"


def _element_drafts(node: LexborNode, tag: str, outline: Outline) -> Iterator[Draft]:
    if tag == "table":
        rows = ([_text(cell) for cell in row.css("th, td")] for row in node.css("tr"))
        caption = node.css_first("caption")
        if caption is not None:
            yield Draft(" ".join(_text(caption).split()), "paragraph", None, outline.path)
        yield from table(rows, None, outline.path)
        return
    text = _text(node)
    if tag == "pre":
        yield Draft(text.strip("\n"), "code", None, outline.path)
        return
    text = " ".join(text.split())
    heading = len(text) <= _MAX_HEADING  # a longer one is a page that never closed its heading
    if text and heading:
        outline.enter(_HEADINGS[tag], text)
    yield Draft(text, "heading" if heading else "paragraph", None, outline.path)


def _text(root: LexborNode) -> str:
    """Return the visible text of an element, with a line for each block in it."""
    parts = []
    for step, node in _steps(root, lambda _: False):
        if step == "text":
            parts.append(node.text_content or "")
        elif step == "open" and (node.tag == "br" or (node.tag in _BLOCKS and node.mem_id != root.mem_id)):
            parts.append("\n")
    return "".join(parts)


def _steps(root: LexborNode, is_whole: Callable[[LexborNode], bool]) -> Iterator[Step]:
    """Yield a tree in reading order, without recursion, since pages may nest deeply. The root itself is opened."""
    stack: list[LexborNode] = []
    node: LexborNode | None = root
    while node is not None:
        first_child = None
        if node.is_text_node:
            yield "text", node
        elif _is_visible(node):
            if stack and is_whole(node):
                yield "whole", node
            else:
                yield "open", node
                first_child = node.child
                if first_child is None:
                    yield "close", node
        if first_child is not None:
            stack.append(node)
            node = first_child
            continue
        node = node.next if stack else None
        while node is None and stack:
            node = stack.pop()
            yield "close", node
            node = node.next if stack else None


def _is_visible(node: LexborNode) -> bool:
    if not node.is_element_node or node.tag in _HIDDEN:
        return False
    attributes = node.attributes
    return not (
        "hidden" in attributes
        or attributes.get("aria-hidden") == "true"
        or _INVISIBLE.search(attributes.get("style") or "")
    )
