"""Enqueue, list, cancel and redrive jobs. Workers take jobs with :mod:`.lease`."""

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
    Conflict,
    JobsUnavailable,
    NotFound,
    PreconditionFailed,
    ScopeViolation,
    TooLarge,
    size_text,
)
from ..paging import Page, page_after, page_cursor
from ..scope import Scope
from ..settings.app import JobSettings as Policy
from ..store.base import DELETE_FIELD, Create, Document, Filter, Order, Query, Update
from ..store.scoped import ScopedStore
from ..telemetry.spans import SPAN
from .base import PAYLOAD_BYTES, Backend, Delivery, Job, Kind, event, job_view

__all__ = ["Jobs", "Prepared"]

log = logging.getLogger(__name__)

_TRIES = 8
_NO_BACKEND = "firelaunch.toml: jobs.url and jobs.service_account are not set; docs/jobs.md says to what"
_SWEEP_LIMIT = 100
"""The most jobs that one sweep delivers."""

_OVERDUE = timedelta(seconds=120)
"""How late a job has to be before a sweep considers its delivery lost."""

_NEWEST = (Order("created_at", descending=True),)
_DEAD = (Filter("state", "==", "dead"),)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job that is not stored yet. Commit ``write``, alone or with other writes, then pass this to ``Jobs.send``."""

    job_id: str
    write: Create
    delivery: Delivery


class Jobs:
    """One app's jobs.

    Args:
        store: the app's store.
        backend: delivers jobs to a worker; None if no backend is set up.
        clock: returns the current time, with its time zone.
        only: the scope whose jobs can be reached, inside a job's handler: one user's, or the app's, which may reach
            its users' jobs; None for all of the app.

    Every method that takes a ``job_id`` raises NotFound if that job is not the scope's, and InvalidId. If ``only`` is a
    user, every method raises ScopeViolation for jobs of others.
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
        """Return jobs restricted to those of ``scope``.

        Raises:
            ScopeViolation: ``scope`` is not inside this one.
        """
        return Jobs(self.__store, self.backend, self.policy, self.clock, self.__checked(scope))

    @property
    def store(self) -> ScopedStore:
        """The app's store, for workers."""
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
        """Prepare a job of ``scope``, which you store with other writes in one commit.

        Args:
            key: an idempotency key. Jobs of the same scope, kind and key are one job, as long as its record is kept.
            delay: the seconds before which the job does not start.

        Raises:
            BadRequest: ``payload`` is not of the kind's model.
            TooLarge: ``payload`` exceeds ``PAYLOAD_BYTES``.
            JobsUnavailable: in the cloud, jobs.url or jobs.service_account is not set.
        """
        scope = self.__checked(scope)
        if self.backend is None:
            raise JobsUnavailable(reason=_NO_BACKEND)
        text = kind.payload_of(payload).model_dump_json()
        if len(text.encode()) > PAYLOAD_BYTES:
            raise TooLarge(f"A job's payload has at most {size_text(PAYLOAD_BYTES)}.")
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
        asker = SPAN.get()
        trace = "" if asker is None else asker.traceparent
        if trace:
            data["trace"] = trace
        delivery = Delivery(job_id, kind.name, due, f"{job_id}-0", kind.seconds, trace)
        return Prepared(job_id, Create(scope.job(job_id), data), delivery)

    def send(self, prepared: Prepared) -> None:
        """Deliver a job that was stored. If the delivery fails now, a later sweep makes it."""
        self._try_deliver(prepared.delivery)

    def enqueue(
        self, scope: Scope, kind: Kind[Any], payload: BaseModel, *, key: str | None = None, delay: float = 0.0
    ) -> Job:
        """Store and deliver a job, and return it. If a job with ``key`` exists, return that one. See :meth:`prepare`.

        Raises:
            StoreError: the job could not be stored. A stored job will run, whatever happens to its delivery.
        """
        prepared = self.prepare(scope, kind, payload, key=key, delay=delay)
        try:
            at = self.__store.commit([prepared.write])
        except AlreadyExists:
            # The job's first delivery may never have been made. Make it now: one of the same name is made only once.
            existing = self.get(scope, prepared.job_id)
            if not existing.finished and existing.fence == 0:
                self.send(prepared)
            return existing
        self.send(prepared)
        return Job.of(Document(prepared.write.path, prepared.write.data, at, at))

    def get(self, scope: Scope, job_id: str) -> Job:
        """Return one job."""
        scope = self.__checked(scope)
        job = self._find(job_id)
        if job is None or job.uid != scope.uid:
            raise NotFound
        return job

    def find(self, job_id: str) -> Job | None:
        """Return a job of any user of the app, for workers; None if there is none."""
        self.__for_workers()
        return self._find(job_id)

    def _find(self, job_id: str) -> Job | None:
        document = self.__store.get(self.__store.scope.job(job_id))
        return None if document is None else Job.of(document)

    def mine(self, scope: Scope, limit: int, cursor: str | None) -> Page[dict[str, Any]]:
        """Return a page of the scope's jobs, newest first.

        Raises:
            InvalidCursor: ``cursor`` is not one of ours.
        """
        scope = self.__checked(scope)
        query = Query(
            scope.jobs(),
            where=(Filter("uid", "==", scope.uid),),
            order=_NEWEST,
            limit=limit + 1,
            after=page_after(cursor),
        )
        return self._page(query, limit)

    def dead(self, limit: int, cursor: str | None) -> Page[dict[str, Any]]:
        """Return a page of the whole app's dead jobs, newest first."""
        scope, after = self.store.scope, page_after(cursor)
        return self._page(Query(scope.jobs(), where=_DEAD, order=_NEWEST, limit=limit + 1, after=after), limit)

    def cancel(self, scope: Scope, job_id: str) -> Job:
        """Cancel a job. A queued job ends at once; a running one ends when its handler next checks.

        Raises:
            Conflict: the job has ended already.
        """

        def change(job: Job, now: datetime) -> dict[str, Any]:
            if job.finished:
                raise Conflict(f"The job has ended: it is {job.state}.")
            if job.state == "running":
                return {"cancel_requested": True}
            return self.ended("cancelled", job, now)

        return self._change(scope, job_id, change)

    def redrive(self, job_id: str) -> Job:
        """Queue a dead job of any user of the app again, with all its attempts.

        Raises:
            Conflict: the job is not dead.
        """
        job = self.find(job_id)
        if job is None:
            raise NotFound

        def change(job: Job, now: datetime) -> dict[str, Any]:
            if job.state != "dead":
                raise Conflict(f"Only a dead job can be driven on; this one is {job.state}.")
            events = job.with_event(event("redriven", now, job.attempts))
            removed = dict.fromkeys(("finished_at", "delete_at"), DELETE_FIELD)
            return {"state": "queued", "attempts": 0, "due_at": now, "history": events, **removed}

        changed = self._change(job.scope(self.store.scope), job_id, change)
        self._try_deliver(_delivery(changed, changed.due_at or self.clock(), f"{changed.id}-{changed.fence}"))
        return changed

    def sweep(self) -> int:
        """Deliver jobs that are overdue, because their delivery was lost or never made.

        Returns:
            the number of jobs delivered.
        """
        scope, late = self.store.scope, self.clock() - _OVERDUE
        overdue = self.store.query(Query(scope.jobs(), where=(Filter("due_at", "<", late),), limit=_SWEEP_LIMIT))
        for document in overdue:
            self._try_deliver(_delivery(Job.of(document), self.clock(), None))
        return len(overdue)

    def due(self, limit: int) -> list[str]:
        """Return the ids of due jobs, longest due first."""
        scope, now = self.store.scope, self.clock()
        documents = self.store.query(Query(scope.jobs(), where=(Filter("due_at", "<=", now),), limit=limit))
        return [document.id for document in documents]

    def deliver_again(self, job: Job, at: datetime, name: str | None = None) -> None:
        """Deliver a job again at ``at``.

        Raises:
            JobsUnavailable: the delivery cannot be guaranteed now.
        """
        self._deliver(_delivery(job, at, name))

    def ended(self, state: str, job: Job, now: datetime, error: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the changed fields of a job that ends in ``state``."""
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

    def _try_deliver(self, delivery: Delivery) -> None:
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

    def _page(self, query: Query, limit: int) -> Page[dict[str, Any]]:
        documents = self.__store.query(query)
        return Page([job_view(Job.of(d)) for d in documents[:limit]], page_cursor(documents, limit, "created_at"))

    def __checked(self, scope: Scope) -> Scope:
        own = Scope.plain(scope)
        reached = self.__only is None or self.__only.uid is None or own == self.__only
        if own.app_id != self.__store.scope.app_id or not reached:
            raise ScopeViolation(reason=f"a job of {(self.__only or self.__store.scope).root} reached for {own.root}")
        return own

    def __for_workers(self) -> None:
        if self.__only is not None and self.__only.uid is not None:
            raise ScopeViolation(reason=f"a job of {self.__only.root} reached for all jobs of the app")


def _delivery(job: Job, at: datetime, name: str | None) -> Delivery:
    return Delivery(job.id, job.kind, at, name, job.seconds, job.trace)


def _job_id(scope: Scope, kind: str, key: str | None) -> str:
    if key is None:
        return "j" + secrets.token_hex(16)
    return "j" + hashlib.sha256(f"{scope.root}\n{kind}\n{key}".encode()).hexdigest()[:32]
