"""PDF, a page at a time: lines with size and position, joined to paragraphs; headings are recognized by size."""

from __future__ import annotations

import ctypes
import re
from base64 import b64encode
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, BinaryIO

from .base import Draft, Outline, ParseLimits, Unreadable
from .omissions import Omission

__all__ = ["MAX_PAGES", "measure", "parse", "pictures"]

MAX_PAGES = 5_000

_COMPARED = 8
"""Texts before one that PDFium compares it with; it is five there (``IsSameAsPreTextObject``)."""

_FORM_DEPTH = 15
"""Drawings within drawings that are looked into."""

_PAGE_NUMBER_CHARACTERS = 12
"""A page with no more text than its number may be a picture."""

_PICTURE_SIDE = 2_048
"""Pixels of the longer side of a page that is drawn."""

_PICTURE_SHARE = 0.2
"""Share of the page that a picture covers which may hold text."""

_DRAWN_LETTERS = 100
"""Drawings on a page without text from which they are likely letters."""

_HEADING_RATIO = 1.12
"""A line may be a heading if it is this much larger than the document's most common size."""

_HEADING_CHARACTERS = 160
_GAP_RATIO = 1.35
"""A gap of this much more than the page's usual line distance separates two paragraphs."""


@dataclass(frozen=True, slots=True)
class PdfLine:
    """One line of a page: its text, and the height and top of its first character, in points."""

    text: str
    height: float
    top: float


def parse(file: BinaryIO, _limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft | Omission]:
    """Yield the blocks of each page, and how many pages are pictures or damaged.

    Raises:
        Unreadable: the file is protected by a password, damaged, over ``MAX_PAGES`` pages, or without any text.
    """
    import pypdfium2
    from pypdfium2 import raw

    document = _document(file)
    pages = len(document)
    sizes: Counter[float] = Counter()
    outline = Outline()
    failed = picture_pages = draft_count = 0
    for number in range(pages):
        try:
            lines = list(_lines(document, number, raw))
        except pypdfium2.PdfiumError:
            failed += 1
            continue
        picture_pages += _is_picture_page(document, number, lines, raw)
        for line in lines:
            sizes[round(line.height, 1)] += len(line.text)
        body = sizes.most_common(1)[0][0] if sizes else 0.0
        for draft in _drafts(lines, body, number + 1, outline):
            draft_count += 1
            yield draft
        progress((number + 1) / pages)
    for code, count in (("picture_pages", picture_pages), ("damaged_pages", failed)):
        if count:
            yield Omission(code, count, pages)
    if not draft_count:
        raise Unreadable("damaged" if failed or not pages else "no_text", f"{failed} of {pages} pages failed")


def pictures(file: BinaryIO, _limits: ParseLimits, _progress: Callable[[float], None]) -> Iterator[Draft]:
    """Yield the pages that are pictures as JPEG files in Base64, each with its number.

    Raises:
        Unreadable: as for :func:`parse`.
    """
    import pypdfium2
    from pypdfium2 import raw

    from .pictures import jpeg

    document = _document(file)
    for number in range(len(document)):
        try:
            if not _is_picture_page(document, number, list(_lines(document, number, raw)), raw):
                continue
            page = document[number]
            try:
                scale = _PICTURE_SIDE / max(1.0, *page.get_size())
                shown = page.render(scale=scale, may_draw_forms=False).to_pil()
            finally:
                page.close()
        except pypdfium2.PdfiumError:
            continue
        yield Draft(b64encode(jpeg(shown)).decode(), "code", number + 1)


def _is_picture_page(document: Any, number: int, lines: list[PdfLine], raw: Any) -> bool:
    """Return whether a page has no more text than its number, and shows a picture."""
    characters = sum(len(line.text) for line in lines)
    return characters <= _PAGE_NUMBER_CHARACTERS and _is_picture(document, number, raw)


def _is_picture(document: Any, number: int, raw: Any) -> bool:
    """Return whether a page shows a picture, or drawings as of letters, over a good part of it."""
    page = document[number]
    try:
        width, height = page.get_size()
        shapes = 0
        for drawn in page.get_objects(filter=(raw.FPDF_PAGEOBJ_IMAGE, raw.FPDF_PAGEOBJ_PATH), max_depth=_FORM_DEPTH):
            left, bottom, right, top = drawn.get_bounds()
            if drawn.type == raw.FPDF_PAGEOBJ_IMAGE:
                if (right - left) * (top - bottom) >= _PICTURE_SHARE * width * height:
                    return True
            else:
                shapes += 1
        return shapes >= _DRAWN_LETTERS
    finally:
        page.close()


