"""What all users of an app used in a day, summed into one document; and reservations that nobody settled, let go.

Both go through all users of the app, a page at a time, and can be repeated: a sum takes the place of the one before,
and a reservation that is gone is not let go twice.
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
"""The counters of a user's day that are added up."""

_PAGE = 100
"""Users that are read at a time."""


class Rollup(BaseModel):
    """The payload: so many days (UTC), today and those before. Run after midnight, two have yesterday's last word."""

    days: int = Field(default=2, ge=1, le=31)


class Expire(BaseModel):
    """The payload: reservations of so many days (UTC), today's and those before."""

    days: int = Field(default=2, ge=1, le=31)


ROLLUP: Final = Kind("rollup", Rollup, seconds=1700)
EXPIRE: Final = Kind("expire", Expire, seconds=1700)


def rollup_handlers(more: Handlers | None = None) -> Handlers:
    """The handlers of both."""
    handlers = Handlers(more)

    @handlers.on(ROLLUP)
    def rollup(run: JobRun, payload: Rollup) -> JobDone:
        _check_app(run)
        sums = {day: dict.fromkeys(("users", *SUMMED), 0) for day in _days(run, payload.days)}
        for _, day, found in _usage(run, list(sums)):
            usage = Day.of(found)
            sums[day]["users"] += 1
            for name in SUMMED:
                sums[day][name] += usage.number(name)
        writes = [
            Set(run.scope.rollup(day), {**counted, "day": day, "updated_at": SERVER_TIME})
            for day, counted in sums.items()
        ]
        return JobDone({"days": sums}, writes)

    @handlers.on(EXPIRE)
    def expire(run: JobRun, payload: Expire) -> JobDone:
        _check_app(run)
        told = {"users": 0, "reservations": 0, "micro_usd": 0}
        for user, day, found in _usage(run, _days(run, payload.days)):
            if not Day.of(found).reservations(run.services.clock(), expired=True):
                continue
            released = run.services.metering.release_expired(user, day)
            told["users"] += bool(released)
            told["reservations"] += len(released)
            told["micro_usd"] += sum(released.values())
        if told["reservations"]:
            log.warning("%s: %d requests never settled and were let go", run.scope.app_id, told["reservations"])
        return JobDone(told)

    return handlers


def rollup_view(day: str, found: Document | None) -> dict[str, Any]:
    """A day of the app as its admins see it; zeros where nothing was summed up yet."""
    data: Mapping[str, Any] = {} if found is None else found.data
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
    """Every user's document of each of these days, where there is one."""
    store, seen = run.services.store, 0
    users = store.ids(run.scope.users())
    while page := [run.scope.of(uid) for uid in islice(users, _PAGE)]:
        run.check()
        asked = [(user, day) for user in page for day in days]
        for (user, day), found in zip(asked, store.get_many([u.usage(d) for u, d in asked]), strict=True):
            if found is not None:
                yield user, day, found
        seen += len(page)
        run.progress(seen, None, "users")
