"""Jobs from outside: put off, list, cancel, drive on again. What a worker does with them is in :mod:`.lease`."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel

from ..errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    JobsUnavailable,
    NotFound,
    PreconditionFailed,
    ScopeViolation,
    TooLarge,
)
from ..paging import Page, page_after, page_cursor
from ..scope import Scope
from ..settings.app import Jobs as Policy
from ..store.base import DELETE_FIELD, Create, Document, Filter, Order, Query, Update
from ..store.scoped import ScopedStore
from .base import PAYLOAD_BYTES, Backend, Delivery, Job, Kind, event, job_view

__all__ = ["Jobs", "Prepared"]

log = logging.getLogger(__name__)

_TRIES = 8
_NO_BACKEND = "firelaunch.toml: jobs.url and jobs.service_account are not set; docs/jobs.md says to what"
_SWEPT = 100
"""Jobs that one sweep brings on their way at most."""

_OVERDUE = timedelta(seconds=120)
"""How late a job is before a sweep takes its delivery for lost."""

_NEWEST = (Order("created_at", descending=True),)
_DEAD = (Filter("state", "==", "dead"),)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job that is yet to be stored: commit ``write``, alone or with other writes, then hand this to ``Jobs.send``."""

    job_id: str
    write: Create
    delivery: Delivery


