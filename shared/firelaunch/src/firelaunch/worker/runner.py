"""Make one attempt at a job: take its lease, run its handler, and store its outcome."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from ..errors import BadRequest, FirelaunchError, Interrupted, ScopeViolation
from ..jobs.base import Job, Kind
from ..jobs.lease import Later, Lease, LeaseLost, take
from ..precedence import background, give_way
from ..services.bundle import Services
from ..shutdown import Shutdown
from ..store.fence import begun_at
from ..telemetry.names import JOB_ATTEMPT, JOB_ID, JOB_KIND, JOB_OUTCOME
from ..telemetry.spans import NoSpan, Span, consumed
from .handlers import Cancelled, Handler, Handlers, JobDone, JobFailed, JobRun, Postponed

__all__ = ["Runner"]

log = logging.getLogger(__name__)

_PERMANENT = (JobFailed, BadRequest, ScopeViolation)
"""Errors of the job itself: the next attempt would end with the same error."""


class Runner:
    """Runs jobs of one app.

    Args:
        jitter: returns a number from 0 to 1, by which the pause before the next attempt is multiplied.
    """

    def __init__(
        self,
        services: Services,
        handlers: Handlers,
        shutdown: Shutdown,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._services = services
        self._jobs = services.jobs
        self._handlers = handlers
        self._shutdown = shutdown
        self._jitter = jitter

    @background()
    def run(self, job_id: str, kind: str | None = None) -> str:
        """Handle one delivery of a job: run it, or have it delivered later. Then the delivery is finished.

        Args:
            kind: the job's kind according to the delivery.

        Returns:
            "gone", "later", "ran" or "lost".

        Raises:
            StoreError: the job's document could not be written, so the job has to be delivered again.
        """
        lease = take(self._jobs, job_id, kind)
        if lease is None:
            return "gone"
        if isinstance(lease, Later):
            self._jobs.deliver_again(lease.job, lease.at)
            return "later"
        with self._span(lease) as part:
            try:
                self._attempt(lease)
            except LeaseLost:
                log.warning("job %s was taken over by another worker", job_id)
                part.set(JOB_OUTCOME, "lost")
                return "lost"
            part.set(JOB_OUTCOME, lease.outcome)
            if lease.outcome in {"failed", "dead"}:
                part.fail("job_failed")
        give_way()
        return "ran"

    def _span(self, lease: Lease) -> Span | NoSpan:
        """Begin the span of an attempt, in the trace of what enqueued the job."""
        job = lease.job
        attributes = {JOB_KIND: job.kind, JOB_ID: job.id, JOB_ATTEMPT: lease.attempt}
        return consumed(self._services.tracer, f"job {job.kind}", job.trace, attributes)

    def _attempt(self, lease: Lease) -> None:
        kind_and_handler = self._handlers.known.get(lease.job.kind)
        try:
            if kind_and_handler is None:
                raise FirelaunchError(f"No handler for jobs {lease.job.kind!r} is here.")
            self._handle(lease, *kind_and_handler)
        except LeaseLost:
            raise
        except Cancelled:
            lease.finish("cancelled")
        except Interrupted:
            self._give_back(lease, 0.0)
        except Postponed as error:
            self._give_back(lease, error.retry_after or 0.0)
        except Exception as error:
            self._fail(lease, error)

    def _handle(self, lease: Lease, kind: Kind[Any], handler: Handler) -> None:
        scope = lease.job.scope(self._services.store.scope)
        services = self._services.within(scope)
        services = replace(services, llm=services.llm.uncounted())
        try:
            payload = kind.payload.model_validate_json(lease.job.payload)
        except ValidationError as error:
            raise JobFailed("The job's payload is not of its kind.", reason=f"{error.error_count()} errors") from None
        run = JobRun(
            lease.job.id, scope, services, lease.attempt, lease, self._shutdown, time.monotonic() + kind.seconds
        )
        # `begun_at` keeps the job's commits from writing for a user who is erased after the lease was taken.
        with begun_at(lease.taken_at), _renewed(lease, self._jobs.policy.lease_seconds / 3, kind.seconds):
            done = handler(run, payload) or JobDone()
            give_way()
            lease.finish("succeeded", done.result, services.store.check(done.writes))

    def _give_back(self, lease: Lease, seconds: float) -> None:
        at = self._services.clock() + timedelta(seconds=seconds)
        lease.release(at)
        self._redeliver(lease, at, "released")

    def _fail(self, lease: Lease, error: Exception) -> None:
        """Store the attempt's error, and have the job tried again unless another attempt would not help."""
        job = lease.job
        log.warning("job %s (%s) failed in try %d", job.id, job.kind, lease.attempt, exc_info=error)
        # An unexpected error's message may contain anybody's data, so only its type leaves the log.
        public = error if isinstance(error, FirelaunchError) else FirelaunchError()
        details = {"code": public.code, "message": public.message, "type": type(error).__name__}
        if isinstance(error, _PERMANENT) or lease.attempt >= job.max_attempts:
            lease.fail(details, again_at=None)
            return
        pause = self._pause(lease.attempt, getattr(error, "retry_after", None))
        again_at = self._services.clock() + timedelta(seconds=pause)
        lease.fail(details, again_at=again_at)
        self._redeliver(lease, again_at, "")

    def _pause(self, attempt: int, retry_after: float | None) -> float:
        # Full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), on top of the pause
        # that the error itself asked for.
        policy = self._jobs.policy
        longest = min(policy.backoff_max_seconds, policy.backoff_seconds * 2.0 ** (attempt - 1))
        return self._jitter() * longest + min(retry_after or 0.0, policy.backoff_max_seconds)

    def _redeliver(self, lease: Lease, at: datetime, why: str) -> None:
        job: Job = lease.held()
        # Deliveries with the same name are made once, so a repeated call adds no second delivery.
        self._jobs.deliver_again(job, at, name=f"{job.id}-{job.fence}{why}")


@contextmanager
def _renewed(lease: Lease, every: float, seconds: float) -> Iterator[None]:
    """Renew the lease while the handler works, for at most the time that it may take: a hung handler loses its job."""
    handler_ended = threading.Event()
    end_by = time.monotonic() + seconds + every

    def renew() -> None:
        while not handler_ended.wait(every) and time.monotonic() < end_by:
            try:
                lease.renew()
            except LeaseLost:
                return
            except FirelaunchError as error:
                log.warning("the lease of job %s could not be renewed: %s", lease.job.id, error)

    thread = threading.Thread(target=renew, name=f"lease-{lease.job.id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        handler_ended.set()
        thread.join()
