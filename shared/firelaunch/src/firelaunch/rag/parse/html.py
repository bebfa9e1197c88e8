"""HTML: the text that readers see or can open, with its headings, lists and tables, without scripts and navigation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO, Final, Literal

from .base import Draft, Kind, Outline, ParseLimits, Unreadable
from .encoding import read_text
from .numerals import numeral
from .omissions import Omission
from .tables import table

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

__all__ = ["MAX_NESTING", "drafts", "links", "parse", "with_end_tags"]

# ruff: noqa: SIM905 - names in a row read better than a list of a line each
_HIDDEN = frozenset(
    "script style noscript template head svg math iframe object canvas nav select textarea dialog".split()
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(
    "address article aside blockquote body caption center dd details div dl dt fieldset figcaption figure footer form "
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
_LAYOUT = "table, h1, h2, h3, h4, h5, h6"
_LAYOUT_UNLESS_HEADED = "ul, ol, pre"
"""What cells of data hold only in a table that names its columns."""

_HEADING_TAGS = "h1, h2, h3, h4, h5, h6"
_OPENERS = f"{_HEADING_TAGS}, dt, summary, button, legend, [aria-expanded]"
_TARGETS = ("aria-controls", "data-bs-target", "data-target", "href")
_COLLAPSED = re.compile(r"accordion|collaps|answer|faq|expand|toggle|tab-?pane|tab-?panel|spoiler", re.IGNORECASE)
_NO_CONTENT = re.compile(r"\b(?:nav|menu|modal|popup|cookie|consent|tooltip|dropdown|overlay|lightbox|sr-only|search)")
_QUESTION = ("?", "\uff1f", "\u061f", "\u037e")
_LEFT_OUT_CHARACTERS = 200
"""Hidden text that is shorter is not worth a warning."""

_MOST_COLUMNS = 500
_INDENT: Final = "\x1f"
"""A level of a nested list, until spaces are collapsed; it counts as a space, so it is in no text."""
_MAX_HEADING = 500

Step = tuple[Literal["open", "close", "text", "whole"], "LexborNode"]


def parse(file: BinaryIO, _limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft | Omission]:
    """Yield blocks of a page, and how many of its parts are hidden; the whole page is in memory.

    Raises:
        Unreadable: the page is nested deeper than ``MAX_NESTING``, or too large for the memory.
    """
    tree = _tree(file, progress)
    page = _Page(tree)
    yield from _page_drafts(tree, page)
    if page.left_out:
        yield Omission("hidden_text", len(page.left_out))


def drafts(source: bytes) -> Iterator[Draft]:
    """Yield blocks of a page that is part of another file.

    Raises:
        Unreadable: the page is nested deeper than ``MAX_NESTING``, or too large for the memory.
    """
    tree = _tree(BytesIO(source), lambda _: None)
    return _page_drafts(tree, _Page(tree))


def _page_drafts(tree: LexborHTMLParser, page: _Page) -> Iterator[Draft]:
    if tree.root is not None:
        # Trust a page that marks its main content.
        main = tree.css("main") or tree.css("article")
        root = main[0] if len(main) == 1 and len(main[0].text()) > _MAIN_CHARACTERS else tree.root
        yield from _blocks(root, page)


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


class _Page:
    """Decides what of a page is read: elements that are shown, and those that a reader opens by a click.

    ``left_out`` has the hidden elements with much text that were not read.
    """

    def __init__(self, tree: LexborHTMLParser) -> None:
        self.left_out: set[int] = set()
        self._opened = {
            (node.attributes.get(name) or "").removeprefix("#")
            for name in _TARGETS[:-1]
            for node in tree.css(f"[{name}]")
        }
        self._opened |= {
            (node.attributes.get("href") or "").removeprefix("#") for node in tree.css('[data-toggle][href^="#"]')
        }

        self._role_tables = {node.mem_id for node in tree.css('[role="table"], [role="grid"]')}

    def is_whole(self, node: LexborNode) -> bool:
        """Return whether an element is one block or table, whatever it contains; layout tables are not."""
        if node.tag == "table":
            headed = node.css_first("th, thead") is not None
            layout = _LAYOUT if headed else f"{_LAYOUT}, {_LAYOUT_UNLESS_HEADED}"
            return not any(part.css_first(layout) for part in node.iter())
        return node.tag in _HEADINGS or node.tag == "pre" or node.mem_id in self._role_tables

    def is_shown(self, node: LexborNode) -> bool:
        """Return whether an element is read, and remember it if it is left out."""
        if not node.is_element_node or node.tag in _HIDDEN:
            return False
        attributes = node.attributes
        if node.tag == "button":
            return _opens_something(node)
        if not (
            "hidden" in attributes
            or attributes.get("aria-hidden") == "true"
            or _INVISIBLE.search(attributes.get("style") or "")
        ):
            return True
        text = node.text(strip=True)
        if text and self._is_collapsed(node, len(text)):
            return True
        if len(text) > _LEFT_OUT_CHARACTERS and not _is_menu(node, len(text)):
            self.left_out.add(node.mem_id)
        return False

    def _is_collapsed(self, node: LexborNode, characters: int) -> bool:
        """Return whether a hidden element is one that a reader can open, such as the answer below a question."""
        attributes = node.attributes
        names = f"{attributes.get('id') or ''} {attributes.get('class') or ''}"
        if _NO_CONTENT.search(names.lower()) or _is_menu(node, characters):
            return False
        if attributes.get("hidden") == "until-found" or attributes.get("role") == "tabpanel" or node.tag == "dd":
            return True
        return (
            (attributes.get("id") or "") in self._opened - {""} or bool(_COLLAPSED.search(names)) or _has_opener(node)
        )


def _has_opener(node: LexborNode) -> bool:
    """Return whether a heading, a button or a question stands directly before a hidden element."""
    before = node.prev
    while before is not None and not before.is_element_node:
        if before.is_text_node and (before.text_content or "").strip():
            return (before.text_content or "").rstrip().endswith(_QUESTION)
        before = before.prev
    if before is None:
        return False
    if before.css_first(_OPENERS) is not None:  # also the element itself
        return True
    return before.text().rstrip().endswith(_QUESTION)


def _opens_something(button: LexborNode) -> bool:
    """Return whether a button's text is the title of what it opens, rather than a command such as "Send"."""
    attributes = button.attributes
    if (
        "aria-expanded" in attributes
        or attributes.get("data-bs-toggle") == "collapse"
        or attributes.get("role") == "tab"
    ):
        return True
    parent = button.parent
    return parent is not None and (parent.tag in _HEADINGS or parent.tag in {"dt", "summary"})


