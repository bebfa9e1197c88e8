"""Convert values to and from the JSON of Firestore's REST API, which other tools can read too
(https://firebase.google.com/docs/firestore/reference/rest/v1/Value).

A reference keeps only the path. The database it is imported into determines its project and database.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .base import GeoPoint, Reference, Vector

__all__ = ["decoded", "encoded"]

_VECTOR = "__vector__"
"""The REST API's mark of a map that is a vector."""


def encoded(value: Any) -> dict[str, Any]:  # noqa: C901 - a branch for each type of value
    """Encode a document's value as JSON.

    Raises:
        TypeError: documents can't hold such a value.
    """
    match value:
        case None:
            return {"nullValue": None}
        case bool():
            return {"booleanValue": value}
        case int():
            return {"integerValue": str(value)}
        case float():
            return {"doubleValue": value if math.isfinite(value) else _name(value)}
        case str():
            return {"stringValue": value}
        case bytes():
            return {"bytesValue": base64.b64encode(value).decode()}
        case datetime():
            return {"timestampValue": value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")}
        case GeoPoint():
            return {"geoPointValue": {"latitude": value.latitude, "longitude": value.longitude}}
        case Reference():
            return {"referenceValue": value.path}
        case Vector():
            items = {"arrayValue": {"values": [encoded(float(item)) for item in value.values]}}
            return {"mapValue": {"fields": {"__type__": {"stringValue": _VECTOR}, "value": items}}}
        case Mapping():
            return {"mapValue": {"fields": {key: encoded(item) for key, item in value.items()}}}
        case list() | tuple():
            return {"arrayValue": {"values": [encoded(item) for item in value]}}
    raise TypeError(f"a {type(value).__name__} is no value of a document")


def decoded(value: Mapping[str, Any]) -> Any:
    """Decode a value that :func:`encoded` wrote. A tuple comes back as a list.

    Raises:
        ValueError: the value is not in that format.
    """
    try:
        ((kind, item),) = value.items()
        return _decoded(kind, item)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not in the form of a value: {error}") from None


def _decoded(kind: str, item: Any) -> Any:  # noqa: C901 - a branch for each type of value
    match kind:
        case "nullValue":
            return None
        case "booleanValue" | "stringValue":
            return _checked(item, bool if kind == "booleanValue" else str)
        case "integerValue":
            return int(item)
        case "doubleValue":
            return float(item)
        case "bytesValue":
            return base64.b64decode(item, validate=True)
        case "timestampValue":
            return datetime.fromisoformat(item).astimezone(UTC)
        case "geoPointValue":
            return GeoPoint(float(item.get("latitude", 0)), float(item.get("longitude", 0)))
        case "referenceValue":
            return Reference(_checked(item, str))
        case "arrayValue":
            return [decoded(part) for part in item.get("values", [])]
        case "mapValue":
            return _map(item.get("fields", {}))
    raise ValueError(f"{kind!r} is no kind of value")


def _map(fields: Mapping[str, Any]) -> Any:
    if fields.get("__type__") == {"stringValue": _VECTOR}:
        return Vector(tuple(decoded(fields["value"])))
    return {key: decoded(item) for key, item in fields.items()}


def _checked(item: Any, kind: type) -> Any:
    if type(item) is not kind:
        raise ValueError(f"{item!r} is no {kind.__name__}")
    return item


def _name(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
