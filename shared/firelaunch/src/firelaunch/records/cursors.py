"""Cursors that lead to a list's next page. A cursor belongs to one query of one collection of one user or app."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from ..errors import InvalidCursor, InvalidId
from ..scope import check_record_id
from ..store.base import Query

__all__ = ["cursor_of", "position_of"]

_DECODERS: Mapping[str, Callable[[str], Any]] = {"s": str, "t": datetime.fromisoformat, "b": bytes.fromhex}


def cursor_of(query: Query, position: Sequence[Any]) -> str:
    """Return the cursor of the page of ``query`` that begins after ``position``."""
    text = json.dumps([_mark(query), *map(_encoded, position)], separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def position_of(query: Query, cursor: str | None) -> list[Any] | None:
    """Return the position of a cursor in ``query``, for ``Query.after``.

    Raises:
        InvalidCursor: the cursor is not one of this query's, or none at all.
    """
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        mark, *values = json.loads(raw)
        position = [_decoded(value) for value in values]
        check_record_id(position[-1])
        if len(position) != len(query.order) + 1 or cursor_of(query, position) != cursor or mark != _mark(query):
            raise InvalidCursor
    except (binascii.Error, ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError, InvalidId):
        raise InvalidCursor from None
    return position


def _mark(query: Query) -> str:
    """Return what tells this query's cursors from those of all others."""
    where = [[item.field, item.op, _encoded(item.value)] for item in query.where]
    order = [[item.field, item.descending] for item in query.order]
    return sha256(json.dumps([query.collection, where, order]).encode()).hexdigest()[:20]


def _encoded(value: Any) -> Any:
    match value:
        case str():
            return f"s{value}"
        case datetime():
            return f"t{value.astimezone(UTC).isoformat()}"
        case bytes():
            return f"b{value.hex()}"
        case list():
            return [_encoded(item) for item in value]
    return value


def _decoded(value: Any) -> Any:
    match value:
        case None | bool():
            return value
        case int() if -(2**63) <= value < 2**63:
            return value
        case float() if math.isfinite(value):
            return value
        case str():
            kind, rest = value[0], value[1:]
            rest.encode()  # JSON can hold what is no valid Unicode
            return _DECODERS[kind](rest)
    raise InvalidCursor
