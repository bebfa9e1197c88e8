"""Encode Firestore's values as JSON text that SQLite can compare in Firestore's order.

Times and bytes become strings behind a mark that no other string begins with. A string that does begin with a mark is
escaped. The marks are the first and the last character that exist, so times sort before strings, and bytes after them.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

from ..errors import StoreError
from .limits import MAX_DEPTH, check_field_name

__all__ = ["bounds", "decode", "encode", "encode_scalar"]

_FIRST, _LAST = "\u0001", "\U0010ffff"
_TIME, _STRING, _FLOAT, _BYTES = _FIRST + "t", _FIRST + "s", _FIRST + "f", _LAST + "b"
_MARKS = (_FIRST, _LAST)
_MOST_INT = 2**63

_AS_THEY_ARE = (bool, type(None))
_SUSPICIOUS, _SHORT = ("", "__"), 300
"""How a field's name begins, and its length, if it may be none that Firestore takes. Others need no closer look."""


def encode(data: Mapping[str, Any]) -> str:
    """Return a document as JSON text.

    Raises:
        StoreError: a value is of another kind, a number is out of range, a field's name is not valid, or maps and lists
            are nested too deep.
    """
    try:
        return to_json(_packed_map(data, 0, 0)).decode()
    except PydanticSerializationError:
        raise StoreError(reason="a string is not valid Unicode") from None


def decode(text: str) -> dict[str, Any]:
    """Return the document that ``encode`` turned into ``text``."""
    return _unpacked_map(from_json(text))


def encode_scalar(value: Any) -> Any:
    """Return a value as ``json_extract`` would return it, for comparisons.

    Raises:
        StoreError: ``value`` is a list or a dict, which cannot be compared.
    """
    packed = _packed(value, 0, 0)
    if isinstance(packed, list | dict):
        raise StoreError(reason="a list or a dict cannot be compared in a query")
    return packed


def bounds(value: Any) -> tuple[str, list[Any]]:
    """Return SQL over ``{0}`` (a value) and ``{1}`` (its JSON type) that selects values of the kind of ``value``."""
    if value is None:
        return "{1} = 'null'", []
    if isinstance(value, bool):
        return "{1} IN ('true', 'false')", []
    if isinstance(value, int | float):
        return "{1} IN ('integer', 'real')", []
    if isinstance(value, datetime):
        return "{0} >= ? AND {0} < ?", [_TIME, _TIME + "\uffff"]
    if isinstance(value, bytes):
        return "{0} >= ?", [_BYTES]
    return "({1} = 'text' AND ({0} < ? OR {0} >= ?) AND {0} < ?)", [_FIRST, "\u0002", _LAST]


def _packed(value: Any, depth: int, path: int) -> Any:  # noqa: C901 - a branch for each type of value
    kind = type(value)  # handles most values, and faster than the match statement below
    if kind is str:
        return _STRING + value if value.startswith(_MARKS) else value
    if kind is dict:
        return _packed_map(value, depth, path)
    if kind in _AS_THEY_ARE or (kind is int and -_MOST_INT <= value < _MOST_INT):
        return value
    if kind is datetime:
        return _TIME + _moment(value)
    match value:
        case None | bool():
            return value
        case str():
            return _STRING + value if value.startswith(_MARKS) else value
        case int():
            if not -_MOST_INT <= value < _MOST_INT:
                raise StoreError(reason="an integer has at most 64 bits")
            return value
        case float():
            return value if math.isfinite(value) else _FLOAT + repr(value)
        case datetime():
            return _TIME + _moment(value)
        case bytes():
            return _BYTES + base64.b16encode(value).decode()
        case Mapping():
            return _packed_map(value, depth, path)
        case list() | tuple():
            if value:
                _check_depth(depth)
            return [_element(item, depth + 1, path) for item in value]
    raise StoreError(reason=f"a value of type {type(value).__name__} cannot be stored")


def _packed_map(value: Mapping[Any, Any], depth: int, path: int) -> dict[str, Any]:
    """Return a map whose own path of field names has ``path`` bytes."""
    if value:
        _check_depth(depth)
    packed = {}
    for key, item in value.items():
        if type(key) is not str or key[:2] in _SUSPICIOUS or path + len(key) > _SHORT:
            check_field_name(key, path)
        # Most items are as they are stored. A call for each of them would cost noticeable time.
        kind = type(item)
        if kind is str:
            packed[key] = _STRING + item if item.startswith(_MARKS) else item
        elif kind in _AS_THEY_ARE or (kind is int and -_MOST_INT <= item < _MOST_INT):
            packed[key] = item
        else:
            packed[key] = _packed(item, depth + 1, path + len(key.encode("utf-8", "replace")) + 1)
    return packed


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise StoreError(reason=f"maps and lists are nested at most {MAX_DEPTH} deep")


def _element(item: Any, depth: int, path: int) -> Any:
    if isinstance(item, list | tuple):
        raise StoreError(reason="Firestore takes no list directly inside a list")
    return _packed(item, depth, path)


def _moment(value: datetime) -> str:
    if value.tzinfo is None:
        raise StoreError(reason="a time without its zone cannot be stored")
    return value.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _unpacked(value: Any) -> Any:
    kind = type(value)
    if kind is str:
        return _marked(value) if value.startswith(_MARKS) else value
    if kind is dict:
        return _unpacked_map(value)
    if kind is list:
        return [_unpacked(item) for item in value]
    return value


def _unpacked_map(data: dict[str, Any]) -> dict[str, Any]:
    for key, value in data.items():
        kind = type(value)
        if kind is str:
            if value.startswith(_MARKS):
                data[key] = _marked(value)
        elif kind is dict:
            _unpacked_map(value)
        elif kind is list:
            data[key] = _unpacked(value)
    return data


def _marked(text: str) -> Any:
    kind, rest = text[:2], text[2:]
    if kind == _TIME:
        return datetime.fromisoformat(rest)
    if kind == _BYTES:
        return base64.b16decode(rest)
    return float(rest) if kind == _FLOAT else rest
