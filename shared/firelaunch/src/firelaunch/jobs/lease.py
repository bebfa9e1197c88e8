"""A worker's hold on a job: taken by one worker at a time, renewed while it works, and checked by every write.

Each taking raises the job's ``fence``. A write of the holder carries the precondition that the job's document is as the
holder last knew it, so a worker whose lease was taken back can change nothing any more, however late it wakes up.
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

from ..errors import AlreadyExists, Fenced, FirelaunchError, NotFound, PreconditionFailed, StoreError, TooLarge
from ..store.base import DELETE_FIELD, Update, Write
from .base import PAYLOAD_BYTES, Job, event
from .jobs import Jobs

__all__ = ["Later", "Lease", "LeaseLost", "take"]

log = logging.getLogger(__name__)

_TRIES = 5
_EARLY = timedelta(seconds=10)
"""How early a delivery may come: clocks differ a little, and a delivery that was sent back might be lost."""

_PROGRESS_SECONDS = 1.0
"""Between two writes of progress at least: Firestore takes about one write a second to a document for long
(https://firebase.google.com/docs/firestore/best-practices)."""

_CONDITIONS = (PreconditionFailed, NotFound, AlreadyExists)


class LeaseLost(FirelaunchError):
    """Another worker has taken the job; what this one still does comes to nothing."""

    code = "worker_lost"
    message = "The job's worker went silent, and another one took it over."


@dataclass(frozen=True, slots=True)
class Later:
    """Not now: the job's time has not come, or another worker holds it until ``at``."""

    job: Job
    at: datetime


def take(jobs: Jobs, job_id: str, kind: str | None, *, early: timedelta = _EARLY) -> Lease | Later | None:
    """Take hold of a job.

    Args:
        kind: what the delivery says that it is; a job of another kind is left alone.

    Returns:
        the lease; or when to come back; or None where there is nothing (more) to be done.

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
        changes = _taken(jobs, job, now)
        try:
            at = jobs.store.commit([Update(path, changes, if_updated_at=job.update_time)])
        except (PreconditionFailed, NotFound):
            if attempt + 1 == _TRIES:
                raise
            continue
        return Lease(jobs, job, at, changes["history"]) if changes["state"] == "running" else None
    return None


def _taken(jobs: Jobs, job: Job, now: datetime) -> dict[str, Any]:
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
    """The hold on one running job. Its methods may be called from many threads.

    Raises (every method that writes): LeaseLost, StoreError.
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
        self._jobs = jobs
        self._path = jobs.store.scope.job(job.id)
        self.taken_at = taken_at
        self._known_at = taken_at
        self._history = tuple(history)
        self._monotonic = monotonic
        self._lock = threading.RLock()
        self._over = False
        self._progress: dict[str, Any] | None = None
        self._progress_written = float("-inf")

    def commit(self, writes: Sequence[Write], checkpoint: Any = None) -> None:
        """Apply ``writes`` if the job is still held: all of them, once, together with the ``checkpoint`` (JSON values).

        The next attempt finds the checkpoint, and so knows that these writes are done.
        """
        changes = {} if checkpoint is None else {"checkpoint": _json(checkpoint, "checkpoint")}
        self._write({**changes, **self._renewed()}, writes)
        if checkpoint is not None:
            self.checkpoint = checkpoint

    def renew(self) -> None:
        """Keep the job for another lease's time."""
        self._write(self._renewed())

    def progress(self, done: int, total: int | None, note: str) -> None:
        """Say how far the work has come; written at most once a second, the last one when the job ends."""
        with self._lock:
            self._progress = {"done": done, "total": total, "note": note[:200]}
            if self._monotonic() - self._progress_written < _PROGRESS_SECONDS:
                return
            self._progress_written = self._monotonic()
            self._write(self._renewed())

    def finish(self, state: str, result: Any = None, writes: Sequence[Write] = ()) -> None:
        """End the job, and apply ``writes`` in the same commit."""
        changes = self._ended(state)
        if result is not None:
            changes["result"] = _json(result, "result")
        self._write({**changes, "error": DELETE_FIELD} if state == "succeeded" else changes, writes, last=True)

    def fail(self, error: Mapping[str, Any], *, again_at: datetime | None) -> None:
        """This attempt failed: the job is tried again at ``again_at``, or is dead where that is None."""
        if again_at is None:
            self._write({**self._ended("dead", error), "error": dict(error)}, last=True)
        else:
            self._write({**self._queued(again_at, "failed", error), "error": dict(error)}, last=True)

    def release(self, at: datetime | None = None) -> None:
        """Give the job back as if it had not been tried, to be taken at ``at`` or at once: the worker has to end."""
        self._write({**self._queued(at or self._jobs.clock(), "released"), "attempts": self.attempt - 1}, last=True)

    def held(self) -> Job:
        """The job with this lease's own attempt and history."""
        return replace(self.job, attempts=self.attempt, fence=self.fence, history=self._history)

    def _ended(self, state: str, error: Mapping[str, Any] | None = None) -> dict[str, Any]:
        given = None if error is None else dict(error)
        return {**self._latest_progress(), **self._jobs.ended(state, self.held(), self._jobs.clock(), given)}

    def _queued(self, at: datetime, name: str, error: Mapping[str, Any] | None = None) -> dict[str, Any]:
        history = self.held().with_event(event(name, self._jobs.clock(), self.attempt, error))
        return {**self._latest_progress(), "state": "queued", "due_at": at, "history": history}

    def _renewed(self) -> dict[str, Any]:
        until = self._jobs.clock() + timedelta(seconds=self._jobs.policy.lease_seconds)
        return {**self._latest_progress(), "due_at": until}

    def _latest_progress(self) -> dict[str, Any]:
        return {} if self._progress is None else {"progress": self._progress}

    def _write(self, changes: Mapping[str, Any], writes: Sequence[Write] = (), *, last: bool = False) -> None:
        # By its stamp a write that landed, and whose acknowledgement was lost, is known again.
        stamp = secrets.token_hex(8)
        with self._lock:
            if self._over:
                raise LeaseLost
            for attempt in range(_TRIES):
                own = Update(self._path, {**changes, "stamp": stamp}, if_updated_at=self._known_at)
                try:
                    self._known_at = self._jobs.store.commit([own, *writes])
                    self._over = last
                    return
                except _CONDITIONS as error:
                    if self._landed(stamp, error):
                        self._over = last
                        return
                except Fenced:
                    raise
                except StoreError:
                    if attempt + 1 == _TRIES:
                        raise
                    time.sleep(0.05 * 2**attempt)
        raise StoreError(reason=f"job {self.job.id} changed under each of {_TRIES} writes")

    def _landed(self, stamp: str, error: FirelaunchError) -> bool:
        """What a failed condition means: True if the write had landed, False if it is to be tried again.

        Raises:
            LeaseLost: the job is no longer held.
            FirelaunchError: ``error`` itself, where the job is as it was: one of the worker's own writes does not hold.
        """
        now = self._jobs.find(self.job.id)
        # Under its key a job that was erased may have been made anew.
        if now is None or now.fence != self.fence or now.created_at != self.job.created_at:
            self.lost = True
            raise LeaseLost
        if now.stamp == stamp:
            self._known_at = now.update_time
            return True
        if now.update_time == self._known_at:
            raise error
        if now.state != "running":
            self.lost = True
            raise LeaseLost
        self.cancel_requested = now.cancel_requested
        self._known_at = now.update_time
        return False


def _json(value: Any, what: str) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if len(text.encode("utf-8", "replace")) > PAYLOAD_BYTES:
        raise TooLarge(f"A job's {what} has at most {PAYLOAD_BYTES} bytes; store more with run.commit().")
    return text
