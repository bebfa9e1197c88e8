"""Apply writes to a document's fields: merges, dotted paths, increments, the commit's time, and removed fields."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any

from ..errors import StoreError
from .base import DELETE_FIELD, SERVER_TIME, Increment

__all__ = ["apply_set", "apply_update"]

_LEAST, _GREATEST = -(2**63), 2**63 - 1
_PLAIN = frozenset({str, int, float, bool, type(None), datetime})
"""The types of values that are stored as they are. Most values are of these, so they need no closer look."""


def apply_set(data: dict[str, Any], changes: Mapping[str, Any], moment: datetime) -> dict[str, Any]:
    """Return ``data`` with ``changes`` merged in, dicts field by field. ``data`` itself does not change."""
    result = dict(data)
    for key, value in changes.items():
        kind = type(value)
        if kind in _PLAIN:
            result[key] = value
        elif kind is not Increment and value and _is_map(value):
            old = result.get(key)
            merged = apply_set(old if isinstance(old, dict) else {}, value, moment)
            if merged or isinstance(old, dict):  # removing a field of a missing map does not create the map
                result[key] = merged
        else:
            _assign(result, key, value, moment)
    return result


def apply_update(data: dict[str, Any], changes: Mapping[str, Any], moment: datetime) -> dict[str, Any]:
    """Return ``data`` with each field path of ``changes`` replaced. ``data`` itself does not change.

    Raises:
        StoreError: one path leads into another.
    """
    if any("." in path for path in changes):
        for shorter, longer in pairwise(sorted(changes)):
            if longer.startswith(shorter + "."):
                raise StoreError(reason=f"{shorter!r} and {longer!r} are both changed by one write")
    result = dict(data)
    for path, value in changes.items():
        *parents, key = path.split(".") if "." in path else (path,)
        if parents and value is DELETE_FIELD and not _is_map_at(result, parents):
            continue
        parent_map = result
        for parent in parents:
            old = parent_map.get(parent)
            parent_map[parent] = dict(old) if isinstance(old, dict) else {}
            parent_map = parent_map[parent]
        if type(value) in _PLAIN:
            parent_map[key] = value
        elif _is_map(value):
            parent_map[key] = apply_set({}, value, moment)
        else:
            _assign(parent_map, key, value, moment)
    return result


def _is_map(value: Any) -> bool:
    kind = type(value)
    return kind is dict or (kind is not str and isinstance(value, Mapping))


def _is_map_at(data: Any, parts: list[str]) -> bool:
    for part in parts:
        data = data.get(part) if isinstance(data, dict) else None
    return isinstance(data, dict)


def _assign(parent_map: dict[str, Any], key: str, value: Any, moment: datetime) -> None:
    if value is DELETE_FIELD:
        parent_map.pop(key, None)
    elif value is SERVER_TIME:
        parent_map[key] = moment
    elif isinstance(value, Increment):
        old: Any = parent_map.get(key)
        numeric = isinstance(old, int | float) and not isinstance(old, bool)
        total = (old if numeric else 0) + value.by
        # Firestore stops at the least and the greatest integer (``FieldTransform.increment`` in its API).
        parent_map[key] = max(_LEAST, min(_GREATEST, total)) if isinstance(total, int) else total
    else:
        parent_map[key] = value
