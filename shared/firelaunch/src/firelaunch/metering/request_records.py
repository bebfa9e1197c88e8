"""Read the records of an app's requests, ``apps/{app}/requests/{request}``, for its admins.

docs/metering.md describes the fields of a record. :mod:`firelaunch.turns.answer` and
:mod:`firelaunch.metering.model_calls` write them.
"""

from __future__ import annotations

from typing import Any, Literal

from ..errors import NotFound
from ..paging import iso_time
from ..scope import Scope
from ..store.base import Document, DocumentStore, Filter, Order, Query

__all__ = ["Ranking", "request_records", "request_view", "requests_of_days"]

Ranking = Literal["latest", "slowest", "dearest", "failed"]
"""In which order requests are listed; "failed" are those that failed, latest first."""

_LATEST = (Order("settled_at", descending=True),)
_SHOWN = (
    "uid",
    "group",
    "writer",
    "chat_id",
    "state",
    "outcome",
    "finish",
    "error",
    "day",
    "plan",
    "calls",
    "usage",
    "retrieval",
)
_LOGGED = ("log_id", "trace")
_MOST_OF_ONE = 100
_TIMES = ("first_token_ms", "total_ms", "admission_ms", "store_ms", "tools_ms")


def requests_of_days(
    store: DocumentStore, app: Scope, days: list[str], ranking: Ranking, limit: int
) -> list[dict[str, Any]]:
    """Return requests that ended, of at most 30 days (UTC), in the order of ``ranking``.

    Each order has an index of its own, so it reads ``limit`` documents, however many there are.
    """
    if ranking == "slowest":
        slowest = (Order("total_ms", descending=True),)
        query = Query(app.requests(), where=(Filter("day", "in", days),), order=slowest, limit=limit)
    elif ranking == "dearest":
        dearest = (Order("usage.cost_micro_usd", descending=True),)
        query = Query(app.requests(), where=(Filter("day", "in", days),), order=dearest, limit=limit)
    elif ranking == "failed":
        failed = (Filter("day", "in", days), Filter("outcome", "==", "failed"))
        query = Query(app.requests(), where=failed, order=_LATEST, limit=limit)
    else:
        query = Query(app.requests(), where=(Filter("day", "in", days),), order=_LATEST, limit=limit)
    return [_view(document) for document in store.query(query)]


def request_records(store: DocumentStore, app: Scope, request_id: str) -> list[Document]:
    """Return the records that an id names, in the order in which they began: at least one, at most 100.

    Args:
        request_id: a record's own id, or the ``log_id`` of the HTTP request that it was made for. One HTTP request may
            have several records, such as one for each extraction.

    Raises:
        NotFound: there is none, or it was deleted after 30 days.
    """
    document = store.get(app.request(request_id))
    if document is not None:
        return [document]
    logged = (Filter("log_id", "==", request_id),)
    found = store.query(Query(app.requests(), where=logged, limit=_MOST_OF_ONE))
    if not found:
        raise NotFound
    return sorted(found, key=lambda record: record.data["created_at"])


def request_view(store: DocumentStore, app: Scope, request_id: str) -> dict[str, Any]:
    """Return one request, the first of those that :func:`request_records` returns.

    Raises:
        NotFound: as there.
    """
    return _view(request_records(store, app, request_id)[0])


def _view(document: Document) -> dict[str, Any]:
    data = document.data
    return {
        "id": document.id,
        "kind": data.get("kind", "turn"),
        **{name: data.get(name) for name in (*_SHOWN, *_TIMES, *_LOGGED)},
        "created_at": iso_time(data["created_at"]),
        "settled_at": iso_time(data.get("settled_at")),
    }
