"""What a write makes of a document's fields: merging, dotted paths, increments, the commit's time, removed fields."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any

from ..errors import StoreError
from .base import DELETE_FIELD, SERVER_TIME, Increment

__all__ = ["apply_set", "apply_update"]


def apply_set(data: dict[str, Any], given: Mapping[str, Any], moment: datetime) -> dict[str, Any]:
    """``data`` with ``given`` merged in, dicts field by field. ``data`` itself is not changed."""
    result = dict(data)
    for key, value in given.items():
        if value and _is_map(value):
            there = result.get(key)
            merged = apply_set(there if isinstance(there, dict) else {}, value, moment)
            if merged or isinstance(there, dict):  # removing a field of a map that is not there does not make the map
                result[key] = merged
        else:
            _assign(result, key, value, moment)
    return result


def apply_update(data: dict[str, Any], given: Mapping[str, Any], moment: datetime) -> dict[str, Any]:
    """``data`` with each field path of ``given`` replaced. ``data`` itself is not changed.

    Raises:
        StoreError: one path leads into another.
    """
    if any("." in path for path in given):
        for shorter, longer in pairwise(sorted(given)):
            if longer.startswith(shorter + "."):
                raise StoreError(reason=f"{shorter!r} and {longer!r} are both changed by one write")
    result = dict(data)
    for path, value in given.items():
        *parents, key = path.split(".") if "." in path else (path,)
        if parents and value is DELETE_FIELD and not _is_map_at(result, parents):
            continue
        place = result
        for parent in parents:
            there = place.get(parent)
            place[parent] = dict(there) if isinstance(there, dict) else {}
            place = place[parent]
        if _is_map(value):
            place[key] = apply_set({}, value, moment)
        else:
            _assign(place, key, value, moment)
    return result


def _is_map(value: Any) -> bool:
    kind = type(value)
    return kind is dict or (kind is not str and isinstance(value, Mapping))


def _is_map_at(data: Any, parts: list[str]) -> bool:
    for part in parts:
        data = data.get(part) if isinstance(data, dict) else None
    return isinstance(data, dict)


def _assign(place: dict[str, Any], key: str, value: Any, moment: datetime) -> None:
    if value is DELETE_FIELD:
        place.pop(key, None)
    elif value is SERVER_TIME:
        place[key] = moment
    elif isinstance(value, Increment):
        there: Any = place.get(key)
        numeric = isinstance(there, int | float) and not isinstance(there, bool)
        place[key] = (there if numeric else 0) + value.by
    else:
        place[key] = value
