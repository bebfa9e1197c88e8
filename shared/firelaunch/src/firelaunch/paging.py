"""Pages of a list, and the cursors that lead to the next page."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from .errors import InvalidCursor, InvalidId
from .scope import check_id
from .store.base import Document

__all__ = ["Page", "iso_time", "page_after", "page_cursor"]


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of items, and the cursor of the next page (None at the end)."""

    items: list[T]
    next_cursor: str | None


def iso_time(value: Any) -> str | None:
    """Return a stored time as clients get it: ISO 8601 in UTC with microseconds; None for anything but a time."""
    if not isinstance(value, datetime):
        return None
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def page_cursor(documents: list[Document], limit: int, field: str) -> str | None:
    """Return the cursor after the first ``limit`` of ``documents``, which are sorted by the time ``field``.

    It is None at the end, if there are no more than ``limit`` documents.
    """
    if len(documents) <= limit:
        return None
    last = documents[limit - 1]
    return _cursor(iso_time(last.data[field]), last.id)


def _cursor(at: str | None, last_id: str) -> str:
    position = json.dumps([at, last_id], separators=(",", ":"))
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def page_after(cursor: str | None) -> list[Any] | None:
    """Return the position that a cursor stands for, for ``Query.after``.

    Raises:
        InvalidCursor: the cursor is not one of ours: :func:`page_cursor` would write the position in another way.
    """
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        at, last_id = json.loads(raw)
        moment = datetime.fromisoformat(at)
        # Other spellings, such as those with offsets, can stand for times outside the calendar, which databases reject.
        if _cursor(iso_time(moment), check_id(last_id)) != cursor:
            raise InvalidCursor
    except (binascii.Error, ValueError, TypeError, OverflowError, RecursionError, InvalidId):
        raise InvalidCursor from None
    return [moment, last_id]