def measure(file: BinaryIO, limits: ParseLimits, _progress: Callable[[float], None]) -> Iterator[Draft]:
    """Yield one draft: the number of pages, and the most bytes that their text takes in UTF-8, however it is read.

    Raises:
        Unreadable: the file is protected by a password, damaged, over ``MAX_PAGES`` pages, or holds more text than
            ``limits`` allow.
    """
    document = _document(file)
    size = 0
    for number in range(len(document)):
        page = document[number]
        text = page.get_textpage()
        size += len(text.get_text_range().encode("utf-8", "replace")) + _left_out(page, text)
        text.close()
        page.close()
        if size > limits.text_characters:
            raise Unreadable("too_much_text", f"{size} bytes on {number + 1} pages")
    if not len(document):
        raise Unreadable("damaged", "no pages")
    yield Draft(f"{len(document)} {size}", "paragraph", None, ())


def _left_out(page: Any, text: Any) -> int:
    """Return the most bytes of the text that is drawn over the same text, which PDFium leaves out and others read.

    PDFium compares a text with the few that were drawn before it, so the longest of these is as long.
    """
    from pypdfium2 import raw

    lengths: deque[int] = deque(maxlen=_COMPARED)
    size = 0
    for drawn in page.get_objects(filter=(raw.FPDF_PAGEOBJ_TEXT,), max_depth=_FORM_DEPTH):
        units = raw.FPDFTextObj_GetText(drawn, text, None, 0) // 2 - 1
        if units > 0:
            lengths.append(units)
        else:
            size += 3 * max(lengths, default=1)  # bytes of UTF-8 for a unit of UTF-16, at most
    return size


def _document(file: BinaryIO) -> Any:
    import pypdfium2
    from pypdfium2 import raw

    try:
        document = pypdfium2.PdfDocument(file)
    except pypdfium2.PdfiumError as error:
        protected = error.err_code in {raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY}
        raise Unreadable("encrypted" if protected else "damaged", str(error)) from error
    if len(document) > MAX_PAGES:
        raise Unreadable("too_many_pages", f"{len(document)} pages")
    return document


def _lines(document: Any, number: int, raw: Any) -> Iterator[PdfLine]:
    page = document[number]
    try:
        text = page.get_textpage()
        box = raw.FS_RECTF()
        at = 0
        for line in text.get_text_range().replace("\r\n", "\n").split("\n"):
            index = raw.FPDFText_GetCharIndexFromTextIndex(text, at)
            raw.FPDFText_GetLooseCharBox(text, index, ctypes.byref(box))
            # PDFium counts in UTF-16 units, and ends lines with two characters.
            at += len(line) + sum(character > "\uffff" for character in line) + 2
            shown = line.replace("\ufffe", "").replace("\x02", "").strip()
            if shown:
                yield PdfLine(shown, box.top - box.bottom, box.top)
        text.close()
    finally:
        page.close()


def _drafts(lines: list[PdfLine], body: float, page: int, outline: Outline) -> Iterator[Draft]:
    steps = sorted(round(a.top - b.top, 1) for a, b in pairwise(lines) if a.top > b.top)
    usual_step = steps[len(steps) // 2] if steps else 0.0
    paragraph: list[PdfLine] = []
    for line in lines:
        if paragraph and _begins(paragraph, line, body, usual_step):
            yield _draft(paragraph, body, page, outline)
            paragraph = []
        paragraph.append(line)
    if paragraph:
        yield _draft(paragraph, body, page, outline)


def _begins(paragraph: list[PdfLine], line: PdfLine, body: float, usual_step: float) -> bool:
    """Return whether a line begins a new paragraph: another size, a gap above it, or a new column."""
    last = paragraph[-1]
    if abs(line.height - last.height) > 0.08 * max(line.height, last.height, 1.0):
        return True
    step = last.top - line.top
    size = max(line.height, 1.0)
    return step > max(_GAP_RATIO * (usual_step if line.height <= body * _HEADING_RATIO else size), 0.9 * size) or (
        step < -0.5 * size and last.text.endswith((".", "!", "?", ":"))
    )


_HYPHEN = re.compile(r"(?<=[^\W\d_])[-\u00ad]\n(?=[a-z\u00df-\u00ff])")


def _draft(paragraph: list[PdfLine], body: float, page: int, outline: Outline) -> Draft:
    text = "\n".join(line.text for line in paragraph)
    height = paragraph[0].height
    large = body and height > body * _HEADING_RATIO
    if large and len(text) <= _HEADING_CHARACTERS and re.search(r"[^\W\d_]", text):
        text = " ".join(text.split())
        # Larger headings have higher levels; sizes that round to the same point are one level.
        return Draft(text, "heading", page, outline.enter(-round(height, 0), text))
    return Draft(_HYPHEN.sub("", text), "paragraph", page, outline.path)
