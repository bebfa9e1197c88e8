"""Compute the app's sums again from the records of calls and requests, and fold the hours of a day into one document.

The nightly job does both (:mod:`firelaunch.worker.tasks.rollup`). A commit stores a cost, its records and its sums
together or not at all, so there is something to repair only where a commit went without its sums, or where somebody
changed documents by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ..errors import AlreadyExists, Contention, NotFound, PreconditionFailed
from ..scope import Scope
from ..store.base import Create, Delete, Document, DocumentStore, Filter, Query, Update, Verify, Write
from .sum_reports import by_hour_of, hours_of_day, hours_query, merged, point_of
from .sums import Tree, add_call, add_request, added, hour_write, sum_paths, user_writes

__all__ = ["PAID", "folded_fields", "is_final", "recount", "repair_user"]

PAID: Final = ("cost_micro_usd", "input_tokens", "cached_input_tokens", "output_tokens")
"""The figures that a user's day and the sums of users both hold."""

_PAGE = 200
_TRIES = 4
_MOST_CELLS = 1_000
"""Cells of calls in the document of a day; all others are one. They stay below 400 kB."""

_LATE = timedelta(minutes=15)
"""The time after its reservation's end for which a settlement may come, as after several tries."""


def is_final(hour: str, now: datetime, reservation_seconds: float) -> bool:
    """Return whether whatever ended in an hour has been settled by now."""
    end = datetime.strptime(hour, "%Y-%m-%dT%H").replace(tzinfo=UTC) + timedelta(hours=1, seconds=reservation_seconds)
    return end + _LATE <= now


def recount(
    store: DocumentStore, app: Scope, hours: Sequence[str], check: Callable[[], None] = lambda: None
) -> list[str]:
    """Compute the sums of hours again from their records, and replace what is stored where it differs.

    The documents are read before the records, and replaced only if nobody changed them meanwhile. So what settles
    during the recount is never lost. Records of users who were erased since are gone: then figures are only raised.

    Args:
        hours: hours of one day.
        check: is called between pages. Its errors pass through.

    Returns:
        the hours whose sums were replaced.
    """
    left, replaced = list(hours), list[str]()
    for _ in range(_TRIES):
        if not left:
            break
        there = by_hour_of(store.query(hours_query(app, left)))
        counted = _counted(store, app, left, check)
        raised_only = _erased_since(store, app, min(left))
        again = list[str]()
        for hour in left:
            own = there.get(hour, [])
            stored, tree = merged(own), counted[hour]
            tree = _higher(stored, tree) if raised_only else tree
            if "refusals" in stored:  # refused requests have no records
                tree = {**tree, "refusals": stored["refusals"]}
            if tree != stored:
                (replaced if _replace(store, app, hour, own, tree) else again).append(hour)
        left = again
    return replaced


def repair_user(store: DocumentStore, user: Scope, day: str, total: Document | None, usage: Document) -> bool:
    """Make a user's sums of a day, and of its month, what the user's document of the day says.

    Args:
        total: the sums of the day, as they were read before ``usage``.

    Returns:
        whether they differed.
    """
    paid = {name: int(usage.data.get(name, 0)) for name in PAID}
    data: Mapping[str, Any] = {} if total is None else total.data
    lacking = {name: paid[name] - int(data.get(name, 0)) for name in PAID}
    if not any(lacking.values()):
        return False
    of_day, of_month = user_writes(user, day, lacking)
    path = user.user_sum(day)
    repair: list[Write] = [Create(path, {**of_day.data, **paid})] if total is None else []
    if total is not None:
        repair = [Update(path, paid, if_updated_at=total.update_time)]
    try:
        store.commit([*repair, of_month])
    except (AlreadyExists, NotFound, PreconditionFailed):
        return False  # somebody was at work for the user: the next night's job looks again
    return True


