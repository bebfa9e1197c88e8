"""Encode plain values as Firestore's REST API does."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

__all__ = ["SERVER_TIME", "LatLng", "ReferenceValue", "fields", "is_server_time", "value"]


_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
"""Numbers that are not finite, as protobuf's JSON writes them (https://protobuf.dev/programming-guides/json/)."""


class _ServerTime:
    def __repr__(self) -> str:
        return "SERVER_TIME"


SERVER_TIME = _ServerTime()
"""The value of a field that the server sets to the time of the request."""


class ReferenceValue(str):
    """A reference to the document with this path in the same database."""


class LatLng(NamedTuple):
    """A place on Earth, in degrees."""

    latitude: float
    longitude: float


def is_server_time(item: Any) -> bool:
    """Return whether ``item`` is :data:`SERVER_TIME`."""
    return item is SERVER_TIME


def fields(data: Mapping[str, Any], root: str) -> dict[str, Any]:
    """Encode a document's fields without those that the server sets.

    Args:
        root: "projects/<project>/databases/<database>/documents", the beginning of references.
    """
    return {str(name): value(item, root) for name, item in data.items() if not is_server_time(item)}


def value(item: Any, root: str = "") -> dict[str, Any]:  # noqa: C901 - a branch for each type of value
    """Encode a value. ``root`` is as in :func:`fields`.

    Raises:
        ValueError: Firestore has no values of this type or size.
    """
    match item:
        case None:
            return {"nullValue": None}
        case bool():
            return {"booleanValue": item}
        case int():
            if not -(2**63) <= item < 2**63:
                raise ValueError(f"{item} is no integer of 64 bits")
            return {"integerValue": str(item)}
        case float():
            return {"doubleValue": item if math.isfinite(item) else _NOT_FINITE[str(item)]}
        case LatLng():
            return {"geoPointValue": item._asdict()}
        case ReferenceValue():
            return {"referenceValue": f"{root}/{item}"}
        case str():
            return {"stringValue": item}
        case bytes():
            return {"bytesValue": base64.b64encode(item).decode()}
        case datetime():
            aware = item if item.tzinfo else item.replace(tzinfo=UTC)
            return {"timestampValue": aware.astimezone(UTC).isoformat().replace("+00:00", "Z")}
        case date():
            return {"timestampValue": f"{item.isoformat()}T00:00:00Z"}
        case Mapping():
            return {"mapValue": {"fields": fields(item, root)}}
        case list() | tuple():
            return {"arrayValue": {"values": [value(inner, root) for inner in item]}}
    raise ValueError(f"a value of type {type(item).__name__} is none that Firestore has")
