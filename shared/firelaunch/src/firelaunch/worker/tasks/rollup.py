"""Sum the usage of all users of an app for each day into one document, and release reservations that never settled.

Both jobs go through all users of the app, a page at a time. You can repeat them: a new sum replaces the old one, and a
reservation is released only once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from itertools import islice
from typing import Any, Final

from pydantic import BaseModel, Field

from ...jobs.base import Kind
from ...metering.reservations import Day
from ...scope import Scope
from ...store.base import SERVER_TIME, Document, Set
from .. import Handlers, JobDone, JobFailed, JobRun

__all__ = ["EXPIRE", "ROLLUP", "SUMMED", "Expire", "Rollup", "rollup_handlers", "rollup_view"]

log = logging.getLogger(__name__)

SUMMED: Final = (
    "requests",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "cost_micro_usd",
    "expired_requests",
    "expired_micro_usd",
)
"""The counters of a user's day that are summed."""

_PAGE = 100
"""The number of users that are read at a time."""


class Rollup(BaseModel):
    """The payload: the number of days (UTC) up to today. Run it with two after midnight for yesterday's final sums."""

    days: int = Field(default=2, ge=1, le=31)


class Expire(BaseModel):
    """The payload: the number of days (UTC) up to today whose reservations are checked."""

    days: int = Field(default=2, ge=1, le=31)


ROLLUP: Final = Kind("rollup", Rollup, seconds=1700)
EXPIRE: Final = Kind("expire", Expire, seconds=1700)


def rollup_handlers(more: Handlers | None = None) -> Handlers:
    """Return the handlers of both jobs, together with ``more``."""
    handlers = Handlers(more)

    @handlers.on(ROLLUP)
    def rollup(run: JobRun, payload: Rollup) -> JobDone:
        _check_app(run)
        sums = {day: dict.fromkeys(("users", *SUMMED), 0) for day in _days(run, payload.days)}
        for _, day, document in _usage(run, list(sums)):
            usage = Day.of(document)
            sums[day]["users"] += 1
            for name in SUMMED:
                sums[day][name] += usage.number(name)
        writes = [
            Set(run.scope.rollup(day), {**counters, "day": day, "updated_at": SERVER_TIME})
            for day, counters in sums.items()
        ]
        return JobDone({"days": sums}, writes)

    @handlers.on(EXPIRE)
    def expire(run: JobRun, payload: Expire) -> JobDone:
        _check_app(run)
        totals = {"users": 0, "reservations": 0, "micro_usd": 0}
        for user, day, document in _usage(run, _days(run, payload.days)):
            if not Day.of(document).reservations(run.services.clock(), expired=True):
                continue
            released = run.services.metering.release_expired(user, day)
            totals["users"] += bool(released)
            totals["reservations"] += len(released)
            totals["micro_usd"] += sum(released.values())
        if totals["reservations"]:
            log.warning("%s: %d requests never settled and were let go", run.scope.app_id, totals["reservations"])
        return JobDone(totals)

    return handlers


def rollup_view(day: str, document: Document | None) -> dict[str, Any]:
    """Return a day of the app as its admins see it, with zeros if nothing has been summed yet."""
    data: Mapping[str, Any] = {} if document is None else document.data
    at = data.get("updated_at")
    return {
        "day": day,
        **{name: int(data.get(name, 0)) for name in ("users", *SUMMED)},
        "updated_at": at.isoformat(timespec="seconds").replace("+00:00", "Z") if isinstance(at, datetime) else None,
    }


def _check_app(run: JobRun) -> None:
    if run.scope.uid is not None:
        raise JobFailed("This is a job of the app, not of one user.")


def _days(run: JobRun, count: int) -> list[str]:
    today = date.fromisoformat(run.services.metering.today())
    return [(today - timedelta(days=back)).isoformat() for back in range(count)]


def _usage(run: JobRun, days: list[str]) -> Iterator[tuple[Scope, str, Document]]:
    """Yield each user's usage document of each of these days, if there is one."""
    store, read_users = run.services.store, 0
    users = store.ids(run.scope.users())
    while page := [run.scope.of(uid) for uid in islice(users, _PAGE)]:
        run.check()
        pairs = [(user, day) for user in page for day in days]
        for (user, day), document in zip(pairs, store.get_many([u.usage(d) for u, d in pairs]), strict=True):
            if document is not None:
                yield user, day, document
        read_users += len(page)
        run.progress(read_users, None, "users")
