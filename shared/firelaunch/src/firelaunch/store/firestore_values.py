"""Convert between the port's types and Firestore's own types, for walks and imports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from google.cloud.firestore_v1 import DocumentReference
from google.cloud.firestore_v1 import GeoPoint as GoogleGeoPoint
from google.cloud.firestore_v1.vector import Vector as GoogleVector

from .base import Document, GeoPoint, Reference, Vector

__all__ = ["google_value", "walked"]


def walked(document: Document) -> Document:
    """Return the document with the port's types instead of the client library's."""
    return replace(document, data={key: _plain(value) for key, value in document.data.items()})


def google_value(value: Vector | GeoPoint) -> Any:
    """Return the client library's type for a value."""
    if isinstance(value, Vector):
        return GoogleVector(value.values)
    return GoogleGeoPoint(value.latitude, value.longitude)


def _plain(value: Any) -> Any:
    if isinstance(value, GoogleVector):
        return Vector(tuple(value))
    if isinstance(value, GoogleGeoPoint):
        return GeoPoint(value.latitude, value.longitude)
    if isinstance(value, DocumentReference):
        return Reference(value.path)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