def _is_menu(node: LexborNode, characters: int) -> bool:
    """Return whether most of an element's text is links."""
    return sum(len(link.text(strip=True)) for link in node.css("a")) * 2 > characters


class _List:
    """A list that is being read: the marks of its items, indented where the list or one around it is numbered.

    Args:
        outer: the lists that it is in, outermost first.
    """

    def __init__(self, node: LexborNode, outer: list[_List]) -> None:
        attributes = node.attributes
        style = attributes.get("style") or ""
        self._numbered = node.tag == "ol" and "none" not in style
        self._indent = _INDENT * len(outer) if self._numbered or any(each._numbered for each in outer) else ""
        self._form = attributes.get("type") or _STYLES.get(_value(style, "list-style"), "1")
        self._step = 1
        first = 1
        if self._numbered and "reversed" in attributes:
            self._step, first = -1, sum(child.tag == "li" for child in node.iter())
        self._next = _integer(attributes.get("start"), first)

    def mark(self, item: LexborNode) -> _Mark:
        """Return the mark before the next item."""
        if not self._numbered:
            return _Mark(f"\n{self._indent}- ")
        number = _integer(item.attributes.get("value"), self._next)
        self._next = number + self._step
        return _Mark(f"\n{self._indent}{numeral(number, self._form)}. ")


class _Mark(str):
    """The mark before an item of a list, after which no new line begins."""

    __slots__ = ()


_STYLES = {"lower-alpha": "a", "lower-latin": "a", "upper-alpha": "A", "upper-latin": "A", "lower-roman": "i"}
_STYLES["upper-roman"] = "I"
_INTEGER = re.compile(r"\s*([+-]?\d{1,9})")


def _value(style: str, name: str) -> str:
    found = re.search(rf"{name}(?:-type)?\s*:\s*([\w-]+)", style)
    return found[1] if found else ""


def _integer(text: str | None, default: int) -> int:
    found = _INTEGER.match(text or "")
    return int(found[1]) if found else default


def _blocks(root: LexborNode, page: _Page) -> Iterator[Draft]:
    """Yield a tree's drafts, gathering text until a tag ends its block."""
    outline = Outline()
    parts: list[str] = []
    lists: list[_List] = []
    for step, node in _steps(root, page.is_whole, page.is_shown):
        tag = node.tag or ""
        if step == "text":
            parts.append(_SPACES.sub(" ", node.text_content or ""))
        elif tag == "br":
            parts.append("\n" if step == "open" else "")
        elif tag in {"ul", "ol"}:
            if not lists or (len(lists) == 1 and step == "close"):
                yield from _draft(parts, "list" if step == "close" else "paragraph", outline)
            _count_list(lists, step, node)
        elif lists and step != "whole":
            _item_part(parts, lists[-1], step, node)
        elif tag in _BLOCKS or step == "whole":
            yield from _draft(parts, "list" if lists else "paragraph", outline)
            if step == "whole":
                yield from _element_drafts(node, tag, outline, page)
    yield from _draft(parts, "paragraph", outline)


