"""Find tables in the lines of a PDF's page by where their words stand, with or without rules drawn between them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from .right_to_left import has_right_to_left, is_right_to_left, line_in_reading_order

__all__ = ["PdfLine", "PdfTable", "PdfWord", "find_tables"]

_CELL_GAP = 0.7
"""Space between two words, in sizes of their type, from which they may be in two cells. A wide space has about half."""

_GUTTER = 0.35
"""Least width of the space between two columns, in sizes of the type."""

_SAME_ROW = 0.3
"""Difference of baselines, in sizes of the type, up to which two texts are in one row."""

_LINE_STEP = 1.4
"""Distance of two lines of one cell at most, in sizes of the type."""

_ROW_STEP = 4.0
"""Distance of two rows of one table at most, in sizes of the type."""

_LOOK_BACK = 8
"""Lines of a wrapped cell that a page may draw before it draws the next cell of the row."""

_PROSE_WORDS = 6.0
"""Words in a cell, on average, from which two columns are columns of prose."""

_BULLET = re.compile(r"[^\w\s]{1,2}|\(?\[?(?:\d{1,3}|[A-Za-z]|[ivxlcIVXLC]{1,5})[.)\]]{1,2}|[o\u00b7]")
_NUMBER = re.compile(r"[-+(\u2212$\u20ac\u00a3]*\d[\d.,%)' ]*")
_WRAPPED_CHARACTERS = 10


@dataclass(frozen=True, slots=True)
class PdfWord:
    """A word and where it begins and ends, in points from the left."""

    text: str
    left: float
    right: float


@dataclass(frozen=True, slots=True)
class PdfLine:
    """One line of a page as the file draws it: its text, the size of its type and its baseline, in points."""

    text: str
    size: float
    baseline: float
    words: tuple[PdfWord, ...] = ()


@dataclass(frozen=True, slots=True)
class PdfTable:
    """A table: the texts of its cells by row and column, and where its columns begin and end."""

    rows: list[list[str]]
    columns: list[tuple[float, float]]


@dataclass(slots=True)
class _Segment:
    """Words without a wide space between them: a cell, or more where the columns are narrow."""

    words: list[PdfWord]
    left: float
    right: float


@dataclass(slots=True)
class _Row:
    baseline: float
    size: float
    lines: list[int]
    segments: list[_Segment] = field(default_factory=list)


def find_tables(lines: Sequence[PdfLine], before: PdfTable | None = None) -> Iterator[PdfLine | PdfTable]:
    """Yield the lines, and tables in the place of the lines that they are made of.

    Args:
        before: the last table of the page before, whose columns the first table of this one may have.
    """
    rows = _rows(lines)
    in_tables: dict[int, PdfTable | None] = {}
    at = 0
    while at < len(rows):
        count, table = _table_from(rows, at, before)
        if table is None:
            at += 1
            continue
        indexes = [index for row in rows[at : at + count] for index in row.lines]
        in_tables.update(dict.fromkeys(indexes))
        in_tables[min(indexes)] = table
        before = None
        at += count
    for index, line in enumerate(lines):
        if index not in in_tables:
            yield line
        elif (table := in_tables[index]) is not None:
            yield table


def _segments(line: PdfLine) -> list[_Segment]:
    segments: list[_Segment] = []
    for word in sorted(line.words, key=lambda word: word.left):
        if segments and word.left - segments[-1].right <= _CELL_GAP * line.size:
            segments[-1].words.append(word)
            segments[-1].right = max(segments[-1].right, word.right)
        else:
            segments.append(_Segment([word], word.left, word.right))
    return segments


def _rows(lines: Sequence[PdfLine]) -> list[_Row]:
    """Return the lines by row: what stands side by side is one row, also if it was drawn a cell at a time."""
    rows: list[_Row] = []
    for index, line in enumerate(lines):
        segments = _segments(line)
        if not segments:
            continue
        row = next((row for row in reversed(rows[-_LOOK_BACK:]) if _beside(row, line, segments)), None)
        if row is None:
            row = _Row(line.baseline, line.size, [])
            rows.append(row)
        row.lines.append(index)
        row.segments = sorted([*row.segments, *segments], key=lambda segment: segment.left)
    return rows


def _beside(row: _Row, line: PdfLine, segments: list[_Segment]) -> bool:
    if abs(row.baseline - line.baseline) > _SAME_ROW * max(line.size, 1.0):
        return False
    return all(new.left >= old.right or new.right <= old.left for new in segments for old in row.segments)


def _table_from(rows: list[_Row], begin: int, before: PdfTable | None) -> tuple[int, PdfTable | None]:
    """Return how many rows from ``begin`` on are a table, and the table; (0, None) if there is none."""
    chosen = _alike(rows, begin)
    several = [row for row in chosen if len(row.segments) > 1]
    if not several:
        return 0, None
    columns = _columns(chosen)
    goes_on = before is not None and _are_in(columns, before.columns)
    if goes_on and before is not None:
        columns = before.columns
    elif len(several) < (2 if len(columns) > 2 else 3) or len(several) * 2 < len(chosen):
        return 0, None
    chosen.sort(key=lambda row: -row.baseline)
    cells = _merged(chosen, [_cells(row, columns) for row in chosen])
    if is_right_to_left(" ".join(cell for row in cells for cell in row)):
        cells = [row[::-1] for row in cells]
    return (len(chosen), PdfTable(cells, columns)) if goes_on or _is_table(cells) else (0, None)


def _are_in(columns: list[tuple[float, float]], before: list[tuple[float, float]]) -> bool:
    """Return whether columns are those of a table before, or some of them: at least three, each in one of those."""
    inside = [[at for at, (left, right) in enumerate(before) if a < right and b > left] for a, b in columns]
    places = {found[0] for found in inside if len(found) == 1}
    return len(columns) > 2 and len(places) == len(columns)


def _alike(rows: list[_Row], begin: int) -> list[_Row]:
    """Return the rows from ``begin`` on that share their columns, with no wide space between them."""
    chosen: list[_Row] = []
    columns: list[tuple[float, float]] = []
    last_of_several = 0
    for row in rows[begin:]:
        if chosen and not _follows(chosen[-1], row):
            break
        if len(row.segments) > 1:
            wider = _columns([*chosen, row])
            if len(wider) < 2 or (len(wider) < len(columns) and len(chosen) > 1):
                break
            columns = wider
            chosen.append(row)
            last_of_several = len(chosen)
        elif not chosen or _crosses(row.segments[0], columns):
            break
        else:
            chosen.append(row)
    return _with_wrapped(chosen, last_of_several) if chosen else []


def _follows(above: _Row, below: _Row) -> bool:
    # A wrapped cell may be drawn after the others of its row, from above them.
    step = above.baseline - below.baseline
    return -_ROW_STEP * below.size / 2 < step <= _ROW_STEP * max(above.size, below.size)


def _with_wrapped(rows: list[_Row], count: int) -> list[_Row]:
    """Return the first ``count`` rows, and those after them that are further lines of the last row's cells."""
    spaced = _is_spaced([above.baseline - below.baseline for above, below in pairwise(rows[:count])], rows[0].size)
    while spaced and count < len(rows):
        last = min(row.baseline for row in rows[:count])
        if not abs(last - rows[count].baseline) <= _LINE_STEP * rows[count].size:
            break
        count += 1
    return rows[:count]


