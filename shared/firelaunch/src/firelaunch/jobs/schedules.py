"""Schedules: each tick enqueues one job, however often the tick is called, and says which ticks before it were missed.

``apps/{app}/schedules/{name}`` holds a schedule's latest tick. The commit that moves it on also stores the tick's job,
so a tick either has its job or has not happened.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from ..errors import AlreadyExists, Conflict, NotFound, PreconditionFailed
from ..settings.schedules import JobSchedule
from ..store.base import Create, Document, Update, Write
from ..store.scoped import ScopedStore
from .base import Kind
from .queue import Jobs, Prepared

__all__ = ["FAN_OUT", "FanOut", "Schedules", "Tick", "schedule_views", "tick_key"]

log = logging.getLogger(__name__)

_TRIES = 8
_COUNTED = 1_000
"""The most missed ticks of one gap that are counted. A minute's schedule reaches that in 17 hours."""

_KEPT = 20
"""The latest missed and skipped ticks that a schedule's document keeps."""

_AHEAD = timedelta(minutes=1)
"""How far ahead of this machine's clock Cloud Scheduler's may be."""


class FanOut(BaseModel):
    """The payload: the schedule whose job each user gets, and the tick."""

    model_config = ConfigDict(extra="forbid")
    schedule: str
    tick: datetime


FAN_OUT: Final = Kind("fan_out", FanOut, seconds=1500)


@dataclass(frozen=True, slots=True)
class Tick:
    """What became of a tick.

    ``enqueued``: its job is stored. ``repeated``: the tick was called before. ``skipped``: the job of the tick before
    is still running. ``begun``: the schedule is new here, and its first tick is still to come. ``missed`` counts the
    ticks since the one before that never were called.
    """

    outcome: Literal["enqueued", "repeated", "skipped", "begun"]
    at: datetime
    missed: int = 0


def tick_key(schedule: str, tick: datetime) -> str:
    """Return the key of the jobs of one tick."""
    return f"{schedule}@{tick.isoformat()}"


