"""What a job is, and the port to whatever brings jobs to a worker."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel

from ..scope import Scope
from ..store.base import Document

__all__ = [
    "KEPT_EVENTS",
    "PAYLOAD_BYTES",
    "Backend",
    "Callers",
    "Delivery",
    "Job",
    "Kind",
    "State",
    "event",
    "job_view",
]

P = TypeVar("P", bound=BaseModel)

State = Literal["queued", "running", "succeeded", "dead", "cancelled"]
"""``queued`` waits for its time, ``running`` is held by a worker; the other three are ends."""

PAYLOAD_BYTES: Final = 300_000
"""Of a payload, of a result and of a checkpoint at most, as JSON; together with the history they fit a document."""

KEPT_EVENTS: Final = 30
"""The latest events of a job's history that are kept."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True, slots=True)
class Kind(Generic[P]):
    """A kind of job: its name, the pydantic model of its payload, and how it is tried.

    Args:
        name: a lower-case letter, then at most 31 lower-case letters, digits and underscores.
        max_attempts: tries, after which the job is dead; the settings' own where it is None.
        seconds: how long one try may take; at most 1,740, as Cloud Tasks waits for 30 minutes at the most
            (https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues.tasks).

    Raises:
        ValueError: the name or the time is not as it should be.
    """

    name: str
    payload: type[P]
    max_attempts: int | None = None
    seconds: float = 600.0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} cannot name a kind of job: use letters, digits and '_', a letter first")
        if not 0 < self.seconds <= 1740:
            raise ValueError(f"a try of {self.name!r} has at most 1,740 seconds")


@dataclass(frozen=True, slots=True)
class Delivery:
    """That a job be looked at.

    Args:
        at: not before this time; now where it is in the past.
        name: deliveries of the same name are one; None makes this a delivery of its own.
        seconds: how long the worker may take to answer.
    """

    job_id: str
    kind: str
    at: datetime
    name: str | None
    seconds: float


class Backend(Protocol):
    """Brings jobs to a worker, at least once. May be called from many threads."""

    def deliver(self, delivery: Delivery) -> None:
        """See to it that the job is looked at. Returns once that is certain.

        Raises:
            JobsUnavailable: it cannot be made certain now.
        """

    def start(self, due: Callable[[int], list[str]], run: Callable[[str], object]) -> None:
        """Begin to work in this process, if that is the backend's way.

        Args:
            due: ids of the jobs whose time has come, so many at most.
            run: takes a job and runs it.
        """

    def stop(self) -> None:
        """Take up no more jobs, and wait for those that run in this process."""


class Callers(Protocol):
    """Who may bring jobs over HTTP."""

    def verify(self, token: str) -> None:
        """Return if ``token`` holds.

        Raises:
            Unauthenticated: it does not.
        """


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its document has it. Times are aware.

    ``payload``, ``result`` and ``checkpoint`` are JSON text. ``fence`` counts how often the job was taken up: whoever
    holds an older number holds nothing.
    """

    id: str
    kind: str
    uid: str | None
    state: State
    payload: str
    attempts: int
    max_attempts: int
    fence: int
    seconds: float
    due_at: datetime | None
    created_at: datetime
    update_time: datetime
    cancel_requested: bool = False
    stamp: str = ""
    checkpoint: str | None = None
    result: str | None = None
    error: Mapping[str, Any] | None = None
    progress: Mapping[str, Any] | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    finished_at: datetime | None = None

    @classmethod
    def of(cls, document: Document) -> Job:
        """From the document."""
        data = document.data
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        known["history"] = tuple(data.get("history", ()))
        return cls(**{**known, "id": document.id, "due_at": data.get("due_at"), "update_time": document.update_time})

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state not in {"queued", "running"}

    def scope(self, app: Scope) -> Scope:
        """Whom the job is for, derived from its document alone: a user of ``app``, or the app."""
        return Scope(app.app_id) if self.uid is None else app.of(self.uid)

    def with_event(self, entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The history, and one more event."""
        return [*self.history, entry][-KEPT_EVENTS:]


def event(name: str, at: datetime, attempt: int, error: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An entry of a job's history."""
    return {"event": name, "at": at, "attempt": attempt, **({} if error is None else {"error": dict(error)})}


def job_view(job: Job) -> dict[str, Any]:
    """A job as its owner sees it."""
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "cancel_requested": job.cancel_requested,
        "created_at": _time(job.created_at),
        "due_at": _time(job.due_at) if job.state == "queued" else None,
        "finished_at": _time(job.finished_at),
        "progress": None if job.progress is None else dict(job.progress),
        "result": None if job.result is None else json.loads(job.result),
        "error": None if job.error is None else dict(job.error),
        "history": [{**entry, "at": _time(entry.get("at"))} for entry in job.history],
    }


def _time(value: Any) -> str | None:
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z") if isinstance(value, datetime) else None