def _is_spaced(steps: list[float], size: float) -> bool:
    """Return whether rows stand further from each other than the lines of one cell."""
    return sum(step > _LINE_STEP * size for step in steps) > max(1, len(steps) // 4)


def _columns(rows: list[_Row]) -> list[tuple[float, float]]:
    """Return where the columns of rows begin and end: where no row has text is the space between two of them."""
    several = [row for row in rows if len(row.segments) > 1]
    columns = _covered(several)
    most = max(len(row.segments) for row in several)
    if len(columns) > most > len(several[0].segments):
        # Names of groups of columns stand between the columns.
        below = _covered(several[1:])
        columns = below if len(below) == max(len(row.segments) for row in several[1:]) else columns
    if len(columns) < most:
        # A header may stand across columns: look at the rows with the most cells alone, if they are many.
        full = [row for row in several if len(row.segments) == most]
        if len(full) * 2 >= len(several) and len(full) > 1:
            narrower = _covered(full)
            columns = narrower if len(narrower) > len(columns) else columns
    return columns


def _covered(rows: list[_Row]) -> list[tuple[float, float]]:
    gutter = _GUTTER * min(row.size for row in rows)
    columns: list[tuple[float, float]] = []
    for left, right in sorted((s.left, s.right) for row in rows for s in row.segments):
        if columns and left - columns[-1][1] < gutter:
            columns[-1] = (columns[-1][0], max(columns[-1][1], right))
        else:
            columns.append((left, right))
    return columns


def _crosses(segment: _Segment, columns: list[tuple[float, float]]) -> bool:
    """Return whether a text that is alone in its row stands across the space between two columns, or beyond them."""
    touched = sum(segment.left < right and segment.right > left for left, right in columns)
    return touched != 1 or segment.right > columns[-1][1] + (columns[-1][1] - columns[-1][0])


def _cells(row: _Row, columns: list[tuple[float, float]]) -> list[str]:
    cells: list[list[PdfWord]] = [[] for _ in columns]
    for segment in row.segments:
        at = _column_of(segment.left, segment.right, columns)
        for word, following in zip(segment.words, [*segment.words[1:], None], strict=True):
            cells[at].append(word)
            if following is not None and at + 1 < len(columns):
                middle = (columns[at][1] + columns[at + 1][0]) / 2
                # Two cells that stand close together have their space where the columns have it.
                if word.right <= middle <= following.left:
                    at = _column_of(following.left, following.right, columns)
    return [_text(words) for words in cells]


def _text(words: list[PdfWord]) -> str:
    text = " ".join(word.text for word in words)
    if not has_right_to_left(text):
        return text
    return line_in_reading_order([(word.text, word.left, word.right) for word in words])


def _column_of(left: float, right: float, columns: list[tuple[float, float]]) -> int:
    """Return the first column in which a text stands; a title of two columns, which stands between, is in the left."""
    for at, (begin, end) in enumerate(columns):
        if left < end and right > begin:
            return at
    return max((at for at, (begin, _) in enumerate(columns) if begin < left), default=0)


def _merged(rows: list[_Row], cells: list[list[str]]) -> list[list[str]]:
    """Return the cells with the lines of wrapped cells joined to one row."""
    size = max(rows[0].size, 1.0)
    steps = [above.baseline - below.baseline for above, below in pairwise(rows)]
    spaced = _is_spaced(steps, size)
    merged = [cells[0]]
    for step, row in zip(steps, cells[1:], strict=True):
        if step <= _LINE_STEP * size and (spaced or _continues(merged[-1], row)):
            merged[-1] = [f"{above} {below}".strip() for above, below in zip(merged[-1], row, strict=True)]
        else:
            merged.append(row)
    return merged


def _continues(above: list[str], row: list[str]) -> bool:
    """Return whether a row is the second line of one cell, where the distance of lines does not tell."""
    filled = [at for at, cell in enumerate(row) if cell]
    if len(filled) != 1 or filled[0] == 0:
        return False
    at = filled[0]
    return len(above[at]) >= _WRAPPED_CHARACTERS and not _NUMBER.fullmatch(row[at]) and bool(above[0])


def _is_table(cells: list[list[str]]) -> bool:
    """Return whether cells are a table: no columns of prose, no list with its bullets, and no table of contents."""
    if len(cells) < 2:
        return False
    width = len(cells[0])
    columns = [[row[at] for row in cells if row[at]] for at in range(width)]
    if width == 2 and all(_BULLET.fullmatch(cell) for cell in columns[0]):
        return False
    if sum(map(len, columns)) * 2 < len(cells) * width:
        return False
    words = sorted(sum(len(cell.split()) for cell in column) / max(1, len(column)) for column in columns)
    if words[-2] > _PROSE_WORDS or (width == 2 and words[0] > _PROSE_WORDS / 2 and words[1] > _PROSE_WORDS):
        return False
    return not any(". . ." in cell or "...." in cell for row in cells for cell in row)
