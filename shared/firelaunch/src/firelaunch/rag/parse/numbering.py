"""The numbers that Word shows before paragraphs: "2.", "(a)", "Clause 4.1"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .numerals import numeral

__all__ = ["Label", "Numbering"]

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_LEVELS = 9
_BASED_ON = 12
"""Styles that are followed to the ones that they are based on."""

_FORMS = {"lowerLetter": "a", "upperLetter": "A", "lowerRoman": "i", "upperRoman": "I"}
_PLACE = re.compile(r"%([1-9])")


@dataclass(frozen=True, slots=True)
class Label:
    """The mark of a paragraph: its text, which may be empty, and its level, counted from 0."""

    text: str
    level: int
    is_bullet: bool = False


@dataclass(frozen=True, slots=True)
class _Level:
    start: int
    form: str
    text: str
    restart: int | None
    legal: bool
    style: str | None


class Numbering:
    """Counts a document's numbered paragraphs, which have to come in order.

    Args:
        root: of the part ``numbering.xml``, or None.
        styles: the elements of the paragraph styles by id.
    """

    def __init__(self, root: Any, styles: Mapping[str, Any]) -> None:
        self._styles = styles
        self._abstract: dict[str, Any] = {}
        self._numbers: dict[str, Any] = {}
        self._levels: dict[tuple[str, int], _Level | None] = {}
        self._counts: dict[str, list[int | None]] = {}
        self._begun: set[str] = set()
        for element in () if root is None else root:
            if element.tag == f"{_W}abstractNum":
                self._abstract[element.get(f"{_W}abstractNumId")] = element
            elif element.tag == f"{_W}num":
                self._numbers[element.get(f"{_W}numId")] = element

    def label(self, paragraph: Any) -> Label | None:
        """Return the mark of a paragraph and count it; None if it is in no list."""
        number, at = self._place(paragraph)
        if number not in self._numbers:
            return None
        level = self._level(number, at)
        if level is None:
            return None
        if level.form == "bullet":
            return Label("-", at, is_bullet=True)
        counts = self._count(number, at)

        def shown(place: re.Match[str]) -> str:
            upper = int(place[1]) - 1
            return self._numeral(number, upper, counts[upper], legal=level.legal)

        return Label(_PLACE.sub(shown, level.text).strip(), at)

    def _place(self, paragraph: Any) -> tuple[str, int]:
        """Return the list and the level that a paragraph, or its style, names."""
        properties = paragraph.find(f"{_W}pPr")
        number, at = _numbering_of(properties)
        style = None if properties is None else _value(properties.find(f"{_W}pStyle"))
        followed = 0
        named = style
        while number is None and style is not None and style in self._styles and followed < _BASED_ON:
            element = self._styles[style]
            number, style_level = _numbering_of(element.find(f"{_W}pPr"))
            at = style_level if at is None else at
            named = style
            style = _value(element.find(f"{_W}basedOn"))
            followed += 1
        if number is not None and at is None:  # a level may name the style that it belongs to
            at = next((n for n in range(_LEVELS) if named and (lv := self._level(number, n)) and lv.style == named), 0)
        return number or "", min(max(at or 0, 0), _LEVELS - 1)

    def _level(self, number: str, at: int) -> _Level | None:
        if (number, at) not in self._levels:
            self._levels[number, at] = self._read_level(number, at)
        return self._levels[number, at]

    def _read_level(self, number: str, at: int) -> _Level | None:
        element = self._numbers.get(number)
        override = None if element is None else _child_at(element, "lvlOverride", at)
        own = None if override is None else override.find(f"{_W}lvl")
        if own is None and element is not None:
            abstract = self._abstract.get(self._abstract_of(number))
            own = None if abstract is None else _child_at(abstract, "lvl", at)
        if own is None:
            return None
        start = _integer(own.find(f"{_W}start"), 0 if own.find(f"{_W}start") is None else 1)
        restart = own.find(f"{_W}lvlRestart")
        return _Level(
            start=start,
            form=_value(own.find(f"{_W}numFmt")) or "decimal",
            text=_value(own.find(f"{_W}lvlText")) or "",
            restart=None if restart is None else _integer(restart, 0),
            legal=own.find(f"{_W}isLgl") is not None,
            style=_value(own.find(f"{_W}pStyle")),
        )

    def _abstract_of(self, number: str) -> str:
        """Return the id of a list's definition; a definition may name a style that has another list."""
        for _ in range(_BASED_ON):
            element = self._numbers.get(number)
            name = "" if element is None else _value(element.find(f"{_W}abstractNumId")) or ""
            abstract = self._abstract.get(name)
            link = None if abstract is None else _value(abstract.find(f"{_W}numStyleLink"))
            if link is None or link not in self._styles:
                return name
            number = _numbering_of(self._styles[link].find(f"{_W}pPr"))[0] or ""
        return ""

    def _count(self, number: str, at: int) -> list[int]:
        """Count one paragraph of this level, and return the counts of all levels."""
        counts = self._counts.setdefault(self._abstract_of(number), [None] * _LEVELS)
        element = self._numbers[number]
        overrides = {n: _child_at(element, "lvlOverride", n) for n in range(_LEVELS)}
        starts = {
            n: _integer(override.find(f"{_W}startOverride"), 0)
            for n, override in overrides.items()
            if override is not None and override.find(f"{_W}startOverride") is not None
        }
        if number not in self._begun:
            self._begun.add(number)
            for n in starts:
                counts[n] = None
        for n in range(at + 1):
            count = counts[n]
            level = self._level(number, n)
            if count is None:
                counts[n] = starts.get(n, level.start if level is not None else 1)
            elif n == at:
                counts[n] = count + 1
        for n in range(at + 1, _LEVELS):
            level = self._level(number, n)
            if level is None or level.restart is None or at < level.restart:
                counts[n] = None
        return [0 if count is None else count for count in counts]

    def _numeral(self, number: str, at: int, count: int, *, legal: bool) -> str:
        level = self._level(number, at)
        form = "decimal" if legal or level is None else level.form
        if form == "none":
            return ""
        return f"{count:02}" if form == "decimalZero" else numeral(count, _FORMS.get(form, "1"))


def _numbering_of(properties: Any) -> tuple[str | None, int | None]:
    """Return the list and the level that a paragraph's or a style's properties name."""
    element = None if properties is None else properties.find(f"{_W}numPr")
    if element is None:
        return None, None
    level = element.find(f"{_W}ilvl")
    return _value(element.find(f"{_W}numId")), None if level is None else _integer(level, 0)


def _child_at(element: Any, name: str, at: int) -> Any:
    return next((child for child in element.findall(f"{_W}{name}") if child.get(f"{_W}ilvl") == str(at)), None)


def _value(element: Any) -> str | None:
    value: str | None = None if element is None else element.get(f"{_W}val")
    return value


def _integer(element: Any, default: int) -> int:
    value = _value(element) or ""
    return int(value) if value.isdecimal() and len(value) < 10 else default
