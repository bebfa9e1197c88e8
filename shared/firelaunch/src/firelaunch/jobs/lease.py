"""Leases: one worker at a time holds a job. It renews the lease while it works, and every write checks the lease.

Taking a job raises the job's ``fence``. Each write of the holder has the precondition that nobody else changed the
job's document. So a worker that lost its lease can change nothing any more, however late it wakes up.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from ..errors import (
    AlreadyExists,
    Fenced,
    FirelaunchError,
    NotFound,
    PreconditionFailed,
    StoreError,
    TooLarge,
    size_text,
)
from ..store.base import DELETE_FIELD, Update, Write
from ..telemetry.names import EVENT, EVENT_DEAD_JOB
from .base import PAYLOAD_BYTES, Job, event
from .queue import Jobs

__all__ = ["Later", "Lease", "LeaseLost", "take"]

log = logging.getLogger(__name__)

_TRIES = 5
_EARLY = timedelta(seconds=10)
"""How early a delivery may come and still run the job. Clocks differ a little, and a second delivery might be lost."""

_PROGRESS_SECONDS = 1.0
"""The least seconds between two writes of progress. Firestore sustains about one write a second to a document
(https://firebase.google.com/docs/firestore/best-practices)."""

_CONDITION_ERRORS = (PreconditionFailed, NotFound, AlreadyExists)


class LeaseLost(FirelaunchError):
    """Another worker has taken the job. This worker can write nothing more for it."""

    code = "worker_lost"
    message = "The job's worker went silent, and another one took it over."


@dataclass(frozen=True, slots=True)
class Later:
    """The job cannot be taken before ``at``: it is not due yet, or another worker holds it."""

    job: Job
    at: datetime


def take(jobs: Jobs, job_id: str, kind: str | None, *, early: timedelta = _EARLY) -> Lease | Later | None:
    """Take a job for this worker.

    Args:
        kind: the job's kind according to the delivery. A job of another kind is left alone.

    Returns:
        the lease, or the time to come back, or None if there is nothing to do.

    Raises:
        StoreError: the document could not be read or written, or others kept changing it.
    """
    path = jobs.store.scope.job(job_id)
    for attempt in range(_TRIES):
        job = jobs.find(job_id)
        if job is None or job.finished or kind not in {None, job.kind}:
            return None
        now = jobs.clock()
        if job.due_at is not None and job.due_at > now + (early if job.state == "queued" else timedelta(0)):
            return Later(job, job.due_at)
        changes = _take_changes(jobs, job, now)
        try:
            at = jobs.store.commit([Update(path, changes, if_updated_at=job.update_time)])
        except (PreconditionFailed, NotFound):
            if attempt + 1 == _TRIES:
                raise
            continue
        if changes["state"] == "dead":
            _log_dead(job)
        return Lease(jobs, job, at, changes["history"]) if changes["state"] == "running" else None
    return None


def _log_dead(job: Job) -> None:
    """Log that a job is dead. An alert looks for this line."""
    log.error("job %s (%s) is dead", job.id, job.kind, extra={EVENT: EVENT_DEAD_JOB, "kind": job.kind})


def _take_changes(jobs: Jobs, job: Job, now: datetime) -> dict[str, Any]:
    """Return the changes that take the job, or that end it if it was cancelled or its last attempt died."""
    # A running job can only be taken if its lease has run out: its worker died.
    lost = job.state == "running"
    if job.cancel_requested:
        return jobs.ended("cancelled", job, now)
    if lost and job.attempts >= job.max_attempts:
        error = {"code": LeaseLost.code, "message": "The job's worker went silent in the last of its tries."}
        return jobs.ended("dead", job, now, error) | {"error": error}
    history = job.with_event(event("worker_lost", now, job.attempts)) if lost else [*job.history]
    return {
        "state": "running",
        "fence": job.fence + 1,
        "attempts": job.attempts + 1,
        "due_at": now + timedelta(seconds=jobs.policy.lease_seconds),
        "history": [*history, event("started", now, job.attempts + 1)],
        "stamp": secrets.token_hex(8),
    }


class Lease:
    """A worker's lease of one running job. You may call its methods from many threads.

    ``outcome`` is what came of the attempt: "running", "released", "failed", or the job's final state.

    Every method that writes raises LeaseLost and StoreError.
    """

    def __init__(
        self,
        jobs: Jobs,
        job: Job,
        taken_at: datetime,
        history: Sequence[Mapping[str, Any]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.job = job
        self.fence = job.fence + 1
        self.attempt = job.attempts + 1
        self.checkpoint: Any = None if job.checkpoint is None else json.loads(job.checkpoint)
        self.cancel_requested = False
        self.lost = False
        self.outcome = "running"
        self._jobs = jobs
        self._path = jobs.store.scope.job(job.id)
        self.taken_at = taken_at
        self._updated_at = taken_at
        self._history = tuple(history)
        self._monotonic = monotonic
        self._lock = threading.RLock()
        self._ended = False
        self._progress: dict[str, Any] | None = None
        self._progress_written = monotonic()  # a job of less than a second writes its progress with its end

    def commit(self, writes: Sequence[Write], checkpoint: Any = None) -> datetime:
        """Apply all ``writes`` once, together with the ``checkpoint`` (JSON values), if the job is still held.

        The next attempt reads the checkpoint, and so knows that these writes are done.

        Returns:
            the time of the commit.
        """
        changes = {} if checkpoint is None else {"checkpoint": _json(checkpoint, "checkpoint")}
        at = self._write({**changes, **self._renewal()}, writes)
        if checkpoint is not None:
            self.checkpoint = checkpoint
        return at

    def renew(self) -> None:
        """Extend the lease by its full time from now."""
        self._write(self._renewal())

    def progress(self, done: int, total: int | None, note: str) -> None:
        """Store the progress of the work, at most once a second. The last progress is stored when the job ends."""
        with self._lock:
            self._progress = {"done": done, "total": total, "note": note[:200]}
            if self._monotonic() - self._progress_written < _PROGRESS_SECONDS:
                return
            self._progress_written = self._monotonic()
            self._write(self._renewal())

    def finish(self, state: str, result: Any = None, writes: Sequence[Write] = ()) -> None:
        """End the job, and apply ``writes`` in the same commit."""
        changes = self._end_changes(state)
        if result is not None:
            changes["result"] = _json(result, "result")
        self._write({**changes, "error": DELETE_FIELD} if state == "succeeded" else changes, writes, last=True)
        self.outcome = state

    def fail(self, error: Mapping[str, Any], *, again_at: datetime | None) -> None:
        """End this attempt as failed. The job is tried again at ``again_at``, or is dead if that is None."""
        if again_at is None:
            self._write({**self._end_changes("dead", error), "error": dict(error)}, last=True)
            self.outcome = "dead"
            _log_dead(self.job)
        else:
            self._write({**self._queue_changes(again_at, "failed", error), "error": dict(error)}, last=True)
            self.outcome = "failed"

    def release(self, at: datetime | None = None) -> None:
        """Give the job back without counting the attempt. It can be taken again at ``at``, or at once."""
        changes = self._queue_changes(at or self._jobs.clock(), "released")
        self._write({**changes, "attempts": self.attempt - 1}, last=True)
        self.outcome = "released"

    def held(self) -> Job:
        """Return the job with this lease's own attempt and history."""
        return replace(self.job, attempts=self.attempt, fence=self.fence, history=self._history)

    def _end_changes(self, state: str, error: Mapping[str, Any] | None = None) -> dict[str, Any]:
        error_fields = None if error is None else dict(error)
        return {**self._latest_progress(), **self._jobs.ended(state, self.held(), self._jobs.clock(), error_fields)}

    def _queue_changes(self, at: datetime, name: str, error: Mapping[str, Any] | None = None) -> dict[str, Any]:
        history = self.held().with_event(event(name, self._jobs.clock(), self.attempt, error))
        return {**self._latest_progress(), "state": "queued", "due_at": at, "history": history}

    def _renewal(self) -> dict[str, Any]:
        until = self._jobs.clock() + timedelta(seconds=self._jobs.policy.lease_seconds)
        return {**self._latest_progress(), "due_at": until}

    def _latest_progress(self) -> dict[str, Any]:
        return {} if self._progress is None else {"progress": self._progress}

    def _write(self, changes: Mapping[str, Any], writes: Sequence[Write] = (), *, last: bool = False) -> datetime:
        # A commit's acknowledgement may be lost. The stamp in the document then shows that the commit succeeded.
        stamp = secrets.token_hex(8)
        with self._lock:
            if self._ended:
                raise LeaseLost
            for attempt in range(_TRIES):
                own = Update(self._path, {**changes, "stamp": stamp}, if_updated_at=self._updated_at)
                try:
                    self._updated_at = self._jobs.store.commit([own, *writes])
                    self._ended = last
                    return self._updated_at
                except _CONDITION_ERRORS as error:
                    if self._was_committed(stamp, error):
                        self._ended = last
                        return self._updated_at
                except Fenced:
                    raise
                except StoreError:
                    if attempt + 1 == _TRIES:
                        raise
                    time.sleep(0.05 * 2**attempt)
        raise StoreError(reason=f"job {self.job.id} changed under each of {_TRIES} writes")

    def _was_committed(self, stamp: str, error: FirelaunchError) -> bool:
        """Return whether the write was committed after all, after one of the commit's conditions failed.

        False means that somebody else changed the job's document, by a request to cancel say: try again.

        Raises:
            LeaseLost: this worker no longer holds the job.
            FirelaunchError: ``error`` itself, if the job's document has not changed. Then the condition of one of the
                worker's own writes failed.
        """
        current = self._jobs.find(self.job.id)
        # If the job was erased, a new job may have been created under the same key.
        if current is None or current.fence != self.fence or current.created_at != self.job.created_at:
            self.lost = True
            raise LeaseLost
        if current.stamp == stamp:
            self._updated_at = current.update_time
            return True
        if current.update_time == self._updated_at:
            raise error
        if current.state != "running":
            self.lost = True
            raise LeaseLost
        self.cancel_requested = current.cancel_requested
        self._updated_at = current.update_time
        return False


def _json(value: Any, what: str) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if len(text.encode("utf-8", "replace")) > PAYLOAD_BYTES:
        raise TooLarge(f"A job's {what} has at most {size_text(PAYLOAD_BYTES)}; store more with run.commit().")
    return text
