"""Make a value that fits a JSON schema, always the same one; the offline model answers extractions with it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from itertools import chain, count, islice, takewhile
from re import _constants as op  # type: ignore[attr-defined]  # the standard library's own parser of patterns
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from ...errors import ExtractionFailed
from ..schema_size import MOST_CHARACTERS
from ..strict_schema import resolve

__all__ = ["instance"]

_FORMATS = {
    "date-time": "2024-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "date": "2024-01-01",
    "duration": "P1D",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uri": "https://example.com/",
}
_TRIES = 10_000
_PARTS = 10_000
"""The most parts of the schema to visit.

Definitions that use each other twice would otherwise double the work each time.
"""
_TOO_LARGE = "The schema's smallest value is too large for the offline model."
_TOO_FAR = "The offline model's numbers do not reach as far as the schema's; a real model's may."
_ENDLESS = "The schema wants a value inside itself without end; make the property optional or an array."

Node = Mapping[str, Any]
Open = frozenset[str]


def instance(schema: Node) -> Any:
    """Return a value that fits ``schema``.

    Raises:
        ExtractionFailed: the offline model cannot make one, for example for a pattern with look-around, or it is too
            large.
    """
    try:
        return _Maker(schema).first(schema, frozenset())
    except RecursionError:
        raise ExtractionFailed(_TOO_LARGE) from None
    except (OverflowError, ZeroDivisionError):  # between integers of any size and floats
        raise ExtractionFailed(_TOO_FAR) from None


class _Room:
    """The characters, items and tries that a value may still take, ``MOST_CHARACTERS`` in all."""

    def __init__(self) -> None:
        self.left = MOST_CHARACTERS

    def take(self, size: int) -> None:
        """Take ``size`` before something of that size is made.

        Raises:
            ExtractionFailed: less than that is left; nothing is taken.
        """
        if size > self.left:
            raise ExtractionFailed(_TOO_LARGE)
        self.left -= size


class _Maker:
    """Makes one value. ``within`` holds the references around the current value; none is entered twice."""

    def __init__(self, schema: Node) -> None:
        self._schema = schema
        self._parts = 0
        self._room = _Room()

    def first(self, node: Node, within: Open) -> Any:
        return next(self._values(node, within))

    def _values(self, node: Node, within: Open) -> Iterator[Any]:
        """Yield different values that fit ``node``; at least one, or raise an error."""
        self._parts += 1
        if self._parts > _PARTS:
            raise ExtractionFailed(_TOO_LARGE)
        if "$ref" in node:
            if node["$ref"] in within:
                raise ExtractionFailed(_ENDLESS)
            within |= {node["$ref"]}
            node = resolve(node, self._schema)
        if "allOf" in node:
            node = {**node["allOf"][0], **{k: v for k, v in node.items() if k != "allOf"}}
            if "$ref" in node:
                yield from self._values(node, within)
                return
        options = node.get("anyOf") or node.get("oneOf")
        if options:
            yield from self._first_that_ends(options, within)
        elif "const" in node:
            yield node["const"]
        elif "enum" in node:
            yield from (value for value in node["enum"] if _of_type(value, node))
        else:
            yield from self._by_type(node, within)

    def _first_that_ends(self, options: list[Node], within: Open) -> Iterator[Any]:
        last = ExtractionFailed(_ENDLESS)
        for option in options:
            values = self._values(option, within)
            try:
                first = next(values)
            except ExtractionFailed as error:
                last = error
                continue
            yield first
            yield from values
            return
        raise last

    def _by_type(self, node: Node, within: Open) -> Iterator[Any]:
        kinds = node.get("type")
        kind = next((kind for kind in kinds if kind != "null"), "null") if isinstance(kinds, list) else kinds
        if kind in {"integer", "number"}:
            yield from _numbers(node, self._room, integer=kind == "integer")
        elif kind == "string":
            yield from _texts(node, self._room)
        elif kind == "boolean":
            yield from (True, False)
        elif kind == "array" or "items" in node:
            yield self._array(node, within)
        elif kind == "object" or "properties" in node:
            yield self._object(node, within)
        else:
            yield None

    def _object(self, node: Node, within: Open) -> dict[str, Any]:
        properties, required = node.get("properties", {}), node.get("required", ())
        value = {name: self.first(properties[name], within) for name in properties if name in required}
        for name in properties:
            if name in value or len(value) >= node.get("maxProperties", math.inf):
                continue
            try:
                value[name] = self.first(properties[name], within)
            except ExtractionFailed:
                continue  # it may be left out
        return value

    def _array(self, node: Node, within: Open) -> list[Any]:
        least, most = int(node.get("minItems", 0)), node.get("maxItems", 1)
        length = max(least, min(1, int(most)))
        try:
            self._room.take(length)
            if not node.get("uniqueItems"):
                before = self._room.left
                item = self.first(node["items"], within)
                self._room.take((before - self._room.left) * max(0, length - 1))
                return [item] * length
            items = list(islice(self._values(node["items"], within), length))
        except ExtractionFailed:
            if least == 0:
                return []
            raise
        if len(items) < least:
            raise ExtractionFailed("The offline model cannot make up so many different items; a real one may.")
        return items


def _numbers(node: Node, room: _Room, *, integer: bool) -> Iterator[Any]:
    step = node.get("multipleOf", 1)
    low, high = node.get("minimum", -math.inf), node.get("maximum", math.inf)
    over, under = node.get("exclusiveMinimum", -math.inf), node.get("exclusiveMaximum", math.inf)
    least, most = max(low, over), min(high, under)
    start = math.ceil(least / step) if least > 0 else math.floor(most / step) if most < 0 else 0
    upward = takewhile(lambda value: value <= most, (step * (start + n) for n in range(_TRIES)))
    downward = takewhile(lambda value: value >= least, (step * (start - n) for n in range(1, _TRIES)))
    middle = () if integer or "multipleOf" in node or math.isinf(least + most) else ((least + most) / 2,)
    any_number = False
    for value in chain(upward, downward, middle):
        room.take(1)
        if low <= value <= high and over < value < under and (not integer or value == int(value)):
            any_number = True
            yield int(value) if integer else value
    if not any_number:
        raise ExtractionFailed("The schema allows no number that the offline model can find.")


def _texts(node: Mapping[str, Any], room: _Room) -> Iterator[str]:
    least, most = int(node.get("minLength", 0)), node.get("maxLength", math.inf)
    if "pattern" in node:
        example = _of_pattern(node["pattern"], room)
        if not least <= len(example) <= most:
            raise ExtractionFailed("The offline model finds no text of that pattern and length; a real one may.")
        yield example
    elif node.get("format") in _FORMATS:
        yield _FORMATS[node["format"]]
    else:
        for number in count(1):
            room.take(least + 1)
            text = ("offline" if number == 1 else f"offline {number}").ljust(least, ".")
            if len(text) > most:
                text = str(number)[-int(most) :] if most else ""
                yield text.rjust(least, "0")
                if most == 0 or len(str(number)) > most:
                    return
            else:
                yield text


def _of_type(value: Any, node: Mapping[str, Any]) -> bool:
    if "type" not in node:
        return True
    kinds = node["type"] if isinstance(node["type"], list) else [node["type"]]
    names = {type(None): {"null"}, bool: {"boolean"}, int: {"integer", "number"}, float: {"number"}, str: {"string"}}
    return bool(names.get(type(value), set()) & set(kinds))


def _of_pattern(pattern: str, room: _Room) -> str:
    try:
        text = "".join(_pieces(parser.parse(pattern), room))
    except (re.error, KeyError, IndexError, NotImplementedError, OverflowError):
        raise ExtractionFailed("The offline model cannot make up a text of that pattern; a real one may.") from None
    return text


_CLASSES = {op.CATEGORY_DIGIT: "0", op.CATEGORY_WORD: "a", op.CATEGORY_SPACE: " "}


def _pieces(tree: Any, room: _Room) -> Iterator[str]:
    for kind, value in tree:
        if kind is op.LITERAL:
            yield chr(value)
        elif kind is op.ANY:
            yield "a"
        elif kind is op.IN:
            yield _member(value)
        elif kind in {op.MAX_REPEAT, op.MIN_REPEAT}:
            least, most, inner = value
            pieces, times = list(_pieces(inner, room)), min(max(least, 1), most)
            room.take(len(pieces) * times)
            yield from pieces * times
        elif kind is op.SUBPATTERN:
            yield from _pieces(value[3], room)
        elif kind is op.BRANCH:
            yield from _pieces(value[1][0], room)
        elif kind is not op.AT:
            raise NotImplementedError


def _member(choices: list[Any]) -> str:
    if choices[0][0] is op.NEGATE:
        outside = {chr(value) for kind, value in choices if kind is op.LITERAL}
        if any(kind not in {op.NEGATE, op.LITERAL} for kind, _ in choices):
            raise NotImplementedError
        return next(letter for letter in "abcdefghij0123456789" if letter not in outside)
    kind, value = choices[0]
    if kind is op.LITERAL:
        return chr(value)
    return chr(value[0]) if kind is op.RANGE else _CLASSES[value]
