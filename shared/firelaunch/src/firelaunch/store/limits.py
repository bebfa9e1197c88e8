"""Firestore's limits, for stores that have no server to enforce them, so that an app meets them on a laptop too.

The numbers are those of https://firebase.google.com/docs/firestore/quotas and, for sizes,
https://firebase.google.com/docs/firestore/storage-size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from ..errors import ScopeViolation, StoreError
from ..scope import split
from .base import EQUALITIES, MAX_WRITES, Filter, Query, Verify, Write

__all__ = [
    "MAX_DEPTH",
    "MAX_DOCUMENT_BYTES",
    "check_commit",
    "check_document",
    "check_field_name",
    "check_path",
    "check_query",
    "check_request",
    "size_of",
]

MAX_DOCUMENT_BYTES: Final = 1_048_576
MAX_DEPTH: Final = 20
"""The most levels of maps and lists in a document."""

_REQUEST_BYTES = 10 * 1024 * 1024
_VALUE_BYTES = 1_048_487
"""The most bytes of one text."""

_NAME_BYTES = 1500
"""The most bytes of a field's name together with those of the maps around it, as the emulator has it."""

_PATH_BYTES = 6 * 1024
_PATH_IDS = 200
"""The most ids in a path: subcollections may be 100 levels deep."""

_ALTERNATIVES = 30
"""The most values of an ``in``, and the most combinations of the values of several of them."""

_RESERVED = re.compile(r"__.*__", re.DOTALL)


@lru_cache(maxsize=4096)
def check_path(path: str) -> None:
    """Refuse a path with an id that Firestore does not take.

    Raises:
        StoreError: an id is empty, "." or "..", of the form ``__x__``, over 1,500 bytes or no valid UTF-8; or the path
            is too long or too deep.
    """
    try:
        ids = split(path)
    except ScopeViolation as error:
        raise StoreError(reason=f"Firestore takes no such path: {error.reason}") from None
    if len(ids) > _PATH_IDS or len(path.encode()) > _PATH_BYTES:
        raise StoreError(reason=f"a path has at most {_PATH_BYTES} bytes and {_PATH_IDS // 2} levels")


def check_field_name(name: Any, path: int = 0) -> None:
    """Refuse a field's name that Firestore does not take.

    Args:
        path: the bytes of the names of the maps around the field, each with one byte for its dot.

    Raises:
        StoreError: ``name`` is no string, empty, of the form ``__x__``, or too long.
    """
    if not name or not isinstance(name, str):
        raise StoreError(reason="a field's name is a string that is not empty")
    if _RESERVED.fullmatch(name):
        raise StoreError(reason=f"{name[:80]!r} cannot be a field's name: Firestore keeps names of the form __x__")
    if path + len(name.encode("utf-8", "replace")) > _NAME_BYTES:
        raise StoreError(reason=f"the field's name {name[:40]!r}... has over {_NAME_BYTES} bytes with those around it")


def check_document(path: str, data: Mapping[str, Any], text: str) -> None:
    """Refuse a document over 1 MiB.

    Args:
        text: the document as JSON. If it is short enough, the document's size need not be computed.

    Raises:
        StoreError: the document is too large, or a string is not valid Unicode.
    """
    if len(text) * 8 > MAX_DOCUMENT_BYTES // 2 and (size := size_of(path, data)) > MAX_DOCUMENT_BYTES:
        raise StoreError(reason=f"the document {path} has {size:,} bytes; Firestore takes {MAX_DOCUMENT_BYTES:,}")


def check_request(size: int) -> None:
    """Refuse a commit whose documents have more bytes together than Firestore takes in one request.

    Raises:
        StoreError: they have.
    """
    if size > _REQUEST_BYTES:
        raise StoreError(reason=f"a commit has at most {_REQUEST_BYTES:,} bytes; this one has about {size:,}")


def size_of(path: str, data: Mapping[str, Any]) -> int:
    """Return the size of a document in bytes, as Firestore computes it.

    Raises:
        StoreError: a text is too long by itself, or not valid Unicode.
    """
    try:
        name = sum(len(part.encode()) + 1 for part in path.split("/")) + 16
        return name + _map_size(data) + 32
    except UnicodeEncodeError:
        raise StoreError(reason="a string is not valid Unicode") from None


def _map_size(data: Mapping[str, Any]) -> int:
    return sum(len(name.encode()) + 1 + _value_size(value) for name, value in data.items())


def _value_size(value: Any) -> int:
    match value:
        case None | bool():
            return 1
        case int() | float() | datetime():
            return 8
        case str():
            return _text_size(value.encode()) + 1
        case bytes():
            return _text_size(value)
        case Mapping():
            return _map_size(value) or 1
        case _:
            return sum(map(_value_size, value)) or 1


def _text_size(value: bytes) -> int:
    if len(value) > _VALUE_BYTES:
        raise StoreError(reason=f"a text has {len(value):,} bytes; Firestore takes {_VALUE_BYTES:,}")
    return len(value)


def check_commit(writes: Sequence[Write]) -> None:
    """Refuse a commit with a path that Firestore does not take, or with too many writes.

    Raises:
        StoreError: an id in a path is not valid.
        ValueError: more than ``MAX_WRITES`` writes.
    """
    if sum(type(write) is not Verify for write in writes) > MAX_WRITES:
        raise ValueError(f"a commit has at most {MAX_WRITES} writes")
    for write in writes:
        check_path(write.path)


def check_query(query: Query) -> None:
    """Refuse a query that Firestore does not run.

    Raises:
        StoreError: an ``in`` has no values or more than 30, or a value cannot be compared so.
    """
    check_path(query.collection)
    alternatives = 1
    for item in query.where:
        if item.op == "in":
            alternatives *= _values_of(item)
        elif item.op not in {"==", "!="} and (item.value is None or _is_nan(item.value)):
            raise StoreError(
                reason=f"{item.field!r} {item.op} {item.value!r}: Firestore compares it with == and != alone"
            )
    if alternatives > _ALTERNATIVES:
        raise StoreError(reason=f"the values of the filters 'in' make {alternatives} combinations; Firestore takes 30")
    contained = [item.field for item in query.where if item.op == "array_contains"]
    if len(contained) > 1:
        raise StoreError(reason=f"Firestore takes one filter 'array_contains' in a query, not {len(contained)}")
    if contained and (query.order or any(item.op not in EQUALITIES for item in query.where)):
        raise StoreError(reason=f"{contained[0]!r} array_contains: documents that are found so come by id alone")
    unlike = [item.field for item in query.where if item.op == "!="]
    if len(unlike) > 1:
        raise StoreError(reason=f"Firestore takes one filter '!=' in a query, not {len(unlike)}")


def _values_of(item: Filter) -> int:
    values = item.value
    if not isinstance(values, list | tuple) or not 1 <= len(values) <= _ALTERNATIVES:
        raise StoreError(reason=f"{item.field!r} in: Firestore takes 1 to {_ALTERNATIVES} values in a list")
    return len(values)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
