"""``[schedules]``: the jobs that the clock sets off, and when.

``cronsim`` and time zones are imported only for an app that has schedules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice, takewhile
from typing import Any, Literal

from pydantic import Field, field_validator

from .sections import Section

__all__ = ["Cron", "JobSchedule"]

_FIELDS = re.compile(r"[0-9A-Za-z*/,-]+( [0-9A-Za-z*/,-]+){4}")
"""Five fields, without the signs that Cloud Scheduler does not take
(https://cloud.google.com/scheduler/docs/configuring/cron-job-schedules)."""

_OWN_SIGNS = re.compile(r"[0-9]L|(?<![A-Z])L(?![A-Z])", re.IGNORECASE)
"""The library's sign for the last day. Cloud Scheduler has none."""

_CHANGE = timedelta(hours=3)
"""More than clocks go forward or back at a time. The library counts by the clock on the wall, so on its way back from a
time in the hour that comes twice it would overlook ticks of that hour."""


@dataclass(frozen=True)
class Cron:
    """The ticks of a cron expression in a time zone, as aware times in UTC.

    When clocks go forward, a tick of the hour that is left out comes right after it. When they go back, a tick at a
    fixed time comes once. Debian's cron does the same.
    """

    expression: str
    zone: str

    def next(self, after: datetime) -> datetime:
        """Return the first tick after ``after``."""
        return next(tick for tick in self._ticks(after, reverse=False) if tick > after)

    def last(self, at: datetime) -> datetime:
        """Return the last tick that is not after ``at``."""
        return next(tick for tick in self._ticks(at + _CHANGE, reverse=True) if tick <= at)

    def between(self, after: datetime, before: datetime, limit: int) -> list[datetime]:
        """Return the last ``limit`` ticks after ``after`` and before ``before``, oldest first."""
        earlier = (tick for tick in self._ticks(before + _CHANGE, reverse=True) if tick < before)
        return list(islice(takewhile(lambda tick: tick > after, earlier), limit))[::-1]

    def _ticks(self, start: datetime, *, reverse: bool) -> Iterator[datetime]:
        from cronsim import CronSim

        previous = None
        for local in CronSim(self.expression, start.astimezone(self._zone), reverse=reverse):
            tick = local.astimezone(UTC)
            if tick != previous:  # two ticks of an hour that is left out come at the same time
                yield tick
            previous = tick

    @cached_property
    def _zone(self) -> Any:
        from zoneinfo import ZoneInfo

        return ZoneInfo(self.zone)


class JobSchedule(Section):
    """``[schedules.<job>]``: when a job of the app's own is enqueued by itself; docs/schedules.md."""

    cron: str = Field(
        description='Minute, hour, day of the month, month and day of the week, as in `"0 7 * * 1"`: Mondays at seven.'
    )
    zone: str = Field(default="UTC", description='The time zone of `cron`, such as "Europe/Berlin".')
    each: Literal["app", "user"] = Field(
        default="app", description="One job for the app, or one for each user in that user's scope."
    )

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        from zoneinfo import ZoneInfo

        try:
            ZoneInfo(zone)
        except (OSError, ValueError, LookupError):
            raise ValueError('there is no such time zone: write one such as "Europe/Berlin" or "UTC"') from None
        return zone

    @field_validator("cron")
    @classmethod
    def _ticks_at_all(cls, cron: str) -> str:
        from cronsim import CronSimError

        fields = " ".join(cron.split())
        if not _FIELDS.fullmatch(fields) or _OWN_SIGNS.search(fields):
            raise ValueError('write five fields, such as "0 7 * * 1": minute, hour, day, month, day of the week')
        try:
            Cron(fields, "UTC").next(datetime(2024, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise ValueError(f"{error}: the fields are minute, hour, day, month, day of the week") from None
        except StopIteration:
            raise ValueError("it never comes: no month has such a day") from None
        return fields

    @property
    def ticks(self) -> Cron:
        """The times at which the job is due."""
        return Cron(self.cron, self.zone)