class Schedules:
    """The schedules of one app.

    Args:
        store: the app's store.
        schedules: the settings' schedules by name.
        kinds: for each of these names, the kind of the job.
    """

    def __init__(
        self, store: ScopedStore, jobs: Jobs, schedules: Mapping[str, JobSchedule], kinds: Mapping[str, Kind[Any]]
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._schedules = schedules
        self.kinds = kinds

    def begin(self, name: str) -> Tick:
        """Let the ticks of a schedule count from now on, if it is new or has changed; else call its last due tick.

        A laptop's scheduler calls this again and again, as nobody else knows of the ticks there.
        """
        schedule, now = self._schedule(name), self._jobs.clock()
        state = self._state(name)
        if state is not None and _is_of(state, schedule):
            return self.tick(name)
        with suppress(AlreadyExists, PreconditionFailed, NotFound):  # another process began it
            self._store.commit([self._write(name, state, {**_of(schedule), "tick": schedule.ticks.last(now)})])
        return Tick("begun", schedule.ticks.next(now))

    def tick(self, name: str, at: datetime | None = None) -> Tick:
        """Enqueue the job of the last tick that is due, unless this was done before.

        Args:
            at: the tick, as Cloud Scheduler has it; None for now. A time between two ticks counts as the earlier one.

        Raises:
            NotFound: there is no such schedule.
            Conflict, StoreError, JobsUnavailable: call again.
        """
        schedule = self._schedule(name)
        for _ in range(_TRIES):
            now = self._jobs.clock()
            due = schedule.ticks.last(min(at or now, now + _AHEAD))
            state = self._state(name)
            if state is not None and state.data["tick"] >= due:
                self._send_again(state)
                return Tick("repeated", due)
            outcome = self._advance(name, schedule, state, due)
            if outcome is not None:
                return outcome
        raise Conflict(retry_after=1)

    def _advance(self, name: str, schedule: JobSchedule, state: Document | None, due: datetime) -> Tick | None:
        """Move a schedule on to ``due``, and enqueue its job. Return None if another caller was first."""
        missed = _missed(schedule, state, due)
        before = None if state is None else state.data.get("job")
        running = before is not None and (job := self._jobs.find(before)) is not None and not job.finished
        prepared = None if running else self._prepare(name, schedule, due)
        changes = _of(schedule) | _counted(state, due, missed, skipped=running)
        if prepared is not None:
            changes["job"] = prepared.job_id
        writes: list[Write] = [self._write(name, state, changes)]
        if prepared is not None and self._jobs.find(prepared.job_id) is None:
            writes.append(prepared.write)
        try:
            self._store.commit(writes)
        except (AlreadyExists, PreconditionFailed, NotFound):
            return None
        if missed:
            log.warning("schedule %s: %d ticks were missed, from %s to %s", name, len(missed), missed[0], missed[-1])
        if prepared is None:
            log.warning("schedule %s: the tick %s is skipped, as job %s is still running", name, due, before)
            return Tick("skipped", due, len(missed))
        self._jobs.send(prepared)
        return Tick("enqueued", due, len(missed))

    def _prepare(self, name: str, schedule: JobSchedule, due: datetime) -> Prepared:
        kind, app = self.kinds[name], self._store.scope
        if schedule.each == "user":
            return self._jobs.prepare(app, FAN_OUT, FanOut(schedule=name, tick=due), key=tick_key(name, due))
        return self._jobs.prepare(app, kind, kind.payload_of(), key=tick_key(name, due))

    def _send_again(self, state: Document) -> None:
        """Deliver a tick's job if no worker has looked at it: the first call may have ended before the delivery."""
        job = self._jobs.find(state.data["job"]) if "job" in state.data else None
        if job is not None and not job.finished and job.fence == 0:
            self._jobs.deliver_again(job, job.due_at or self._jobs.clock(), name=f"{job.id}-0")

    def _schedule(self, name: str) -> JobSchedule:
        schedule = self._schedules.get(name)
        if schedule is None:
            raise NotFound("There is no such schedule.")
        return schedule

    def _state(self, name: str) -> Document | None:
        return self._store.get(self._store.scope.schedule(name))

    def _write(self, name: str, state: Document | None, changes: Mapping[str, Any]) -> Write:
        path, fields = self._store.scope.schedule(name), {**changes, "updated_at": self._jobs.clock()}
        return Create(path, fields) if state is None else Update(path, fields, if_updated_at=state.update_time)


def schedule_views(store: ScopedStore, schedules: Mapping[str, JobSchedule], now: datetime) -> list[dict[str, Any]]:
    """Return the schedules as the app's admins see them."""
    documents = store.get_many([store.scope.schedule(name) for name in schedules])
    return [_view(name, each, state, now) for (name, each), state in zip(schedules.items(), documents, strict=True)]


def _view(name: str, schedule: JobSchedule, state: Document | None, now: datetime) -> dict[str, Any]:
    data: Mapping[str, Any] = {} if state is None else state.data
    return {
        "name": name,
        "cron": schedule.cron,
        "zone": schedule.zone,
        "each": schedule.each,
        "next_tick": _text(schedule.ticks.next(now)),
        "last_tick": _text(data["tick"]) if data.get("enqueued") or data.get("skipped") else None,
        "job": data.get("job"),
        "enqueued": data.get("enqueued", 0),
        "missed": data.get("missed", 0),
        "missed_ticks": [_text(tick) for tick in data.get("missed_ticks", ())],
        "skipped": data.get("skipped", 0),
        "skipped_ticks": [_text(tick) for tick in data.get("skipped_ticks", ())],
    }


def _text(time: datetime) -> str:
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")


def _of(schedule: JobSchedule) -> dict[str, Any]:
    return {"cron": schedule.cron, "zone": schedule.zone}


def _is_of(state: Document, schedule: JobSchedule) -> bool:
    """Return whether the state is of this very schedule. The settings may have changed since."""
    return all(state.data.get(key) == value for key, value in _of(schedule).items())


def _missed(schedule: JobSchedule, state: Document | None, due: datetime) -> list[datetime]:
    if state is None or not _is_of(state, schedule):
        return []
    return schedule.ticks.between(state.data["tick"], due, _COUNTED)


def _counted(state: Document | None, due: datetime, missed: list[datetime], *, skipped: bool) -> dict[str, Any]:
    data: Mapping[str, Any] = {} if state is None else state.data
    counts = {"missed": missed, "skipped": [due] if skipped else []}
    fields: dict[str, Any] = {"tick": due, "enqueued": data.get("enqueued", 0) + (not skipped)}
    for name, ticks in counts.items():
        fields[name] = data.get(name, 0) + len(ticks)
        fields[f"{name}_ticks"] = [*data.get(f"{name}_ticks", ()), *ticks][-_KEPT:]
    return fields
