"""One attempt at a job: take its lease, run its handler, and write down how it ended."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from ..errors import BadRequest, FirelaunchError, Interrupted, ScopeViolation
from ..jobs.base import Job, Kind
from ..jobs.lease import Later, Lease, LeaseLost, take
from ..services.bundle import Services
from ..shutdown import Shutdown
from ..store.fence import begun_at
from .handlers import Cancelled, Handler, Handlers, JobDone, JobFailed, JobRun, Postponed

__all__ = ["Runner"]

log = logging.getLogger(__name__)

_FOR_GOOD = (JobFailed, BadRequest, ScopeViolation)
"""What the next try would end with as well: it is the job itself that is wrong."""


class Runner:
    """Runs jobs of one app.

    Args:
        jitter: a number from 0 to 1, by which a pause before the next try is multiplied.
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

    def run(self, job_id: str, kind: str | None = None) -> str:
        """Do what is to be done about a job now. Once this returns, its delivery is done with.

        Args:
            kind: what the delivery says that it is.

        Returns:
            "gone", "later", "ran" or "lost".

        Raises:
            StoreError: the job's document could not be written; it is to be delivered again.
        """
        taken = take(self._jobs, job_id, kind)
        if taken is None:
            return "gone"
        if isinstance(taken, Later):
            self._jobs.deliver_again(taken.job, taken.at)
            return "later"
        try:
            self._attempt(taken)
        except LeaseLost:
            log.warning("job %s was taken over by another worker", job_id)
            return "lost"
        return "ran"

    def _attempt(self, lease: Lease) -> None:
        known = self._handlers.known.get(lease.job.kind)
        try:
            if known is None:
                raise FirelaunchError(f"No handler for jobs {lease.job.kind!r} is here.")
            self._handle(lease, *known)
        except LeaseLost:
            raise
        except Cancelled:
            lease.finish("cancelled")
        except Interrupted:
            self._give_back(lease, 0.0)
        except Postponed as error:
            self._give_back(lease, error.retry_after or 0.0)
        except Exception as error:
            self._failed(lease, error)

    def _handle(self, lease: Lease, kind: Kind[Any], handler: Handler) -> None:
        scope = lease.job.scope(self._services.store.scope)
        services = self._services.within(scope)
        try:
            payload = kind.payload.model_validate_json(lease.job.payload)
        except ValidationError as error:
            raise JobFailed("The job's payload is not of its kind.", reason=f"{error.error_count()} errors") from None
        run = JobRun(
            lease.job.id, scope, services, lease.attempt, lease, self._shutdown, time.monotonic() + kind.seconds
        )
        with begun_at(lease.taken_at), _kept(lease, self._jobs.policy.lease_seconds / 3, kind.seconds):
            done = handler(run, payload) or JobDone()
            lease.finish("succeeded", done.result, services.store.check(done.writes))

    def _give_back(self, lease: Lease, seconds: float) -> None:
        at = self._services.clock() + timedelta(seconds=seconds)
        lease.release(at)
        self._again(lease, at, "released")

    def _failed(self, lease: Lease, error: Exception) -> None:
        job = lease.job
        log.warning("job %s (%s) failed in try %d", job.id, job.kind, lease.attempt, exc_info=error)
        # What an unexpected error says may be anybody's; its type is all that leaves the log.
        known = error if isinstance(error, FirelaunchError) else FirelaunchError()
        told = {"code": known.code, "message": known.message, "type": type(error).__name__}
        if isinstance(error, _FOR_GOOD) or lease.attempt >= job.max_attempts:
            lease.fail(told, again_at=None)
            return
        pause = self._pause(lease.attempt, getattr(error, "retry_after", None))
        again_at = self._services.clock() + timedelta(seconds=pause)
        lease.fail(told, again_at=again_at)
        self._again(lease, again_at, "")

    def _pause(self, attempt: int, asked: float | None) -> float:
        # Full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), on top of what the
        # failure itself asked for.
        policy = self._jobs.policy
        longest = min(policy.backoff_max_seconds, policy.backoff_seconds * 2.0 ** (attempt - 1))
        return self._jitter() * longest + min(asked or 0.0, policy.backoff_max_seconds)

    def _again(self, lease: Lease, at: datetime, why: str) -> None:
        job: Job = lease.held()
        self._jobs.deliver_again(job, at, name=f"{job.id}-{job.fence}{why}")


@contextmanager
def _kept(lease: Lease, every: float, seconds: float) -> Iterator[None]:
    """Renews the lease while the handler works, but no longer than it may: one that hangs loses its job."""
    over = threading.Event()
    end_by = time.monotonic() + seconds + every

    def renew() -> None:
        while not over.wait(every) and time.monotonic() < end_by:
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
        over.set()
        thread.join()
