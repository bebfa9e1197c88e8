"""Turn rows of cells into text: a line a row, in blocks that each begin with the names of the columns.

A block has at most ``TABLE_TOKENS`` tokens, so that it fits into a chunk, and the chunker keeps it whole
(:mod:`firelaunch.rag.chunk`). A passage of a table that is read alone therefore says what its cells mean. Where a row
and the names of its columns are longer than that, the row continues in further blocks, each with the names of the
columns that it holds and the row's first cell.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from ..tokens import count_tokens
from .base import Draft, Kind

__all__ = ["TABLE_CHARACTERS", "TABLE_TOKENS", "header_of", "markdown_blocks", "pieces", "table"]

TABLE_TOKENS = 150
"""The most tokens of a table's block: a chunk of the default size holds it, and a short heading above it."""

TABLE_CHARACTERS = 1_000
"""Length from which other lines of data, such as those of JSON, continue in a new block."""

_LOOKED_AT = 12
"""Rows from which a table's head is told."""

_HEADER_CHARACTERS = 100
"""The most characters of a column's name; a longer cell is text, and its row no header."""

_KEY_CHARACTERS = 60
"""The most characters of a row's first cell that each part of a long row repeats."""

_TITLE_CHARACTERS = 200
_MOST_TITLES = 8
_WINDOW = 16
"""Rows of a wide table whose groups of columns stand together."""

_NUMBER = re.compile(
    r"[-+(\u2212]?\s?(?:[$\u20ac\u00a3\u00a5]\s?)?"
    r"\d[\d.,'\u2019\u202f\u00a0 ]*(?:%|[$\u20ac\u00a3\u00a5]|[A-Z]{3})?\)?"
    r"|[-+]?[.,]\d+%?"
)
_DATE = re.compile(r"\d{4}-\d{2}(?:-\d{2})?(?:[T ][\d:.]+)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}|\d{1,2}:\d{2}(?::\d{2})?")
_YEAR = re.compile(r"(?:19|20|21)\d\d(?:[/-]\d{2,4})?")

Row = list[str]


def table(
    rows: Iterable[Iterable[str]],
    page: int | None = None,
    headings: tuple[str, ...] = (),
    header_rows: int | None = None,
    titles: Kind = "heading",
) -> Iterator[Draft]:
    """Yield a table's blocks: one line for each row, without empty rows; empty cells are kept.

    Rows with a single cell above the header are titles. A title is a heading of the blocks below it. Below an empty
    row, another table may begin, with a header of its own.

    Args:
        rows: the cells' texts; read as a stream.
        header_rows: how many rows are the header, if the file says so; None to tell it from the first rows.
        titles: "paragraph" where it is not sure that a single cell at the top is a title.
    """
    source = _Rows(rows)
    while source.peek(1):
        head = _Head(source.peek(_LOOKED_AT), header_rows)
        header_rows = None
        source.drop(head.rows)
        path = headings
        for at, title in enumerate(head.titles):
            if at == 0 and titles == "heading" and len(title) <= _TITLE_CHARACTERS:
                path = (*headings, title)
                yield Draft(title, "heading", page, path)
            else:
                yield Draft(title, "paragraph", page, path)
        for text in _blocks(head.header, source.region(head.header)):
            yield Draft(text, "table", page, path)


def header_of(rows: Iterable[Iterable[str]]) -> Row:
    """Return the names of the columns of a table as told from its first rows; an empty list if it has none."""
    first = _Rows(rows).peek(_LOOKED_AT)
    return _Head(first, None).header if first else []


class _Rows:
    """Rows with their cells' spaces collapsed, as a stream that can be looked at ahead. Empty rows are counted."""

    def __init__(self, rows: Iterable[Iterable[str]]) -> None:
        self._rows = iter(rows)
        self._ahead: deque[tuple[bool, Row]] = deque()

    def peek(self, count: int) -> list[Row]:
        """Return up to ``count`` of the rows to come."""
        self._fill(count)
        return [row for _, row in islice(self._ahead, count)]

    def drop(self, count: int) -> None:
        """Leave out the next ``count`` rows."""
        for _ in range(count):
            self._ahead.popleft()

    def region(self, header: Row) -> Iterator[Row]:
        """Yield the rows up to one that begins another table."""
        while self.peek(1):
            after_gap, row = self._ahead[0]
            if after_gap and row != header and _begins_anew(self.peek(3)):
                return
            self._ahead.popleft()
            if row != header:
                yield row

    def _fill(self, count: int) -> None:
        gap = False
        while len(self._ahead) < count:
            cells = next(self._rows, None)
            if cells is None:
                return
            row = [" ".join(cell.split()) for cell in cells]
            while row and not row[-1]:
                row.pop()
            if row:
                self._ahead.append((gap, row))
            gap = not row


