"""PDF, a page at a time: lines with size and position, joined to paragraphs; headings are recognized by size.

Tables are recognized by where their words stand (:mod:`.pdf_layout`), and the values of form fields follow their page's
text (:mod:`.pdf_forms`).
"""

from __future__ import annotations

import ctypes
import math
import re
from base64 import b64encode
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import Any, BinaryIO

from .base import Draft, Outline, ParseLimits, Unreadable
from .omissions import Omission
from .pdf_forms import FormFields
from .pdf_layout import PdfLine, PdfTable, PdfWord, find_tables
from .right_to_left import has_right_to_left, line_in_reading_order, visual_words
from .tables import header_of, table

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

_SAME_LINE = 0.1
"""Difference of baselines within a line, in sizes of the type."""

_HEADING_RATIO = 1.12
"""A line may be a heading if it is this much larger than the document's most common size."""

_HEADING_CHARACTERS = 160
_GAP_RATIO = 1.35
"""A gap of this much more than the page's usual line distance separates two paragraphs."""


def parse(file: BinaryIO, _limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft | Omission]:
    """Yield the blocks of each page, and how many pages are pictures or damaged.

    Raises:
        Unreadable: the file is protected by a password, damaged, over ``MAX_PAGES`` pages, or without any text.
    """
    import pypdfium2
    from pypdfium2 import raw

    document = _document(file)
    pages = len(document)
    fields = FormFields(document)
    sizes = _sizes_of_some(document, raw)
    writer = _Writer()
    failed = picture_pages = draft_count = 0
    for number in range(pages):
        try:
            with closing(document[number]) as page:
                lines = list(_lines(page, raw))
                values = list(fields.of_page(page))
                picture_pages += not values and _is_picture_page(page, lines, raw)
        except pypdfium2.PdfiumError:
            failed += 1
            continue
        _count_sizes(lines, sizes)
        body = sizes.most_common(1)[0][0] if sizes else 0.0
        for draft in [*writer.drafts(lines, body, number + 1), *writer.fields(values, number + 1)]:
            draft_count += 1
            yield draft
        progress((number + 1) / pages)
    omissions = {"picture_pages": picture_pages, "damaged_pages": failed, "dynamic_form": int(fields.is_dynamic)}
    for code, count in omissions.items():
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
            with closing(document[number]) as page:
                if not _is_picture_page(page, list(_lines(page, raw)), raw):
                    continue
                scale = _PICTURE_SIDE / max(1.0, *page.get_size())
                shown = page.render(scale=scale, may_draw_forms=False).to_pil()
        except pypdfium2.PdfiumError:
            continue
        yield Draft(b64encode(jpeg(shown)).decode(), "code", number + 1)


def _is_picture_page(page: Any, lines: list[PdfLine], raw: Any) -> bool:
    """Return whether a page has no more text than its number, and shows a picture."""
    return sum(len(line.text) for line in lines) <= _PAGE_NUMBER_CHARACTERS and _is_picture(page, raw)


def _count_sizes(lines: list[PdfLine], sizes: Counter[float]) -> None:
    for line in lines:
        sizes[round(line.size, 1)] += len(line.text)


