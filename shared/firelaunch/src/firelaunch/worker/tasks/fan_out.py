"""The job of a schedule's tick that enqueues another job for each user of the app, in that user's scope.

It reads the users in pages, and its checkpoint is the last user of a page whose jobs are stored and delivered. Each
user's job has the tick as its key. So a page that is done again after a crash makes no second job.

In the cloud, the users are the app's members: whoever left or was removed has data, but no job. On a laptop tokens need
no membership, so everyone who has any data is a user, too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from heapq import merge
from itertools import dropwhile, groupby, islice
from typing import Any

from ...errors import AlreadyExists, Fenced, InvalidId, NotFound, PreconditionFailed
from ...jobs.base import Kind
from ...jobs.schedules import FAN_OUT, FanOut, Schedules, tick_key
from ...store.base import Query
from .. import Handlers, JobDone, JobFailed, JobRun, Postponed

__all__ = ["fan_out_handlers"]

log = logging.getLogger(__name__)

_PAGE = 100
"""The number of users whose jobs are stored in one commit. Each takes two writes: the job, and the user's fence."""

_SENDERS = 8
"""The number of deliveries that are made at a time."""

_SPARE_SECONDS = 60.0
"""The rest of an attempt's time in which no further page is begun."""


def fan_out_handlers(schedules: Schedules, more: Handlers | None = None) -> Handlers:
    """Return the handler of fan-outs, together with ``more``."""
    handlers = Handlers(more)

    @handlers.on(FAN_OUT)
    def fan_out(run: JobRun, payload: FanOut) -> JobDone:
        kind = schedules.kinds.get(payload.schedule)
        if kind is None or run.scope.uid is not None:
            raise JobFailed(f"The app has no schedule {payload.schedule!r} any more.")
        done: dict[str, Any] = run.checkpoint or {"after": "", "users": 0}
        key, users = tick_key(payload.schedule, payload.tick), _users(run, done["after"])
        while page := list(islice(users, _PAGE)):
            run.check()
            if run.seconds_left < _SPARE_SECONDS:
                raise Postponed
            enqueued = _enqueue(run, kind, page, key)
            done = {"after": page[-1], "users": done["users"] + enqueued}
            run.commit(checkpoint=done)
            run.progress(done["users"], None, "users")
        return JobDone({"users": done["users"], "tick": payload.tick.isoformat()})

    return handlers


def _enqueue(run: JobRun, kind: Kind[Any], uids: list[str], key: str) -> int:
    """Enqueue a job for each of these users, and return how many there are."""
    jobs, payload, prepared = run.services.jobs, kind.payload_of(), []
    for uid in uids:
        try:
            prepared.append((uid, jobs.prepare(run.scope.of(uid), kind, payload, key=key)))
        except InvalidId:
            log.warning("schedules leave out a user of %s whose id is not valid", run.scope.app_id)
    try:
        run.services.store.commit([each.write for _, each in prepared])
    except (AlreadyExists, Fenced, NotFound, PreconditionFailed):
        # Some of the jobs are there already, or a user has been erased. One after the other, each is enqueued or not.
        return sum(_enqueue_one(run, kind, uid, key) for uid, _ in prepared)
    with ThreadPoolExecutor(_SENDERS) as senders:
        list(senders.map(jobs.send, [each for _, each in prepared]))
    return len(prepared)


def _enqueue_one(run: JobRun, kind: Kind[Any], uid: str, key: str) -> bool:
    try:
        run.services.jobs.enqueue(run.scope.of(uid), kind, kind.payload_of(), key=key)
    except Fenced:
        return False
    return True


def _users(run: JobRun, after: str) -> Iterator[str]:
    """Yield the ids of the app's users after ``after``, in order."""
    members = _members(run, after)
    if not run.services.settings.environment.development:
        yield from members
        return
    with_data = dropwhile(lambda uid: uid <= after, run.services.store.ids(run.scope.users()))
    yield from (uid for uid, _ in groupby(merge(members, with_data)))


def _members(run: JobRun, after: str) -> Iterator[str]:
    position = (after,) if after else None
    while True:
        page = run.services.store.query(Query(run.scope.members(), limit=_PAGE, after=position))
        yield from (member.id for member in page)
        if len(page) < _PAGE:
            return
        position = (page[-1].id,)
