"""Handlers of jobs: functions of one run and its payload. The run reaches the job's own scope and nothing else."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel

from ..documents.kept_files import KeptFiles
from ..errors import FirelaunchError, Interrupted
from ..jobs.base import HasKind, Job, Kind, kind_of
from ..jobs.lease import Lease, LeaseLost
from ..metering.call_records import CallLog
from ..metering.reservations import Reservation
from ..precedence import give_way
from ..records.data import Data
from ..scope import Scope
from ..services.bundle import Services
from ..shutdown import Shutdown
from ..store.base import Write

__all__ = ["Cancelled", "Handler", "Handlers", "JobDone", "JobFailed", "JobRun", "Postponed", "TimedOut"]

P = TypeVar("P", bound=BaseModel)


class JobFailed(FirelaunchError):
    """Raised by a handler if the job cannot be done and another try would not help. ``message`` is for its owner."""

    code = "job_failed"
    message = "The job cannot be done."


class Postponed(FirelaunchError):
    """Raised by a handler to go on from the checkpoint after ``retry_after`` seconds. It doesn't count as a try."""

    message = "The job goes on later."


class Cancelled(FirelaunchError):
    """The owner cancelled the job."""

    message = "The job was cancelled."


class TimedOut(FirelaunchError):
    """One try took longer than its kind allows."""

    code = "job_timed_out"
    message = "The try took too long."


@dataclass(frozen=True, slots=True)
class JobDone:
    """A handler's outcome: the ``result`` (JSON values, for the owner), and ``writes`` committed with the job's end."""

    result: Any = None
    writes: Sequence[Write] = ()


@dataclass(slots=True)
class JobRun:
    """One attempt at one job, for its handler.

    The handler may run again after a crash at any point. So make its changes through ``commit`` or ``JobDone.writes``:
    these are applied once, and only while the worker holds the job. For other services, use ``id`` as the idempotency
    key.

    Attributes:
        id: the job's id.
        scope: the user, or the app, that the job is for.
        services: services bound to ``scope``. They reach no path outside it.
        attempt: the attempt's number, from 1.
    """

    id: str
    scope: Scope
    services: Services
    attempt: int
    _lease: Lease = field(repr=False)
    _shutdown: Shutdown = field(repr=False)
    _end_by: float = field(repr=False)

    @property
    def checkpoint(self) -> Any:
        """The checkpoint of the last ``commit`` that had one, in this attempt or an earlier one; None at first."""
        return self._lease.checkpoint

    @property
    def seconds_left(self) -> float:
        """The seconds that this attempt may still take."""
        return self._end_by - time.monotonic()

    @property
    def data(self) -> Data:
        """The app's own collections, as the job's scope reaches them: ``run.data(meals).list()``."""
        return self.services.data

    @property
    def files(self) -> KeptFiles:
        """The files that the app keeps for the job's user, or for itself: ``run.files.put("week", pdf, ...)``."""
        return self.services.files

    @property
    def features(self) -> frozenset[str]:
        """The features of the plan of the job's user; none for a job of the app. This reads the user's document."""
        return self.services.features

    def prompt(self, name: str, **values: str) -> str:
        """Return the prompt ``name`` in the version that the job's user gets, filled in with ``values``.

        Name it in the call that uses it: ``run.services.llm.complete(messages, prompt=name)``.
        """
        return self.services.prompts.get(name, self.scope.uid or "").render(**values)

    def check(self) -> None:
        """Raise an error if the handler should end. Call this between steps.

        Raises:
            Cancelled, Interrupted, TimedOut, LeaseLost: the handler should end. Let the error pass through.
        """
        give_way()
        if self._lease.lost:
            raise LeaseLost
        if self._lease.cancel_requested:
            raise Cancelled
        if self._shutdown.begun:
            raise Interrupted
        if self.seconds_left < 0:
            raise TimedOut

    def commit(self, *writes: Write, checkpoint: Any = None, settles: Sequence[Reservation] = ()) -> datetime:
        """Apply ``writes`` and store ``checkpoint`` in one commit, if the worker still holds the job.

        Args:
            settles: reservations of the job's user, which the commit turns into their cost and the records of their
                calls.

        Returns:
            the time of the commit: the ``update_time`` of what was written.

        Raises:
            LeaseLost: another worker has the job. Nothing was written.
            ScopeViolation: a write leads out of the job's scope.
        """
        give_way()
        own = self.services.store.check(writes)
        for reservation in settles:
            own += CallLog.checked(self.scope, reservation.settlement())
        at = self._lease.commit(own, checkpoint)
        for reservation in settles:
            reservation.send_reports()
        return at

    def enqueue(
        self, job: Kind[P] | HasKind[P], payload: P | None = None, *, key: str | None = None, delay: float = 0.0
    ) -> Job:
        """Enqueue another job for the run's scope. See :meth:`Services.enqueue <firelaunch.Services.enqueue>`.

        The handler may run again, so without a ``key`` a run enqueues one job for each kind and payload, however often
        it asks. Give keys of your own for more.
        """
        kind = kind_of(job)
        own = kind.payload_of(payload)
        digest = hashlib.sha256(own.model_dump_json().encode()).hexdigest()[:32]
        return self.services.enqueue(kind, own, key=key or f"{self.id}:{digest}", delay=delay)

    def progress(self, done: int, total: int | None = None, note: str = "") -> None:
        """Show the owner the progress of the work. This is cheap: it is written at most once a second."""
        self._lease.progress(done, total, note)


Handler = Callable[[JobRun, Any], JobDone | None]


class Handlers:
    """The kinds of jobs that an app knows, each with its handler.

    Args:
        more: other handlers to include, also those that are added to it later.
    """

    def __init__(self, more: Handlers | None = None) -> None:
        self._more = more
        self._known: dict[str, tuple[Kind[Any], Handler]] = {}

    def on(
        self, kind: Kind[P]
    ) -> Callable[[Callable[[JobRun, P], JobDone | None]], Callable[[JobRun, P], JobDone | None]]:
        """Return a decorator that registers a function as the handler of jobs of ``kind``.

        Raises:
            ValueError: ``kind`` has a handler already.
        """

        def register(handler: Callable[[JobRun, P], JobDone | None]) -> Callable[[JobRun, P], JobDone | None]:
            if kind.name in self.known:
                raise ValueError(f"two handlers for jobs {kind.name!r}")
            self._known[kind.name] = (kind, handler)
            return handler

        return register

    @property
    def known(self) -> Mapping[str, tuple[Kind[Any], Handler]]:
        """The kinds and their handlers, by the kind's name."""
        return self._known if self._more is None else {**self._more.known, **self._known}