class _Head:
    """The titles and the header with which a table begins, as told from its first rows.

    ``header`` is empty if the table has none. ``rows`` is the number of rows that are titles and header.
    """

    def __init__(self, first: list[Row], header_rows: int | None) -> None:
        width = max(map(_filled, first))
        self.titles: list[str] = []
        self.header: Row = []
        self.rows = 0
        while self.rows < min(len(first) - 1, _MOST_TITLES) and _is_title(first[self.rows], width):
            self.titles.append(" ".join(filter(None, first[self.rows])))
            self.rows += 1
        rest = first[self.rows :]
        if header_rows is None or 0 < header_rows <= self.rows:
            header_rows = _header_rows(rest)
        elif header_rows:
            header_rows -= self.rows
        if header_rows and len(rest) > header_rows and not any(map(_is_long, rest[:header_rows])):
            self.header = _joined(rest[:header_rows])
            self.rows += header_rows


def _filled(row: Row) -> int:
    return sum(map(bool, row))


def _is_title(row: Row, width: int) -> bool:
    """Return whether a row above a table's header is no row of it: it has one cell, or two of many at the left."""
    filled = _filled(row)
    if filled == 1:
        return width > 2 or (width > 1 and bool(row[0]))
    return filled == 2 and width >= 5 and all(row[:2]) and len(row) == 2


def _header_rows(rows: list[Row]) -> int:
    """Return how many of a table's first rows name its columns: none, one, or two if the first is of groups."""
    if len(rows) < 2 or not _names_columns(rows[0], rows[1:]):
        return 0
    gaps = [at for at in range(len(rows[1])) if at >= len(rows[0]) or not rows[0][at]]
    grouped = (
        len(rows) > 2
        and len([at for at in gaps if rows[1][at]]) > (0 if rows[0][0] else 1)
        and _names_columns(rows[1], rows[2:])
        and any(_kind(cell) != "text" for cell in rows[2])
    )
    return 2 if grouped else 1


def _names_columns(row: Row, below: list[Row]) -> bool:
    """Return whether a row may be a header: no cell of it is a number like those below, except for years and counts."""
    if _is_long(row):
        return False
    numbers = [at for at, cell in enumerate(row) if _kind(cell) == "number"]
    counted = [row[at] for at in numbers]
    if len(counted) > 1 and all(cell.isdecimal() for cell in counted):
        values = [int(cell) for cell in counted]
        if values == list(range(values[0], values[0] + len(values))):
            return True
    return not any(
        at < len(other) and _kind(other[at]) == _kind(cell)
        for at, cell in enumerate(row)
        if _kind(cell) in {"number", "date"} and not _YEAR.fullmatch(cell)
        for other in below
    )


def _kind(cell: str) -> str:
    if not cell:
        return "empty"
    if _DATE.fullmatch(cell):
        return "date"
    return "number" if _NUMBER.fullmatch(cell) else "text"


def _is_long(row: Row) -> bool:
    return any(len(cell) > _HEADER_CHARACTERS for cell in row)


def _joined(rows: list[Row]) -> Row:
    """Return one header of several rows; the name of a group of columns comes before the name of each of them."""
    header: Row = []
    width = max(map(len, rows))
    for number, row in enumerate(rows):
        group = ""
        below = rows[number + 1 :]
        for at in range(width):
            cell = row[at] if at < len(row) else ""
            group = cell or (group if any(at < len(other) and other[at] for other in below) else "")
            if at >= len(header):
                header.append(group)
            elif group and group != header[at]:
                header[at] = f"{header[at]} {group}".strip()
    return header


def _begins_anew(rows: list[Row]) -> bool:
    """Return whether the rows below a gap are another table: a title, or text alone above numbers."""
    if len(rows) < 2:
        return False
    first, second = rows[0], rows[1]
    if _filled(first) == 1:
        return _filled(second) > 1 and _begins_anew(rows[1:])
    text = [at for at, cell in enumerate(first) if _kind(cell) == "text"]
    return len(text) == _filled(first) and any(at < len(second) and _kind(second[at]) != "text" for at in text)


def _blocks(header: Row, rows: Iterator[Row]) -> Iterator[str]:
    """Yield the texts of a table's blocks; the header alone if it has no rows."""
    first = next(rows, None)
    if first is None:
        yield _line(header)
        return
    rows = chain([first], rows)
    groups = _column_groups(header)
    if len(groups) == 1:
        yield from _rows_in_blocks(header, rows, len(header))
        return
    while window := list(islice(rows, _WINDOW)):
        for at, columns in enumerate(groups):
            # Cells beyond the header belong to the last group; those that are no column's are rare.
            more = range(len(header), max(map(len, window))) if at == len(groups) - 1 else ()
            wanted = [*([0] if at else []), *columns, *more]
            part = ([_short(row[0]) if n == 0 and at else _cell(row, n) for n in wanted] for row in window)
            yield from _rows_in_blocks([_cell(header, n) for n in wanted], part, len(wanted))


