"""Define what happens when a document is written or a file is uploaded: ``@on_write``, ``@on_upload``.

Pass the functions to ``App(..., events=[...])``. Each event enqueues a job of the handler's own kind, which is the
function's name. So an event is handled like any job: tried again, seen, cancelled and redriven.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from ..documents.kept_files import KeptFiles
from ..errors import SettingsError
from ..events import PathPattern
from ..jobs.base import HasKind, Job, Kind
from ..records.data import Data
from ..scope import Scope
from ..store.json_values import decoded, encoded
from .handlers import JobDone, JobRun

__all__ = [
    "EventHandler",
    "FileEvent",
    "UploadEvent",
    "WriteEvent",
    "WrittenDocument",
    "on_upload",
    "on_write",
    "written_document",
]

P = TypeVar("P", bound=BaseModel)

_COMPLETE_BYTES = 250_000
"""The most bytes of a document before and after, as JSON, that go into a job's payload."""


class WrittenDocument(BaseModel):
    """The payload of a job for a written document: its fields in the JSON of Firestore's REST API.

    Args:
        complete: whether ``before`` and ``after`` are here. They are not if they are too large, or name users.
    """

    model_config = ConfigDict(extra="forbid")
    path: str
    names: dict[str, str]
    change: Literal["created", "updated", "deleted"]
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    complete: bool = True


class FileEvent(BaseModel):
    """The payload of a job for a file that is new, or has new contents."""

    model_config = ConfigDict(extra="forbid")
    path: str
    names: dict[str, str]
    generation: str = ""
    size: int | None = None
    content_type: str = ""


def written_document(
    path: str,
    names: Mapping[str, str],
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    *,
    withheld: bool = False,
) -> WrittenDocument:
    """Return the payload for a document that was written.

    Args:
        withheld: leave out the fields: they name users, whose erasure would not find them in a job of the app.
    """
    change: Literal["created", "updated", "deleted"] = (
        "created" if before is None else "deleted" if after is None else "updated"
    )
    if withheld:
        return WrittenDocument(path=path, names=dict(names), change=change, complete=False)
    whole = WrittenDocument(path=path, names=dict(names), change=change, before=_encoded(before), after=_encoded(after))
    if len(whole.model_dump_json().encode()) <= _COMPLETE_BYTES:
        return whole
    return whole.model_copy(update={"before": None, "after": None, "complete": False})


