"""DOCX, PPTX and XLSX."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, time
from typing import Any, BinaryIO

from .base import Draft, ParseLimits
from .charts import chart_drafts, diagram_draft
from .numerals import numeral
from .omissions import Omission
from .ooxml import normalized
from .tables import table

__all__ = ["parse_docx", "parse_pptx", "parse_xlsx"]

_GROUP_DEPTH = 20
_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_DIAGRAM = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}relIds"
_PICTURE_SHARE = 0.2
"""Share of a slide that a picture covers which may hold text."""

_FORMULA_WITHOUT_VALUE = re.compile(
    rb"<(?:\w+:)?f\b[^<>]*(?:/>|>[^<]*</(?:\w+:)?f>)\s*(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v>\s*</(?:\w+:)?v>)?\s*</(?:\w+:)?c>"
)
_READ = 1 << 20
_OVERLAP = 1 << 14


def parse_docx(file: BinaryIO, limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft | Omission]:
    """Yield the content of a Word document (:mod:`.word`)."""
    import docx

    from .word import document_drafts

    for item in document_drafts(docx.Document(normalized(file, limits))):
        if isinstance(item, float):
            progress(item)
        else:
            yield item


def parse_pptx(file: BinaryIO, limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft | Omission]:
    """Yield the slides: the title as a heading, the rest of the slide from top to bottom, then the speaker's notes."""
    import pptx

    deck = pptx.Presentation(normalized(file, limits))
    slides = deck.slides
    total = max(1, len(slides))
    area = (deck.slide_width or 0) * (deck.slide_height or 0)
    pictures = 0
    for number, slide in enumerate(slides, start=1):
        title = slide.shapes.title
        heading = " ".join(title.text_frame.text.split()) if title is not None else ""
        path = (heading[:300],) if heading else ()
        if heading:
            yield Draft(heading, "heading", number, path)
        drafts = [
            draft
            for shape in _shapes(slide.shapes)
            if title is None or shape.shape_id != title.shape_id
            for draft in _shape_drafts(shape, number, path)
        ]
        yield from drafts
        if not any(draft.text.strip() for draft in drafts):
            pictures += any(_is_picture(shape, area) for shape in _shapes(slide.shapes))
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            yield Draft(slide.notes_slide.notes_text_frame.text.replace("\v", "\n"), "paragraph", number, path)
        progress(number / total)
    if pictures:
        yield Omission("picture_slides", pictures, len(slides))


def _shape_drafts(shape: Any, number: int, path: tuple[str, ...]) -> Iterator[Draft]:
    """Yield what a shape says: text, a table, a chart's values, a diagram's texts."""
    if shape.has_text_frame:
        lines = _lines(shape.text_frame.paragraphs)
        yield Draft("\n".join(lines), "list" if len(lines) > 1 else "paragraph", number, path)
    elif getattr(shape, "has_table", False):
        rows = shape.table.rows
        yield from table(_pptx_rows(rows), number, path, 1 if shape.table.first_row else None)
    elif getattr(shape, "has_chart", False):
        yield from chart_drafts(_xml(shape.chart_part), number, path)
    elif (diagram := next(shape.element.iter(_DIAGRAM), None)) is not None:
        part = shape.part.related_part(diagram.get(f"{_R}dm"))
        yield diagram_draft(_xml(part), number, path)


def _lines(paragraphs: Iterable[Any]) -> list[str]:
    """Return the lines of a text frame; automatic numbers are counted as PowerPoint shows them."""
    lines = []
    counts: dict[int, int] = {}
    for paragraph in paragraphs:
        text = paragraph.text.replace("\v", "\n").strip()
        automatic = paragraph._p.find(f"{_A}pPr/{_A}buAutoNum")
        level = paragraph.level
        if not text:
            continue
        for deeper in [other for other in counts if other > level or (other == level and automatic is None)]:
            del counts[deeper]
        if automatic is not None:
            start = automatic.get("startAt") or "1"
            counts[level] = counts[level] + 1 if level in counts else int(start) if start.isdecimal() else 1
            text = f"{'  ' * level}{_automatic(counts[level], automatic.get('type') or '')} {text}"
        lines.append(text)
    return lines


def _automatic(number: int, scheme: str) -> str:
    """Return a number in one of PowerPoint's schemes, such as "alphaLcParenR"."""
    forms = {"alphaLc": "a", "alphaUc": "A", "romanLc": "i", "romanUc": "I"}
    text = numeral(number, next((form for name, form in forms.items() if scheme.startswith(name)), "1"))
    if scheme.endswith("ParenBoth"):
        return f"({text})"
    return f"{text})" if scheme.endswith("ParenR") else text if scheme.endswith("Plain") else f"{text}."


def _pptx_rows(rows: Iterable[Any]) -> Iterator[list[str]]:
    """Yield a table's rows; a cell that is merged with those below it is in each of them."""
    above: dict[int, tuple[int, str]] = {}
    for row in rows:
        texts = []
        for at, cell in enumerate(row.cells):
            text = cell.text
            if cell.is_merge_origin and cell.span_height > 1:
                above[at] = (cell.span_height - 1, text)
            elif cell.is_spanned and at in above:
                left, text = above.pop(at)
                if left > 1:
                    above[at] = (left - 1, text)
            texts.append(text)
        yield texts


def _is_picture(shape: Any, area: int) -> bool:
    covered = (shape.width or 0) * (shape.height or 0)
    return next(shape.element.iter(f"{_A}blip"), None) is not None and covered >= _PICTURE_SHARE * area


def _xml(part: Any) -> Any:
    """Return the root of a part's XML."""
    from pptx.oxml import parse_xml

    return parse_xml(part.blob)


def _shapes(shapes: Iterable[Any], depth: int = 0) -> Iterator[Any]:
    placed = sorted(shapes, key=lambda shape: (shape.top or 0, shape.left or 0))
    for shape in placed:
        if hasattr(shape, "shapes") and depth < _GROUP_DEPTH:
            yield from _shapes(shape.shapes, depth + 1)
        else:
            yield shape


def parse_xlsx(file: BinaryIO, limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft | Omission]:
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
    formulas = _formulas_without_values(file)
    if formulas:
        yield Omission("formulas_without_values", formulas)


def _cell(value: Any) -> str:
    """Return a value as spreadsheets show it, with at most 15 digits and no time of midnight."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float):
        return f"{value:.15g}" if abs(value) < _EXACT else str(value)
    if isinstance(value, datetime) and value.time() == time():
        return str(value.date())
    return str(value)


_EXACT = 1e15
"""From here on, floating point has no digit for each whole number."""


def _formulas_without_values(file: BinaryIO) -> int:
    """Return the number of cells whose formula was never computed, as in files that programs write."""
    count = 0
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if not _SHEET.search(name):
                continue
            with archive.open(name) as sheet:
                tail = b""
                while part := sheet.read(_READ):
                    text = tail + part
                    matches = list(_FORMULA_WITHOUT_VALUE.finditer(text))
                    count += len(matches)
                    tail = text[max(matches[-1].end() if matches else 0, len(text) - _OVERLAP) :]
    return count


_SHEET = re.compile(r"worksheets/[^/]+\.xml$")
