"""CSV and JSON, read as streams."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from .base import Draft, ParseLimits, Unreadable
from .encoding import open_text
from .tables import TABLE_CHARACTERS, table

__all__ = ["MAX_NESTING", "delimiter_of", "parse_csv", "parse_json"]

MAX_NESTING = 200
"""The most levels of nested arrays and objects."""

_BUFFER = 4 * 2**20
"""Bytes that the JSON parser gets at a time. It scans a long string again with each read, so reads are large."""

_DELIMITERS = ",;\t|"
_TITLE_LINES = 5
_ROWS_BELOW_TITLES = 2


def delimiter_of(sample: str) -> str | None:
    """Return the delimiter that occurs equally often, and at least once, in each of the first lines, outside quotes.

    Up to ``_TITLE_LINES`` lines above those may be titles without it.
    """
    lines = sample.splitlines()
    lines = [line for line in (lines[:-1] if len(lines) > 1 else lines)[:20] if line.strip()]
    best: tuple[int, str | None] = (0, None)
    for delimiter in _DELIMITERS:
        counts = [len(row) - 1 for row in csv.reader(lines, delimiter=delimiter)] or [0]
        titles = next((at for at, count in enumerate(counts) if count), 0)
        if titles <= min(_TITLE_LINES, len(counts) - _ROWS_BELOW_TITLES * bool(titles)):
            counts = counts[titles:]
        if len(set(counts)) == 1 and counts[0] > best[0]:
            best = (counts[0], delimiter)
    return best[1]


def parse_csv(file: BinaryIO, limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft]:
    """Yield tables of a CSV file's rows."""
    text = open_text(file, progress)
    csv.field_size_limit(limits.file_bytes)
    delimiter = delimiter_of(text.read(8192)) or ","
    text = open_text(file, progress)
    return table(csv.reader(text, delimiter=delimiter))


def parse_json(file: BinaryIO, _limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft]:
    """Yield blocks of lines "place: value", such as "items[3].name: Ada", from JSON or one JSON value a line.

    Raises:
        Unreadable: the text is not JSON, or nested deeper than ``MAX_NESTING``.
    """
    import ijson

    source = _Utf8(open_text(file, progress))
    lines: list[str] = []
    length = 0
    try:
        for ends, line in _lines(ijson.basic_parse(source, multiple_values=True, buf_size=_BUFFER)):
            if line:
                lines.append(line)
                length += len(line) + 1
            # If possible, end a block with an object or a list, so that a record stays whole.
            if length >= TABLE_CHARACTERS * (1 if ends else 4):
                yield Draft("\n".join(lines), "code")
                lines, length = [], 0
    except ijson.JSONError as error:
        raise Unreadable("damaged", f"JSON: {error}") from error
    if lines:
        yield Draft("\n".join(lines), "code")


def _lines(events: Iterator[tuple[str, Any]]) -> Iterator[tuple[bool, str]]:
    """Yield whether an event ends an object or a list, and the event's line, which may be empty."""
    place: list[str | int] = []
    for event, value in events:
        line = ""
        ends = event in {"end_map", "end_array"}
        if event in {"start_map", "start_array"}:
            if len(place) >= MAX_NESTING:
                raise Unreadable("too_deep")
            place.append("" if event == "start_map" else 0)
        elif event == "map_key":
            place[-1] = str(value)
            continue
        else:
            if ends:
                place.pop()
            elif value is not None and value != "":
                line = _line(place, value)
            if place and isinstance(place[-1], int):
                place[-1] += 1
        yield ends, line


def _line(place: list[str | int], value: Any) -> str:
    value_text = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    return f"{name}: {value_text}" if name else value_text


class _Utf8:
    """A text as a stream of UTF-8, whatever its original encoding."""

    def __init__(self, text: io.TextIOBase) -> None:
        self._text = text

    def read(self, size: int = -1) -> bytes:
        """Return about ``size`` bytes."""
        return self._text.read(size).encode()