def _encoded(fields: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if fields is None else {name: encoded(value) for name, value in fields.items()}


def _decoded(fields: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if fields is None else {name: decoded(value) for name, value in fields.items()}


@dataclass(frozen=True, slots=True)
class _Event:
    """An event, in the run of its job.

    Attributes:
        run: the job's run. Make changes through ``run.commit``, so that they are applied once.
        path: the path of the document, or the name of the file in the app's bucket.
        names: the pattern's variables.
    """

    run: JobRun
    path: str
    names: Mapping[str, str]

    @property
    def scope(self) -> Scope:
        """The user whose document or file it is, or the app."""
        return self.run.scope

    @property
    def data(self) -> Data:
        """The app's own collections, as the event's scope reaches them: ``event.data(meals).get(...)``."""
        return self.run.data

    @property
    def files(self) -> KeptFiles:
        """The files that the app keeps for the event's user, or for itself."""
        return self.run.files

    def enqueue(
        self, job: Kind[P] | HasKind[P], payload: P | None = None, *, key: str | None = None, delay: float = 0.0
    ) -> Job:
        """Enqueue a job for the event's scope. See :meth:`JobRun.enqueue`."""
        return self.run.enqueue(job, payload, key=key, delay=delay)


@dataclass(frozen=True, slots=True)
class WriteEvent(_Event):
    """A document that was created, updated or deleted.

    Events come late, repeatedly and in any order, so rely on what the store holds now.

    Attributes:
        change: "created", "updated" or "deleted".
        before: the fields before the change; None if the document did not exist.
        after: the fields after the change; None if the document no longer exists. If the document before and after is
            over 250 kB in all, or is of an app-wide collection whose records name users, ``before`` is None, and
            ``after`` is what the store holds now.
    """

    change: Literal["created", "updated", "deleted"]
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None

    @classmethod
    def of(cls, run: JobRun, payload: WrittenDocument) -> WriteEvent:
        """Return the event of a run."""
        before, after = _decoded(payload.before), _decoded(payload.after)
        if not payload.complete and payload.change != "deleted":
            document = run.services.store.get(payload.path)
            after = None if document is None else dict(document.data)
        return cls(run, payload.path, payload.names, payload.change, before, after)


@dataclass(frozen=True, slots=True)
class UploadEvent(_Event):
    """A file that is new in the app's bucket, or has new contents.

    Attributes:
        size: the number of bytes; None if it is not known.
        content_type: the type that the client named.
        generation: the number of the file's contents in Cloud Storage; "" on a laptop.
    """

    size: int | None
    content_type: str
    generation: str

    @classmethod
    def of(cls, run: JobRun, payload: FileEvent) -> UploadEvent:
        """Return the event of a run."""
        return cls(run, payload.path, payload.names, payload.size, payload.content_type, payload.generation)

    def open(self) -> IO[bytes]:
        """Return the file, open for reading.

        Raises:
            NotFound: the file was removed in the meantime.
        """
        return self.run.services.documents.files(self.scope).open(self.path)


@dataclass(frozen=True, slots=True)
class EventHandler:
    """A function that handles events of the documents or files that match a pattern.

    Attributes:
        kind: the kind of its jobs.
        source: "write" or "upload".
        pattern: the path below the user, or below the app, as in "meals/{meal}".
    """

    kind: Kind[Any]
    source: Literal["write", "upload"]
    pattern: PathPattern
    function: Callable[[Any], JobDone | None]

    def __call__(self, event: WriteEvent | UploadEvent) -> JobDone | None:
        """Call the function with an event."""
        return self.function(event)

    def handle(self, run: JobRun, payload: Any) -> JobDone | None:
        """Handle the event of a job."""
        event = WriteEvent.of(run, payload) if self.source == "write" else UploadEvent.of(run, payload)
        return self.function(event)


_Decorator = Callable[[Callable[[Any], JobDone | None]], EventHandler]


def on_write(pattern: str, *, max_attempts: int | None = None, seconds: float = 600.0) -> _Decorator:
    """Handle each document of a collection that is created, updated or deleted, whoever wrote it.

    The function takes a :class:`WriteEvent`. A handler that writes documents of its own pattern sets itself off.

    Args:
        pattern: a collection of the app's own and a variable, as in "meals/{meal}".
        max_attempts: the number of attempts after which an event's job is dead; None for the number in the settings.
        seconds: the most seconds of one attempt.

    Raises:
        SettingsError: the pattern or the function's name is not valid.
    """
    return _handler("write", pattern, WrittenDocument, max_attempts, seconds)


def on_upload(pattern: str, *, max_attempts: int | None = None, seconds: float = 600.0) -> _Decorator:
    """Handle each new file in a folder of the users', in the app's bucket.

    The function takes an :class:`UploadEvent`.

    Args:
        pattern: a folder and a variable, as in "pictures/{name}".
        max_attempts: the number of attempts after which an event's job is dead; None for the number in the settings.
        seconds: the most seconds of one attempt.

    Raises:
        SettingsError: the pattern or the function's name is not valid.
    """
    return _handler("upload", pattern, FileEvent, max_attempts, seconds)


def _handler(
    source: Literal["write", "upload"], pattern: str, payload: type[BaseModel], max_attempts: int | None, seconds: float
) -> _Decorator:
    def define(function: Callable[[Any], JobDone | None]) -> EventHandler:
        try:
            kind = Kind(function.__name__, payload, max_attempts, seconds)
            return EventHandler(kind, source, PathPattern.of(pattern), function)
        except ValueError as error:
            raise SettingsError(f"@on_{source}({pattern!r}) {function.__name__}: {error}.") from None

    return define
