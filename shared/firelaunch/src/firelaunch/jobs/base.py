"""Jobs, their kinds and deliveries, and the port to the backend that delivers jobs to a worker."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import BadRequest
from ..scope import Scope
from ..store.base import Document

__all__ = [
    "KEPT_EVENTS",
    "PAYLOAD_BYTES",
    "Backend",
    "Callers",
    "Delivery",
    "HasKind",
    "Job",
    "Kind",
    "NoPayload",
    "State",
    "event",
    "job_view",
    "kind_of",
]

P = TypeVar("P", bound=BaseModel)

State = Literal["queued", "running", "succeeded", "dead", "cancelled"]
"""``queued`` waits for its time, and ``running`` is held by a worker. The other three are final."""

PAYLOAD_BYTES: Final = 300_000
"""The most bytes of a payload, of a result and of a checkpoint, as JSON. Together with the history they fit a document.
"""

KEPT_EVENTS: Final = 30
"""The number of the latest events that a job's history keeps."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


class NoPayload(BaseModel):
    """The payload of a job that takes none."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Kind(Generic[P]):
    """A kind of job: its name, the pydantic model of its payload, and the limits of its attempts.

    Args:
        name: a lower-case letter, then at most 31 lower-case letters, digits and underscores.
        max_attempts: the number of attempts after which the job is dead; None for the number in the settings.
        seconds: the most seconds of one attempt; at most 1,740, because Cloud Tasks waits for at most 30 minutes
            (https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues.tasks).

    Raises:
        ValueError: the name or the time is invalid.
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

    def payload_of(self, payload: BaseModel | None = None) -> P:
        """Return ``payload``, or for None the one with every field's default.

        Raises:
            BadRequest: ``payload`` is of another model, or is None and a field has no default.
        """
        if payload is None:
            try:
                return self.payload()
            except ValidationError as error:
                field = ".".join(str(part) for part in error.errors()[0]["loc"])
                raise BadRequest(
                    f"A job {self.name!r} takes {self.payload.__name__}: {field!r} has no default.", reason="no payload"
                ) from None
        if not isinstance(payload, self.payload):
            raise BadRequest(reason=f"a job {self.name!r} takes {self.payload.__name__}")
        return payload


class HasKind(Protocol[P]):
    """An object that jobs of one kind are enqueued by, such as a function under ``@job``."""

    @property
    def kind(self) -> Kind[P]:
        """The kind."""


def kind_of(job: Kind[P] | HasKind[P]) -> Kind[P]:
    """Return the kind of job that ``job`` is or has."""
    return job if isinstance(job, Kind) else job.kind


@dataclass(frozen=True, slots=True)
class Delivery:
    """A call to a worker to look at a job.

    Args:
        at: the earliest time; a time in the past means now.
        name: deliveries with the same name are made once; None makes this a delivery of its own.
        seconds: the most seconds that the worker may take to answer.
        trace: the W3C ``traceparent`` of what enqueued the job; "" if that is not traced.
    """

    job_id: str
    kind: str
    at: datetime
    name: str | None
    seconds: float
    trace: str = ""


class Backend(Protocol):
    """Delivers jobs to a worker, at least once. You may call it from many threads."""

    def deliver(self, delivery: Delivery) -> None:
        """Make sure that a worker looks at the job. Return when that is certain.

        Raises:
            JobsUnavailable: the delivery cannot be guaranteed now.
        """

    def start(self, due: Callable[[int], list[str]], run: Callable[[str], object]) -> None:
        """Start to run jobs in this process, if the backend works that way.

        Args:
            due: takes a limit, and returns the ids of that many due jobs at most.
            run: takes a job's id and runs the job.
        """

    def stop(self) -> None:
        """Take no more jobs, and wait for those that run in this process."""


class Callers(Protocol):
    """Verifies who delivers jobs over HTTP."""

    def verify(self, token: str, also: str | None = None) -> None:
        """Return if ``token`` is valid.

        Args:
            also: another audience to accept.

        Raises:
            Unauthenticated: the token is invalid.
        """


@dataclass(frozen=True, slots=True)
class Job:
    """A job as stored. Times have time zones.

    ``trace`` is the ``traceparent`` of what enqueued the job. ``payload``, ``result`` and ``checkpoint`` are JSON text.
    ``fence`` counts how often a worker took the job: a worker with an older number no longer holds it.
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
    trace: str = ""
    checkpoint: str | None = None
    result: str | None = None
    error: Mapping[str, Any] | None = None
    progress: Mapping[str, Any] | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    finished_at: datetime | None = None

    @classmethod
    def of(cls, document: Document) -> Job:
        """Return the job that a document stores."""
        data = document.data
        fields = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        fields["history"] = tuple(data.get("history", ()))
        return cls(**{**fields, "id": document.id, "due_at": data.get("due_at"), "update_time": document.update_time})

    @property
    def finished(self) -> bool:
        """Whether the job has ended, so that nothing more happens by itself."""
        return self.state not in {"queued", "running"}

    def scope(self, app: Scope) -> Scope:
        """Return the scope that the job is for, from its document alone: a user of ``app``, or the app."""
        return Scope(app.app_id) if self.uid is None else app.of(self.uid)

    def with_event(self, entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Return the history with one more event."""
        return [*self.history, entry][-KEPT_EVENTS:]


def event(name: str, at: datetime, attempt: int, error: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return an entry of a job's history."""
    return {"event": name, "at": at, "attempt": attempt, **({} if error is None else {"error": dict(error)})}


def job_view(job: Job) -> dict[str, Any]:
    """Return a job as its owner sees it."""
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