def _sizes_of_some(document: Any, raw: Any) -> Counter[float]:
    """Return how many characters of each size a few pages have: a title page alone would not tell the usual size."""
    import pypdfium2

    sizes: Counter[float] = Counter()
    pages = len(document)
    for number in sorted({pages // 4, pages // 2, pages * 3 // 4} - {0}) if pages > 1 else ():
        with suppress(pypdfium2.PdfiumError), closing(document[number]) as page:
            _count_sizes(list(_lines(page, raw)), sizes)
    return sizes


def _is_picture(page: Any, raw: Any) -> bool:
    """Return whether a page shows a picture, or drawings as of letters, over a good part of it."""
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


def _lines(page: Any, raw: Any) -> Iterator[PdfLine]:
    with closing(page.get_textpage()) as text:
        characters = _Characters(text, raw)
        drawn = []
        at = 0
        for text_line in text.get_text_range().replace("\r\n", "\n").split("\n"):
            if _shown(text_line):
                drawn.append(_DrawnLine(characters, text_line, at))
            # PDFium counts in UTF-16 units, and ends lines with two characters.
            at += _units(text_line) + 2
        widths = [line.width for line in drawn if len(line.text) >= _LONG_LINE]
        usual_width = min(median(widths), _WIDE) if widths else 0.0
        before: PdfLine | None = None
        for line in drawn:
            after = line.with_words(needed=line.width > _STRETCHED * usual_width)
            if before is not None and _is_one_line(before, after):
                after = replace(before, words=before.words + after.words)
            elif before is not None:
                yield _in_reading_order(before)
            before = after
        if before is not None:
            yield _in_reading_order(before)


def _is_one_line(before: PdfLine, after: PdfLine) -> bool:
    """Return whether two texts are parts of one line that is read from the right, which PDFium takes apart."""
    same = abs(before.baseline - after.baseline) < _SAME_LINE * before.size
    return same and has_right_to_left(before.text) and has_right_to_left(after.text)


def _in_reading_order(line: PdfLine) -> PdfLine:
    if not has_right_to_left(line.text):
        return line
    words = visual_words([(word.text, word.left, word.right) for word in line.words], line.size)
    return replace(line, text=line_in_reading_order(words), words=tuple(PdfWord(*word) for word in words))


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


class _Characters:
    """Sizes and places of a page's characters, by their index in its text."""

    def __init__(self, text: Any, raw: Any) -> None:
        self._text = text
        self._raw = raw
        self._matrix = raw.FS_MATRIX()
        self._box = raw.FS_RECTF()
        self._numbers = [ctypes.c_double() for _ in range(2)]

    def indexes(self, line: str, start: int) -> Callable[[int], int]:
        """Return a function that gives the index of a line's character; ``start`` is the line's place in the text."""
        if max(line) <= "\uffff":
            first, last = self._index(start), self._index(start + len(line) - 1)
            if last - first == len(line) - 1:  # nothing is left out within the line
                return first.__add__
        return lambda at: self._index(start + _units(line[:at]))

    def _index(self, at: int) -> int:
        index: int = self._raw.FPDFText_GetCharIndexFromTextIndex(self._text, at)
        return index

    def box(self, index: int) -> tuple[float, float]:
        """Return where a character begins and ends with the space that its font gives it, in points from the left."""
        self._raw.FPDFText_GetLooseCharBox(self._text, index, ctypes.byref(self._box))
        return self._box.left, self._box.right

    def baseline(self, index: int) -> float:
        """Return a character's height above the page's lower edge."""
        self._raw.FPDFText_GetCharOrigin(self._text, index, *self._numbers)
        return self._numbers[1].value

    def size(self, index: int) -> float:
        """Return the size of a character's type as it is drawn."""
        size: float = self._raw.FPDFText_GetFontSize(self._text, index)
        if self._raw.FPDFText_GetMatrix(self._text, index, ctypes.byref(self._matrix)):
            size *= math.hypot(self._matrix.c, self._matrix.d)
        return size


_LONG_LINE = 30
"""Characters from which a line's width tells how wide a page's characters are."""

_WIDE = 0.52
"""Most that the characters of prose are wide, in sizes of the type; on a page of wider ones all lines may be rows."""

_STRETCHED = 1.05
"""A line that is wider than its characters usually are by this much may have cells with space between them."""

_WORD = re.compile(r"\S+")
_CHARACTER = re.compile(r"\S")


def _shown(text: str) -> str:
    """Return a text without the characters by which PDFium marks hyphens at line ends."""
    return text.replace("\ufffe", "").replace("\x02", "").strip()


class _DrawnLine:
    """A line as PDFium gives it: its place, and the size and baseline of its longest word."""

    def __init__(self, characters: _Characters, line: str, start: int) -> None:
        pattern = _CHARACTER if has_right_to_left(line) else _WORD
        self.text = _shown(line)
        self._characters = characters
        self._index = characters.indexes(line, start)
        self._found = [(match.start(), match[0]) for match in pattern.finditer(line) if _shown(match[0])]
        self._by_character = pattern is _CHARACTER
        sample = self._index(max(self._found, key=lambda word: len(word[1]))[0])
        self._size = round(characters.size(sample), 2)
        self._baseline = round(characters.baseline(sample), 1)
        (first, _), (at, last) = self._found[0], self._found[-1]
        self._left = characters.box(self._index(first))[0]
        self._right = characters.box(self._index(at + len(last) - 1))[1]

    @property
    def width(self) -> float:
        """The width of a character on average, in sizes of the type."""
        return abs(self._right - self._left) / max(len(self.text) * self._size, 1.0)

    def with_words(self, *, needed: bool) -> PdfLine:
        """Return the line with the places of its words; where they are not needed, with that of the whole line.

        A line with letters from right to left has its characters for words, until :func:`_in_reading_order`.
        """
        words = [PdfWord(self.text, min(self._left, self._right), max(self._left, self._right))]
        if needed or self._by_character:
            words = []
            for at, word in self._found:
                left = self._characters.box(self._index(at))[0]
                right = self._characters.box(self._index(at + len(word) - 1))[1]
                words.append(PdfWord(_shown(word), min(left, right), max(left, right)))
        return PdfLine(self.text, self._size, self._baseline, tuple(words))


class _Writer:
    """Turns the lines of one page after another into blocks."""

    def __init__(self) -> None:
        self._outline = Outline()
        self._table: PdfTable | None = None
        self._header: list[str] = []

    def fields(self, values: list[str], page: int) -> Iterator[Draft]:
        """Yield the values of a page's form fields."""
        if values:
            yield Draft("\n".join(values), "list", page, self._outline.path)

    def drafts(self, lines: list[PdfLine], body: float, page: int) -> Iterator[Draft]:
        """Yield a page's blocks."""
        steps = sorted(round(a.baseline - b.baseline, 1) for a, b in pairwise(lines) if a.baseline > b.baseline)
        usual_step = steps[len(steps) // 2] if steps else 0.0
        paragraph: list[PdfLine] = []
        front = page == 1
        for item in find_tables(lines, self._table):
            if isinstance(item, PdfTable):
                if paragraph:
                    yield self._draft(paragraph, body, page, front=front)
                    paragraph = []
                yield from self._table_drafts(item, page)
                continue
            if paragraph and _begins(paragraph, item, body, usual_step):
                yield self._draft(paragraph, body, page, front=front)
                paragraph = []
            paragraph.append(item)
        if paragraph:
            yield self._draft(paragraph, body, page, front=front)

    def _table_drafts(self, found: PdfTable, page: int) -> Iterator[Draft]:
        """Yield a table's blocks; one that goes on from the page before has the header that it began with."""
        rows = found.rows
        before = self._table
        goes_on = self._header and before is not None and _same_columns(before, found)
        if goes_on and not header_of(rows):
            rows = [self._header, *rows]
        self._table, self._header = found, header_of(rows)
        yield from table(rows, page, self._outline.path, titles="paragraph")

    def _draft(self, paragraph: list[PdfLine], body: float, page: int, *, front: bool) -> Draft:
        text = "\n".join(line.text for line in paragraph)
        size = paragraph[0].size
        if body and size > body * _HEADING_RATIO and is_heading(" ".join(text.split()), front=front):
            text = " ".join(text.split())
            # Larger headings have higher levels; sizes that round to the same point are one level.
            return Draft(text, "heading", page, self._outline.enter(-round(size, 0), text))
        return Draft(_HYPHEN.sub("", text), "paragraph", page, self._outline.path)


def _same_columns(before: PdfTable, after: PdfTable) -> bool:
    """Return whether two tables have as many columns, each in the same place."""
    return len(before.columns) == len(after.columns) and all(
        a[0] < b[1] and b[0] < a[1] for a, b in zip(before.columns, after.columns, strict=True)
    )


def _begins(paragraph: list[PdfLine], line: PdfLine, body: float, usual_step: float) -> bool:
    """Return whether a line begins a new paragraph: another size, a gap above it, or a new column."""
    last = paragraph[-1]
    if abs(line.size - last.size) > 0.08 * max(line.size, last.size, 1.0):
        return True
    step = last.baseline - line.baseline
    size = max(line.size, 1.0)
    return step > max(_GAP_RATIO * (usual_step if line.size <= body * _HEADING_RATIO else size), size) or (
        step < -0.5 * size and last.text.endswith((".", "!", "?", ":"))
    )


_HYPHEN = re.compile(r"(?<=[^\W\d_])[-\u00ad]\n(?=[a-z\u00df-\u00ff])")
_LETTERS = re.compile(r"[^\W\d_]+")
_FORMULA = re.compile(
    r"[=<>^\\|{}~\u00b1\u00d7\u00f7\u2190-\u22ff\u2308-\u230b\u27e8-\u27ef\u2a00-\u2aff\ue000-\uf8ff\U0001d400-\U0001d7ff]"
)
_FORMULA_FONTS = re.compile(r"[\u0370-\u03ff\u2032\u2200-\u22ff]")
_KEYWORDS = re.compile(
    r"(?:author\s+)?(?:key\s?words|index\s+terms|schlagw\u00f6rter|schl\u00fcsselw\u00f6rter|mots[- ]cl\u00e9s|"
    r"palabras\s+clave|palavras[- ]chave|parole\s+chiave|jel\s+class|msc\b|"
    r"ccs\s+concepts|received\b|accepted\b|published\b|doi\b)",
    re.IGNORECASE,
)
_NAME = r"(?:[^\W\d_a-z][^\W\d_]*\.?(?:[-'\u2019][^\W\d_]+)*|de|da|di|van|von|der|den|la|le|el|al|bin|ten|ter|zu|y)"
_NAMES = re.compile(rf"{_NAME}(?:\s{_NAME}){{1,4}}")
_NAME_MARKS = re.compile(
    r"[\d*\u2217\u2020\u2021\u00a7\u00b6\u00b9\u00b2\u00b3\u2070-\u2079]+(?:\s?,\s?[\d*\u2217\u2020\u2021\u00a7\u00b6]+)*"
)
_BETWEEN_NAMES = re.compile(r"\s*(?:,|;|&|\u00b7|\band\b|\bund\b|\bet\b|\by\b)\s*")
_BY = re.compile(r"(?:by|von|par|por|di)\s+(.+)", re.IGNORECASE)
_ADDRESS = re.compile(
    r"\S@\S|\bhttps?://|\buniversit|\binstitut|\bdepartment of\b|\bfaculty of\b|\blaborator", re.IGNORECASE
)


def is_heading(text: str, *, front: bool = False) -> bool:
    """Return whether a text in large type is a heading: a few words, rather than a formula, names or keywords.

    Args:
        front: whether it stands on the first page, where the names of authors do.
    """
    if len(text) > _HEADING_CHARACTERS or text.endswith((",", ";")) or text[0] in ",;.)]}":
        return False
    letters = _LETTERS.findall(text)
    longest = max(map(len, letters), default=0)
    wide = any("\u2e80" <= character <= "\ud7ff" for character in text)
    if longest < (1 if wide else 3) or sum(map(len, letters)) * 2 < len(text.replace(" ", "")):
        return False
    if text.count("(") != text.count(")") or _FORMULA.search(text):
        return False
    if len(_FORMULA_FONTS.findall(text)) * 4 > len(text):
        return False
    if text[0].islower() or _KEYWORDS.match(text):
        return False
    return not (front and _is_byline(text))


def _is_byline(text: str) -> bool:
    """Return whether a text is the names of authors, or where they work."""
    by = _BY.fullmatch(text)
    if by is not None and _NAMES.fullmatch(by[1]):
        return True
    if _ADDRESS.search(text):
        return True
    marked = _NAME_MARKS.search(text) is not None
    names = [name for name in _BETWEEN_NAMES.split(_NAME_MARKS.sub(" , ", text)) if name]
    return (len(names) > 1 or marked) and all(_NAMES.fullmatch(name.strip()) for name in names)
