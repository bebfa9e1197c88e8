"""A job's handler: a function of one run and its payload. What it is handed reaches its own scope and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from ..errors import FirelaunchError, Interrupted
from ..jobs.base import Kind
from ..jobs.lease import Lease, LeaseLost
from ..scope import Scope
from ..services.bundle import Services
from ..shutdown import Shutdown
from ..store.base import Write

__all__ = ["Cancelled", "Handler", "Handlers", "JobDone", "JobFailed", "JobRun", "Postponed", "TimedOut"]

P = TypeVar("P", bound=BaseModel)


class JobFailed(FirelaunchError):
    """For handlers to raise: the job cannot be done, and another try would not help. ``message`` is for its owner."""

    code = "job_failed"
    message = "The job cannot be done."


class Postponed(FirelaunchError):
    """For handlers to raise: go on from the checkpoint after ``retry_after`` seconds. It costs no try."""

    message = "The job goes on later."


class Cancelled(FirelaunchError):
    """The owner asked for the job's end."""

    message = "The job was cancelled."


class TimedOut(FirelaunchError):
    """One try took longer than its kind allows."""

    code = "job_timed_out"
    message = "The try took too long."


@dataclass(frozen=True, slots=True)
class JobDone:
    """What a handler may return: the ``result`` (JSON values, for the owner), and ``writes`` that land with the end."""

    result: Any = None
    writes: Sequence[Write] = ()


@dataclass(slots=True)
class JobRun:
    """One try of one job, as its handler sees it.

    The handler may be run again after a crash at any point, so its effects go through ``commit`` or ``JobDone.writes``,
    which land once and only while the job is held; towards other services ``id`` is the idempotency key.

    Attributes:
        id: the job's.
        scope: whom it is for.
        services: bound to ``scope``: no path outside it can be reached.
        attempt: this try's number, from 1.
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
        """What the last ``commit`` with a checkpoint left, in this try or one before; None at first."""
        return self._lease.checkpoint

    @property
    def seconds_left(self) -> float:
        """Of the time that this try may take."""
        return self._end_by - time.monotonic()

    def check(self) -> None:
        """To be called between steps.

        Raises:
            Cancelled, Interrupted, TimedOut, LeaseLost: the handler should end; let it pass through.
        """
        if self._lease.lost:
            raise LeaseLost
        if self._lease.cancel_requested:
            raise Cancelled
        if self._shutdown.begun:
            raise Interrupted
        if self.seconds_left < 0:
            raise TimedOut

    def commit(self, *writes: Write, checkpoint: Any = None) -> None:
        """Apply ``writes`` and remember ``checkpoint``, in one commit and only while the job is held.

        Raises:
            LeaseLost: another worker has the job; nothing was written.
            ScopeViolation: a write leads out of the job's scope.
        """
        self._lease.commit(self.services.store.check(writes), checkpoint)

    def progress(self, done: int, total: int | None = None, note: str = "") -> None:
        """Tell the owner how far the work has come. Cheap: it is written at most once a second."""
        self._lease.progress(done, total, note)


Handler = Callable[[JobRun, Any], JobDone | None]


class Handlers:
    """The kinds of jobs that an app knows, each with its handler.

    Args:
        more: others that are known as well, also those that are added to it later.
    """

    def __init__(self, more: Handlers | None = None) -> None:
        self._more = more
        self._known: dict[str, tuple[Kind[Any], Handler]] = {}

    def on(
        self, kind: Kind[P]
    ) -> Callable[[Callable[[JobRun, P], JobDone | None]], Callable[[JobRun, P], JobDone | None]]:
        """A decorator: the function does jobs of ``kind``.

        Raises:
            ValueError: another one does already.
        """

        def keep(handler: Callable[[JobRun, P], JobDone | None]) -> Callable[[JobRun, P], JobDone | None]:
            if kind.name in self.known:
                raise ValueError(f"two handlers for jobs {kind.name!r}")
            self._known[kind.name] = (kind, handler)
            return handler

        return keep

    @property
    def known(self) -> Mapping[str, tuple[Kind[Any], Handler]]:
        """By the kind's name."""
        return self._known if self._more is None else {**self._more.known, **self._known}
