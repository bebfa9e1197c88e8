"""Sum up the usage of each day of an app into one document, and release reservations that never settled.

The sums by the hour (:mod:`firelaunch.metering.sums`) are there as soon as calls settle. The nightly job computes them
again from the records, repairs what differs, and folds the hours of a day into the day's document. It also goes through
all users of the app, a page at a time, for what only their own documents hold. You can repeat both jobs: a new sum
replaces the old one, and a reservation is released only once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any, Final

from pydantic import BaseModel, Field

from ...jobs.base import Kind
from ...metering.reservations import Day
from ...metering.sum_repair import folded_fields, is_final, recount, repair_user
from ...metering.sum_reports import SumReader, hours_of_day
from ...scope import Scope
from ...services.bundle import Services
from ...store.base import SERVER_TIME, Document, Filter, Query, Set, Update, Write
from .. import Handlers, JobDone, JobFailed, JobRun, Postponed

__all__ = ["EXPIRE", "ROLLUP", "SUMMED", "Expire", "Rollup", "app_usage", "rollup_handlers"]

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

_DAYS_COUNTED = 2
"""The latest days whose users are counted if the nightly job has not counted them yet."""

_SPARE_SECONDS = 60.0
"""The rest of an attempt's time in which no further day is begun."""


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
        hours = _recount(run, _days(run, payload.days + 1))
        sums = {day: dict.fromkeys(("users", *SUMMED), 0) for day in _days(run, payload.days)}
        repaired = 0
        for user, day, document, total in _usage(run, list(sums)):
            usage = Day.of(document)
            sums[day]["users"] += 1
            for name in SUMMED:
                sums[day][name] += usage.number(name)
            repaired += repair_user(run.services.store, user, day, total, document)
        return JobDone({"days": sums, "repaired_hours": hours, "repaired_users": repaired}, _fold(run, sums))

    @handlers.on(EXPIRE)
    def expire(run: JobRun, payload: Expire) -> JobDone:
        _check_app(run)
        totals = {"users": 0, "reservations": 0, "micro_usd": 0}
        for user, day, document, _ in _usage(run, _days(run, payload.days)):
            if not Day.of(document).reservations(run.services.clock(), expired=True):
                continue
            released = run.services.metering.release_expired(user, day)
            totals["users"] += bool(released)
            totals["reservations"] += len(released)
            totals["micro_usd"] += sum(released.values())
        ceiling = run.services.metering.ceiling
        if ceiling is not None:
            months = {day[:7]: day for day in _days(run, payload.days)}
            totals["slices"] = sum(ceiling.reclaim(day) for day in months.values())
        if totals["reservations"]:
            log.warning("%s: %d requests never settled and were let go", run.scope.app_id, totals["reservations"])
        return JobDone(totals)

    return handlers


def app_usage(services: Services, days: int) -> list[dict[str, Any]]:
    """Return the latest days of the app as its admins see them, latest first, with today's figures as of now."""
    now, store = services.clock().astimezone(UTC), services.store
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    report = SumReader(store, store.scope, now).report(midnight - timedelta(days=days - 1), now, "day")
    views: list[dict[str, Any]] = []
    for day in [(midnight - timedelta(days=back)).date().isoformat() for back in range(days)]:
        view = _rollup_view(day, report.folded.get(day))
        if view["updated_at"] is None or view["updated_at"][:10] <= day:  # the day was not over when it was summed up
            point = report.points.get(day, {})
            live = {name: int(point.get(name, 0)) for name in SUMMED} | {"requests": int(point.get("counted", 0))}
            if len(views) < _DAYS_COUNTED and any(live.values()):
                live["users"] = store.count(Query(store.scope.user_sums(), where=(Filter("period", "==", day),)))
            view |= {name: max(view[name], figure) for name, figure in live.items()}
        views.append(view)
    return views


def _rollup_view(day: str, document: Document | None) -> dict[str, Any]:
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


def _recount(run: JobRun, days: list[str]) -> int:
    """Compute the sums of the final hours of ``days`` again from the records, and return how many were repaired.

    The checkpoint is the last day that is done.
    """
    now, reserved = run.services.clock(), run.services.metering.reservation_seconds
    done: dict[str, Any] = run.checkpoint or {"after": "", "repaired": 0}
    for day in sorted(day for day in days if day > done["after"]):
        if run.seconds_left < _SPARE_SECONDS:
            raise Postponed
        final = [hour for hour in hours_of_day(day) if is_final(hour, now, reserved)]
        repaired = recount(run.services.store, run.scope, final, run.check)
        if repaired:
            log.warning("%s: the sums of %s were not those of the records, and are now", run.scope.app_id, repaired)
        done = {"after": day, "repaired": done["repaired"] + len(repaired)}
        run.commit(checkpoint=done)
    return int(done["repaired"])


def _fold(run: JobRun, sums: Mapping[str, Mapping[str, int]]) -> list[Write]:
    """Return the writes of the days' documents: what all users used, and the sums of the hours that are final."""
    store, now, reserved = run.services.store, run.services.clock(), run.services.metering.reservation_seconds
    writes: list[Write] = []
    for day in _days(run, len(sums) + 1):
        path, folded = run.scope.rollup(day), folded_fields(store, run.scope, day, now, reserved)
        counters = {**sums[day], "updated_at": SERVER_TIME} if day in sums else {}
        if counters or folded["hours"]:
            # The update replaces the maps of the last night, where a merge would keep what is no longer in them.
            writes += [Set(path, {**counters, "day": day}, merge=True), Update(path, folded)]
    return writes


def _usage(run: JobRun, days: list[str]) -> Iterator[tuple[Scope, str, Document, Document | None]]:
    """Yield each user's usage document of each of these days, if there is one, and the user's sums of the day."""
    store, read_users = run.services.store, 0
    users = store.ids(run.scope.users())
    while page := [run.scope.of(uid) for uid in islice(users, _PAGE)]:
        run.check()
        pairs = [(user, day) for user in page for day in days]
        # The sums are read first: what settles between the two reads makes a repair of the sums fail.
        totals = store.get_many([user.user_sum(day) for user, day in pairs])
        documents = store.get_many([user.usage(day) for user, day in pairs])
        for (user, day), document, total in zip(pairs, documents, totals, strict=True):
            if document is not None:
                yield user, day, document, total
        read_users += len(page)
        run.progress(read_users, None, "users")
