"""DOCX, PPTX and XLSX."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from .base import Draft, Kind, Outline, ParseLimits
from .ooxml import normalized
from .tables import table

__all__ = ["parse_docx", "parse_pptx", "parse_xlsx"]

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_HEADING = re.compile(r"heading (\d)", re.IGNORECASE)
_GROUP_DEPTH = 20


def parse_docx(file: BinaryIO, limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft]:
    """Yield paragraphs, lists and tables of a Word document's body, including text inserted as tracked changes."""
    import docx

    document = docx.Document(normalized(file, limits))
    styles = {style.style_id: style.name or "" for style in document.styles}
    body = document.element.body
    total = max(1, len(body))
    outline = Outline()
    for at, element in enumerate(body):
        for part in _body_parts(element):
            if part.tag == f"{_W}tbl":
                rows = ([_docx_text(cell) for cell in row.iter(f"{_W}tc")] for row in part.iter(f"{_W}tr"))
                yield from table(rows, None, outline.path)
            else:
                yield from _paragraph(part, styles, outline)
        progress((at + 1) / total)


def _body_parts(element: Any, depth: int = 0) -> Iterator[Any]:
    """Yield paragraphs and tables, including those in content controls."""
    if element.tag in {f"{_W}p", f"{_W}tbl"}:
        yield element
    elif element.tag in {f"{_W}sdt", f"{_W}sdtContent"} and depth < _GROUP_DEPTH:
        for child in element:
            yield from _body_parts(child, depth + 1)


def _paragraph(element: Any, styles: dict[str, str], outline: Outline) -> Iterator[Draft]:
    text = _docx_text(element)
    if not text.strip():
        return
    style = styles.get(element.style or "", "")
    level = _HEADING.match(style)
    kind: Kind = "paragraph"
    gap = 2
    if level or style.lower() == "title":
        outline.enter(int(level[1]) if level else 0, text)
        kind = "heading"
    elif style.lower().startswith("list") or element.find(f"{_W}pPr/{_W}numPr") is not None:
        kind, text, gap = "list", f"- {text}", 1
    yield Draft(text, kind, None, outline.path, gap)


def _docx_text(element: Any) -> str:
    """Return an element's text with all changes accepted; text that is repeated for old readers is taken once."""
    parts = []
    skipped = set()
    for node in element.iter(f"{_W}t", f"{_W}tab", f"{_W}br", f"{_W}cr", f"{_W}p", _FALLBACK):
        if node.tag == _FALLBACK:
            skipped.update(node.iter(f"{_W}t"))
        elif node.tag == f"{_W}t":
            parts.append("" if node in skipped else node.text or "")
        elif node.tag == f"{_W}tab":
            parts.append("\t" if node.getparent().tag != f"{_W}tabs" else "")
        else:
            parts.append("\n")
    return "".join(parts).strip("\n")


def parse_pptx(file: BinaryIO, limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft]:
    """Yield the slides: the title as a heading, the rest of the slide from top to bottom, then the speaker's notes."""
    import pptx

    slides = pptx.Presentation(normalized(file, limits)).slides
    total = max(1, len(slides))
    for number, slide in enumerate(slides, start=1):
        title = slide.shapes.title
        heading = " ".join(title.text_frame.text.split()) if title is not None else ""
        path = (heading[:300],) if heading else ()
        if heading:
            yield Draft(heading, "heading", number, path)
        for shape in _shapes(slide.shapes):
            if title is not None and shape.shape_id == title.shape_id:
                continue
            if shape.has_text_frame:
                lines = [paragraph.text.replace("\v", "\n").strip() for paragraph in shape.text_frame.paragraphs]
                lines = [line for line in lines if line]
                yield Draft("\n".join(lines), "list" if len(lines) > 1 else "paragraph", number, path)
            elif getattr(shape, "has_table", False):
                yield from table(([cell.text for cell in row.cells] for row in shape.table.rows), number, path)
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            yield Draft(slide.notes_slide.notes_text_frame.text.replace("\v", "\n"), "paragraph", number, path)
        progress(number / total)


def _shapes(shapes: Iterable[Any], depth: int = 0) -> Iterator[Any]:
    placed = sorted(shapes, key=lambda shape: (shape.top or 0, shape.left or 0))
    for shape in placed:
        if hasattr(shape, "shapes") and depth < _GROUP_DEPTH:
            yield from _shapes(shape.shapes, depth + 1)
        else:
            yield shape


def parse_xlsx(file: BinaryIO, limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft]:
    """Yield sheets as tables under their names, read row by row; formulas as their saved values."""
    import openpyxl

    book = openpyxl.load_workbook(normalized(file, limits), read_only=True, data_only=True, keep_links=False)
    sheets = book.worksheets
    for number, sheet in enumerate(sheets, start=1):
        sheet.reset_dimensions()  # don't trust the size that the file declares
        yield Draft(sheet.title, "heading", number, (sheet.title,))
        rows = ([_cell(value) for value in row] for row in sheet.iter_rows(values_only=True))
        yield from table(rows, number, (sheet.title,))
        progress(number / len(sheets))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