def _column_groups(header: Row) -> list[list[int]]:
    """Return the columns in groups whose names leave room for rows below them."""
    groups: list[list[int]] = [[]]
    tokens = 0
    for at, name in enumerate(header):
        tokens += count_tokens(name) + 1
        if tokens > TABLE_TOKENS // 3 and groups[-1]:
            groups.append([])
            tokens = count_tokens(header[0]) + count_tokens(name) + 2
        groups[-1].append(at)
    return groups


def _cell(row: Row, at: int) -> str:
    return row[at] if at < len(row) else ""


def _short(key: str) -> str:
    return key if len(key) <= _KEY_CHARACTERS else f"{key[:_KEY_CHARACTERS].rstrip()}\u2026"


def _line(row: Row, width: int = 0) -> str:
    return " | ".join([*row, *[""] * (width - len(row))]).rstrip()


def _rows_in_blocks(header: Row, rows: Iterable[Row], width: int) -> Iterator[str]:
    top = [_line(header)] if any(header) else []
    top_tokens = count_tokens("".join(top))
    lines: list[str] = []
    tokens = 0
    for row in rows:
        line = _line(row, width)
        length = count_tokens(line)
        if lines and top_tokens + tokens + length > TABLE_TOKENS:
            yield "\n".join([*top, *lines])
            lines, tokens = [], 0
        if top_tokens + length > TABLE_TOKENS:
            yield from _long_row(header, row)
            continue
        lines.append(line)
        tokens += length
    if lines:
        yield "\n".join([*top, *lines])


def _long_row(header: Row, row: Row) -> Iterator[str]:
    """Yield the blocks of a row that fits into none: its cells in parts, each below its column's name."""
    key = _short(row[0]) if row[0] and len(row) > 1 else ""
    first_name = _cell(header, 0)
    names: Row = []
    cells: Row = []
    fixed = tokens = count_tokens(first_name) + count_tokens(key) + 2
    for at, cell in enumerate(row):
        if at == 0 and key == cell:
            continue
        name = _cell(header, at)
        name_tokens = count_tokens(name) + 2
        for piece in pieces(cell, TABLE_TOKENS - fixed - name_tokens) or [""]:
            length = name_tokens + count_tokens(piece)
            if cells and tokens + length > TABLE_TOKENS:
                yield _part(first_name, key, names, cells)
                names, cells, tokens = [], [], fixed
            names.append(name)
            cells.append(piece)
            tokens += length
    if cells:
        yield _part(first_name, key, names, cells)


def _part(first_name: str, key: str, names: Row, cells: Row) -> str:
    names, cells = ([first_name, *names], [key, *cells]) if key else (names, cells)
    return "\n".join([*([_line(names)] if any(names) else []), _line(cells)])


_SENTENCE = re.compile(r"(?<=[.!?\u3002\uff01\uff1f])\s+|(?<=[\u3002\uff01\uff1f])")


def pieces(text: str, tokens: int) -> Sequence[str]:
    """Return a text in parts of at most ``tokens``, cut after sentences if it can be, else between words."""
    most = max(tokens, TABLE_TOKENS // 4)
    if count_tokens(text) <= most:
        return [text] if text else []
    parts: list[str] = []
    part = ""
    for sentence in _cut(text, most):
        if part and count_tokens(part) + count_tokens(sentence) > most:
            parts.append(part)
            part = ""
        part = f"{part} {sentence}" if part else sentence
    return [*parts, part]


def markdown_blocks(lines: Sequence[str]) -> Iterator[str]:
    """Yield a Markdown table in blocks of at most ``TABLE_TOKENS``, each with its header and the rule below it.

    A row that is longer than that is a block of its own.
    """
    top, rows = lines[:2], lines[2:]
    top_tokens = sum(map(count_tokens, top))
    block: list[str] = []
    tokens = top_tokens
    for row in rows:
        length = count_tokens(row)
        if block and tokens + length > TABLE_TOKENS:
            yield "\n".join([*top, *block])
            block, tokens = [], top_tokens
        block.append(row)
        tokens += length
    yield "\n".join([*top, *block])


def _cut(text: str, most: int) -> Iterator[str]:
    """Yield a text's sentences; those of more than ``most`` tokens by word, and words of more than that in parts."""
    for sentence in _SENTENCE.split(text):
        if count_tokens(sentence) <= most:
            yield sentence
            continue
        for word in sentence.split(" "):
            step = max(1, len(word)) if count_tokens(word) <= most else most
            for start in range(0, len(word), step):
                yield word[start : start + step]