def folded_fields(store: DocumentStore, app: Scope, day: str, now: datetime, reservation_seconds: float) -> Tree:
    """Return the fields of a day's document that hold the sums of those of its hours that are final."""
    every = hours_of_day(day)
    hours = [hour for hour in every if is_final(hour, now, reservation_seconds)]
    there = by_hour_of(store.query(hours_query(app, hours))) if hours else {}
    trees = [merged(there.get(hour, ())) for hour in hours]
    through = every[len(hours)] if len(hours) < len(every) else f"{day}T24"
    points = {f"h{hour[11:]}": point_of(tree) for hour, tree in zip(hours, trees, strict=True) if tree}
    return {"sums": _bounded(added(trees)), "hours": points, "through": through}


def _counted(store: DocumentStore, app: Scope, hours: Sequence[str], check: Callable[[], None]) -> dict[str, Tree]:
    """Return the sums of hours of one day, as the records have them."""
    trees: dict[str, Tree] = {hour: {} for hour in hours}
    for hour, tree in trees.items():
        for call in _calls(store, app, hour, check):
            add_call(tree, call.data)
    for request in _requests(store, app, hours[0][: len("yyyy-mm-dd")], check):
        for fact in request.data.get("sums", {}).values():
            if fact["hour"] in trees:
                add_request(trees[fact["hour"]], fact)
    return trees


def _calls(store: DocumentStore, app: Scope, hour: str, check: Callable[[], None]) -> Iterator[Document]:
    after: list[Any] | None = None
    while True:
        of_hour = (Filter("hour", "==", hour),)
        page = store.query(Query(app.calls(), where=of_hour, limit=_PAGE, after=after))
        yield from page
        if len(page) < _PAGE:
            return
        check()
        after = [page[-1].id]


def _requests(store: DocumentStore, app: Scope, day: str, check: Callable[[], None]) -> Iterator[Document]:
    after: list[Any] | None = None
    while True:
        ended = (Filter("days", "array_contains", day),)
        page = store.query(Query(app.requests(), where=ended, limit=_PAGE, after=after))
        yield from page
        if len(page) < _PAGE:
            return
        check()
        after = [page[-1].id]


def _erased_since(store: DocumentStore, app: Scope, hour: str) -> bool:
    start = datetime.strptime(hour, "%Y-%m-%dT%H").replace(tzinfo=UTC)
    erasures = Query(f"apps/{app.app_id}/erasures", where=(Filter("begun_at", ">=", start),), limit=1)
    return bool(store.query(erasures))


def _higher(one: Mapping[str, Any], other: Mapping[str, Any]) -> Tree:
    return {
        name: _higher(one.get(name, {}), other.get(name, {}))
        if isinstance(one.get(name, other.get(name)), Mapping)
        else max(one.get(name, 0), other.get(name, 0))
        for name in {**one, **other}
    }


def _replace(store: DocumentStore, app: Scope, hour: str, documents: Sequence[Document], tree: Tree) -> bool:
    """Put ``tree`` in the place of an hour's documents; return False if somebody changed them first."""
    try:
        store.commit(_replacing(app, hour, documents, tree))
    except (AlreadyExists, Contention, NotFound, PreconditionFailed):
        return False
    return True


def _replacing(app: Scope, hour: str, documents: Sequence[Document], tree: Tree) -> list[Write]:
    """Return the writes that put ``tree`` in the place of an hour's documents, if these are as they were read."""
    there = {document.path: document for document in documents}
    figures = {name: tree.get(name, {}) for name in ("calls", "requests", "times", "refusals")}
    fields = {**hour_write(app, hour, {}).data, **figures}
    first, *others = sum_paths(app, hour)
    document = there.get(first)
    writes: list[Write] = [
        Create(first, fields) if document is None else Update(first, fields, if_updated_at=document.update_time)
    ]
    for path in others:
        other = there.get(path)
        writes.append(Verify(path, None) if other is None else Delete(path, if_updated_at=other.update_time))
    return writes


def _bounded(tree: Tree) -> Tree:
    calls: Mapping[str, Mapping[str, int]] = tree.get("calls", {})
    if len(calls) <= _MOST_CELLS:
        return tree
    dearest = sorted(calls.items(), key=lambda item: -item[1].get("cost_micro_usd", 0))
    rest = added({"calls": {"|".join(["other"] * 5): figures}} for _, figures in dearest[_MOST_CELLS:])
    return {**tree, **added([{"calls": dict(dearest[:_MOST_CELLS])}, rest])}
