"""Read the audit log, and add what only reads and so has no commit of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..paging import Page, iso_time, page_after, page_cursor
from ..store.audit import audit_writes
from ..store.base import Document, Filter, Order, Query
from .bundle import Services

__all__ = ["audit_page", "tell"]

_NEWEST = (Order("at", descending=True),)


def tell(services: Services, what: str, by: str, after: Mapping[str, Any]) -> None:
    """Add an entry.

    Args:
        by: the admin's user id.

    Raises:
        StoreError, Contention: the database cannot be reached, or others were in the way for too long.
    """
    store, now = services.store, services.clock()
    services.admission.run(
        store.scope.root, lambda: store.commit(audit_writes(store.scope, what, by, now, after=after))
    )


def audit_page(services: Services, limit: int, cursor: str | None, whom: str | None = None) -> Page[dict[str, Any]]:
    """Return a page of entries, newest first.

    Args:
        whom: the user whom the entries concern; None for all.

    Raises:
        InvalidCursor: ``cursor`` is not one of ours.
        InvalidId: ``whom`` is no valid id.
    """
    store, app, after = services.store, services.store.scope, page_after(cursor)
    if whom is None:
        found = store.query(Query(app.audit(), order=_NEWEST, limit=limit + 1, after=after))
    else:
        own = (Filter("whom", "==", app.of(whom).audit_name().rpartition("/")[2]),)
        found = store.query(Query(app.audit(), where=own, order=_NEWEST, limit=limit + 1, after=after))
    shown = found[:limit]
    pseudonyms = sorted({str(each.data.get(name)) for each in shown for name in ("by", "whom") if each.data.get(name)})
    documents = store.get_many([app.name_of_audit(each) for each in pseudonyms])
    names = {document.id: document.data.get("uid") for document in documents if document is not None}
    return Page([_view(each, names) for each in shown], page_cursor(found, limit, "at"))


def _view(entry: Document, names: Mapping[str, Any]) -> dict[str, Any]:
    people = {name: names.get(str(entry.data.get(name))) or entry.data.get(name) for name in ("by", "whom")}
    facts = {name: _plain(entry.data.get(name)) for name in ("before", "after")}
    rest = {name: entry.data.get(name) for name in ("what", "request_id")}
    return {"id": entry.id, "at": iso_time(entry.data.get("at")), **people, **rest, **facts}


def _plain(value: Any) -> Any:
    return {name: iso_time(each) or each for name, each in value.items()} if isinstance(value, Mapping) else None
