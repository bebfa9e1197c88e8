"""Encode plain values as Firestore's REST API does."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

__all__ = ["DELETE_FIELD", "SERVER_TIME", "FromNow", "LatLng", "ReferenceValue", "Transform", "fields", "value"]


_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
"""Numbers that are not finite, as protobuf's JSON writes them (https://protobuf.dev/programming-guides/json/)."""


@dataclass(frozen=True, slots=True)
class Transform:
    """What a write does to a field other than to set it.

    Args:
        kind: "server_time", "delete", "increment", "array_union" or "array_remove".
        operand: the number, or the elements.
    """

    kind: str
    operand: Any = None

    def encoded(self, root: str) -> dict[str, Any]:
        """Encode it as a field transform without its path. A field to delete has none."""
        match self.kind:
            case "server_time":
                return {"setToServerValue": "REQUEST_TIME"}
            case "increment":
                return {"increment": value(self.operand)}
            case "array_union":
                return {"appendMissingElements": {"values": [value(item, root) for item in self.operand]}}
            case _:
                return {"removeAllFromArray": {"values": [value(item, root) for item in self.operand]}}


SERVER_TIME = Transform("server_time")
"""The value of a field that the server sets to the time of the request."""
DELETE_FIELD = Transform("delete")
"""The value of a field that an update takes out."""


class FromNow(datetime):
    """A time that was given as a span from now, as ``!now +10m``. It is written so, too."""

    written: str

    def __repr__(self) -> str:
        return self.written


class ReferenceValue(str):
    """A reference to the document with this path in the same database."""


class LatLng(NamedTuple):
    """A place on Earth, in degrees."""

    latitude: float
    longitude: float


def fields(data: Mapping[str, Any], root: str) -> dict[str, Any]:
    """Encode a document's fields without those that are no plain values.

    Args:
        root: "projects/<project>/databases/<database>/documents", the beginning of references.
    """
    return {str(name): value(item, root) for name, item in data.items() if not isinstance(item, Transform)}


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
        case Transform():
            raise ValueError(f"!{item.kind} stands for a field of what a case writes, and nowhere else")
    raise ValueError(f"a value of type {type(item).__name__} is none that Firestore has")