def _count_list(lists: list[_List], step: str, node: LexborNode) -> None:
    """Note that a list begins or ends."""
    if step == "open":
        lists.append(_List(node, lists))
    elif lists:
        lists.pop()


def _item_part(parts: list[str], innermost: _List, step: str, node: LexborNode) -> None:
    """Begin the line of a list's item, or a further line of it."""
    if node.tag == "li" and step == "open":
        parts.append(innermost.mark(node))
    elif node.tag in _BLOCKS:
        _new_line(parts)


def _new_line(parts: list[str]) -> None:
    """Begin a new line, except directly after the mark of a list's item."""
    while parts and not isinstance(parts[-1], _Mark) and not parts[-1].strip(" "):
        parts.pop()
    if not parts or not isinstance(parts[-1], _Mark):
        parts.append("\n")


def _draft(parts: list[str], kind: Kind, outline: Outline) -> Iterator[Draft]:
    """Yield the gathered text, without the spaces that a browser would not show."""
    lines = []
    for line in "".join(parts).split("\n"):
        depth = len(line) - len(line.lstrip(_INDENT))
        text = " ".join(line.split())
        if text not in {"", "-"}:
            lines.append("  " * depth + text)
    parts.clear()
    text = "\n".join(lines)
    if text:
        yield Draft(text, kind, None, outline.path)


def _element_drafts(node: LexborNode, tag: str, outline: Outline, page: _Page) -> Iterator[Draft]:
    if tag == "table":
        caption = node.css_first("caption")
        if caption is not None:
            yield Draft(" ".join(_text(caption, page).split()), "paragraph", None, outline.path)
        rows = node.css("tr")
        yield from table(_grid(rows, page), None, outline.path, _header_rows(rows))
        return
    if tag not in _HEADINGS and tag != "pre":
        roles = ", ".join(f'[role="{role}"]' for role in ("cell", "gridcell", "columnheader", "rowheader"))
        cells = ([_text(cell, page) for cell in row.css(roles)] for row in node.css('[role="row"]'))
        yield from table(cells, None, outline.path)
        return
    text = _text(node, page)
    if tag == "pre":
        yield Draft(text.strip("\n"), "code", None, outline.path)
        return
    text = " ".join(text.split())
    heading = len(text) <= _MAX_HEADING  # a longer one is a page that never closed its heading
    if text and heading:
        outline.enter(_HEADINGS[tag], text)
    yield Draft(text, "heading" if heading else "paragraph", None, outline.path)


def _grid(rows: Iterable[LexborNode], page: _Page) -> Iterator[list[str]]:
    """Yield a table's cells by row and column; a cell is in each row that it spans, and in the first of its columns."""
    below: dict[int, tuple[int, str]] = {}
    for row in rows:
        cells: list[str] = []
        for cell in row.css("th, td"):
            _take(below, cells)
            text = _text(cell, page)
            width = min(max(1, _integer(cell.attributes.get("colspan"), 1)), _MOST_COLUMNS)
            more_rows = _integer(cell.attributes.get("rowspan"), 1) - 1
            for at in range(width):
                if more_rows > 0:
                    below[len(cells)] = (more_rows, text if at == 0 else "")
                cells.append(text if at == 0 else "")
            if len(cells) > _MOST_COLUMNS:
                break
        _take(below, cells)
        yield cells


def _take(below: dict[int, tuple[int, str]], cells: list[str]) -> None:
    """Add the cells of rows above that reach down to this place of the row."""
    while len(cells) in below:
        rows, text = below.pop(len(cells))
        if rows > 1:
            below[len(cells)] = (rows - 1, text)
        cells.append(text)


def _header_rows(rows: list[LexborNode]) -> int | None:
    """Return how many rows a table says are its header; None if it does not say."""
    count = 0
    for row in rows:
        cells = row.css("th, td")
        if not any(cell.text(strip=True) for cell in cells):
            continue
        parent = row.parent
        if not (all(cell.tag == "th" for cell in cells) or (parent is not None and parent.tag == "thead")):
            break
        count += 1
    return count if count or any(row.css_first("th") is not None for row in rows) else None


def _text(root: LexborNode, page: _Page) -> str:
    """Return the visible text of an element, with a line for each block in it."""
    parts = []
    for step, node in _steps(root, lambda _: False, page.is_shown):
        if step == "text":
            parts.append(node.text_content or "")
        elif step == "open" and (node.tag == "br" or (node.tag in _BLOCKS and node.mem_id != root.mem_id)):
            parts.append("\n")
    return "".join(parts)


def _steps(
    root: LexborNode, is_whole: Callable[[LexborNode], bool], is_shown: Callable[[LexborNode], bool]
) -> Iterator[Step]:
    """Yield a tree in reading order, without recursion, since pages may nest deeply. The root itself is opened."""
    stack: list[LexborNode] = []
    node: LexborNode | None = root
    while node is not None:
        first_child = None
        if node.is_text_node:
            yield "text", node
        elif is_shown(node):
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