class Jobs:
    """One app's jobs.

    Args:
        store: the app's own.
        backend: what brings jobs to a worker; None where nothing is set up that would.
        clock: the time now, aware.
        only: the one scope whose jobs there are, inside a job's handler; None for all of the app.

    Raises (every method that takes a ``job_id``): NotFound where that job is not the scope's, InvalidId.
    Raises (every method, where ``only`` is a user): ScopeViolation for jobs of others.
    """

    def __init__(
        self,
        store: ScopedStore,
        backend: Backend | None,
        policy: Policy,
        clock: Callable[[], datetime],
        only: Scope | None = None,
    ) -> None:
        self.__store = store
        self.__only = only
        self.backend = backend
        self.policy = policy
        self.clock = clock

    def within(self, scope: Scope) -> Jobs:
        """The same, for jobs of ``scope`` alone.

        Raises:
            ScopeViolation: ``scope`` is not inside this one.
        """
        return Jobs(self.__store, self.backend, self.policy, self.clock, self.__checked(scope))

    @property
    def store(self) -> ScopedStore:
        """The app's own, for workers."""
        self.__for_workers()
        return self.__store

    def prepare(
        self,
        scope: Scope,
        kind: Kind[Any],
        payload: BaseModel,
        *,
        key: str | None = None,
        delay: float = 0.0,
    ) -> Prepared:
        """A job of ``scope``, to be stored with other writes in one commit.

        Args:
            key: jobs of the same scope, kind and key are one job for as long as its record is kept.
            delay: seconds before which it is not begun.

        Raises:
            BadRequest: ``payload`` is not of the kind's model.
            TooLarge: it is over ``PAYLOAD_BYTES``.
            JobsUnavailable: in the cloud, jobs.url or jobs.service_account is not set.
        """
        scope = self.__checked(scope)
        if self.backend is None:
            raise JobsUnavailable(reason=_NO_BACKEND)
        if not isinstance(payload, kind.payload):
            raise BadRequest(reason=f"a job {kind.name!r} takes {kind.payload.__name__}")
        text = payload.model_dump_json()
        if len(text.encode()) > PAYLOAD_BYTES:
            raise TooLarge(f"A job's payload has at most {PAYLOAD_BYTES} bytes.")
        now = self.clock()
        due = now + timedelta(seconds=max(0.0, delay))
        job_id = _job_id(scope, kind.name, key)
        data = {
            "kind": kind.name,
            "uid": scope.uid,
            "state": "queued",
            "payload": text,
            "attempts": 0,
            "max_attempts": kind.max_attempts or self.policy.max_attempts,
            "seconds": kind.seconds,
            "fence": 0,
            "due_at": due,
            "created_at": now,
            "history": [event("queued", now, 0)],
        }
        delivery = Delivery(job_id, kind.name, due, f"{job_id}-0", kind.seconds)
        return Prepared(job_id, Create(scope.job(job_id), data), delivery)

    def send(self, prepared: Prepared) -> None:
        """Bring a job that was stored on its way. Where that fails now, a later sweep does it."""
        self._try(prepared.delivery)

    def enqueue(
        self, scope: Scope, kind: Kind[Any], payload: BaseModel, *, key: str | None = None, delay: float = 0.0
    ) -> Job:
        """Store a job and bring it on its way; see :meth:`prepare`. With a ``key`` that is known, its job.

        Raises:
            StoreError: it could not be stored. Once it is stored it will be run, whatever happens to its delivery.
        """
        prepared = self.prepare(scope, kind, payload, key=key, delay=delay)
        try:
            at = self.__store.commit([prepared.write])
        except AlreadyExists:
            # Perhaps its first delivery never came about; a delivery of the same name is made once.
            found = self.get(scope, prepared.job_id)
            if not found.finished and found.fence == 0:
                self.send(prepared)
            return found
        self.send(prepared)
        return Job.of(Document(prepared.write.path, prepared.write.data, at, at))

    def get(self, scope: Scope, job_id: str) -> Job:
        """One job."""
        scope = self.__checked(scope)
        found = self._find(job_id)
        if found is None or found.uid != scope.uid:
            raise NotFound
        return found

    def find(self, job_id: str) -> Job | None:
        """A job of any user of the app, for workers."""
        self.__for_workers()
        return self._find(job_id)

    def _find(self, job_id: str) -> Job | None:
        document = self.__store.get(self.__store.scope.job(job_id))
        return None if document is None else Job.of(document)

    def mine(self, scope: Scope, limit: int, cursor: str | None) -> Page:
        """The scope's jobs, newest first.

        Raises:
            InvalidCursor: ``cursor`` is not one of ours.
        """
        scope = self.__checked(scope)
        own = (Filter("uid", "==", scope.uid),)
        after = page_after(cursor)
        return self._page(Query(scope.jobs(), where=own, order=_NEWEST, limit=limit + 1, after=after), limit)

    def dead(self, limit: int, cursor: str | None) -> Page:
        """Jobs of the whole app that failed for good, newest first."""
        scope, after = self.store.scope, page_after(cursor)
        return self._page(Query(scope.jobs(), where=_DEAD, order=_NEWEST, limit=limit + 1, after=after), limit)

    def cancel(self, scope: Scope, job_id: str) -> Job:
        """End a job that waits; ask one that runs to end, which it does when its handler next looks.

        Raises:
            Conflict: it has ended already.
        """

        def change(job: Job, now: datetime) -> dict[str, Any]:
            if job.finished:
                raise Conflict(f"The job has ended: it is {job.state}.")
            if job.state == "running":
                return {"cancel_requested": True}
            return self.ended("cancelled", job, now)

        return self._change(scope, job_id, change)

    def redrive(self, job_id: str) -> Job:
        """Have a dead job, of any user of the app, tried anew with all its attempts.

        Raises:
            Conflict: it is not dead.
        """
        job = self.find(job_id)
        if job is None:
            raise NotFound

        def change(job: Job, now: datetime) -> dict[str, Any]:
            if job.state != "dead":
                raise Conflict(f"Only a dead job can be driven on; this one is {job.state}.")
            events = job.with_event(event("redriven", now, job.attempts))
            gone = dict.fromkeys(("finished_at", "delete_at"), DELETE_FIELD)
            return {"state": "queued", "attempts": 0, "due_at": now, "history": events, **gone}

        changed = self._change(job.scope(self.store.scope), job_id, change)
        self._try(_delivery(changed, changed.due_at or self.clock(), f"{changed.id}-{changed.fence}"))
        return changed

    def sweep(self) -> int:
        """Bring on their way jobs that are overdue: their delivery was lost, or they were never sent.

        Returns:
            how many were brought on their way.
        """
        scope, late = self.store.scope, self.clock() - _OVERDUE
        found = self.store.query(Query(scope.jobs(), where=(Filter("due_at", "<", late),), limit=_SWEPT))
        for document in found:
            self._try(_delivery(Job.of(document), self.clock(), None))
        return len(found)

    def due(self, limit: int) -> list[str]:
        """Ids of jobs whose time has come, longest due first."""
        scope, now = self.store.scope, self.clock()
        found = self.store.query(Query(scope.jobs(), where=(Filter("due_at", "<=", now),), limit=limit))
        return [document.id for document in found]

    def deliver_again(self, job: Job, at: datetime, name: str | None = None) -> None:
        """Have a job looked at again, at ``at``.

        Raises:
            JobsUnavailable: that cannot be made certain now.
        """
        self._deliver(_delivery(job, at, name))

    def ended(self, state: str, job: Job, now: datetime, error: dict[str, Any] | None = None) -> dict[str, Any]:
        """The change of a job's document that ends it."""
        return {
            "state": state,
            "due_at": DELETE_FIELD,
            "finished_at": now,
            "delete_at": now + timedelta(days=self.policy.keep_days),
            "history": job.with_event(event(state, now, job.attempts, error)),
        }

    def _deliver(self, delivery: Delivery) -> None:
        if self.backend is None:
            raise JobsUnavailable(reason=_NO_BACKEND)
        self.backend.deliver(delivery)

    def _try(self, delivery: Delivery) -> None:
        try:
            self._deliver(delivery)
        except JobsUnavailable as error:
            log.exception("job %s waits for a sweep: %s", delivery.job_id, error)

    def _change(self, scope: Scope, job_id: str, change: Callable[[Job, datetime], dict[str, Any]]) -> Job:
        scope = self.__checked(scope)
        for _ in range(_TRIES):
            job = self.get(scope, job_id)
            changes = change(job, self.clock())
            try:
                self.__store.commit([Update(scope.job(job_id), changes, if_updated_at=job.update_time)])
            except PreconditionFailed:
                continue
            return self.get(scope, job_id)
        raise Conflict

    def _page(self, query: Query, limit: int) -> Page:
        found = self.__store.query(query)
        return Page([job_view(Job.of(d)) for d in found[:limit]], page_cursor(found, limit, "created_at"))

    def __checked(self, scope: Scope) -> Scope:
        given = Scope.plain(scope)
        if given.app_id != self.__store.scope.app_id or (self.__only is not None and given != self.__only):
            raise ScopeViolation(reason=f"a job of {(self.__only or self.__store.scope).root} reached for {given.root}")
        return given

    def __for_workers(self) -> None:
        if self.__only is not None and self.__only.uid is not None:
            raise ScopeViolation(reason=f"a job of {self.__only.root} reached for all jobs of the app")


def _delivery(job: Job, at: datetime, name: str | None) -> Delivery:
    return Delivery(job.id, job.kind, at, name, job.seconds)


def _job_id(scope: Scope, kind: str, key: str | None) -> str:
    if key is None:
        return "j" + secrets.token_hex(16)
    return "j" + hashlib.sha256(f"{scope.root}\n{kind}\n{key}".encode()).hexdigest()[:32]
