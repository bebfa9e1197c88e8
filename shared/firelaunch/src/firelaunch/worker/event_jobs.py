"""Turn events into jobs of their handlers: in the cloud as Google's services send them, on a laptop as they happen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from mimetypes import guess_type
from typing import Any, Literal

from pydantic import BaseModel

from ..errors import SettingsError
from ..events import Change, ForOthers, Ignored, PathPattern, Received, StorageObject, check_home
from ..jobs import Job
from ..scope import Scope
from ..services.bundle import Services
from ..store.base import Write
from ..store.fence import BEGAN, begun_at
from ..store.observers import DocumentChange
from ..telemetry.spans import consumed
from .event_handlers import EventHandler, FileEvent, WrittenDocument, written_document

__all__ = ["EventJobs", "Trigger"]

_TYPES = {"write": "google.cloud.firestore.document.v1.", "upload": "google.cloud.storage.object.v1.finalized"}
"""The beginning of the types of the events that a handler of each source takes."""


_BOUND = frozenset({"app", "uid", "gid"})
"""Variables of patterns that say whose a document is."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """What a deploy has to set up for one handler.

    Attributes:
        handler: the handler's name. Its events go to ``/internal/events/{handler}``.
        source: "write" for documents of Firestore, "upload" for files of Cloud Storage.
        pattern: the paths of the documents or files, with variables in braces.
    """

    handler: str
    source: Literal["write", "upload"]
    pattern: str


class EventJobs:
    """Enqueues the jobs of events. It is also an :class:`~firelaunch.store.observers.Observer`, for a laptop.

    Args:
        owners: the app's own collections: "user", "group" or "app", by the collection's name.

    Raises:
        SettingsError: a pattern names what is not the app's own.
    """

    def __init__(self, services: Services, handlers: Sequence[EventHandler], owners: Mapping[str, str]) -> None:
        self._services = services
        app = services.store.scope.root
        self._handlers = {
            handler.kind.name: (handler, PathPattern.of(f"{app}/{_below_app(handler, owners)}")) for handler in handlers
        }

    @property
    def triggers(self) -> list[Trigger]:
        """The events that a deploy has to set up, one for each handler."""
        return [
            Trigger(name, handler.source, "/".join(pattern.segments))
            for name, (handler, pattern) in self._handlers.items()
        ]

    def receive(self, name: str, event: Received) -> Job:
        """Enqueue the job of an event that one of Google's services sent.

        Raises:
            Ignored: the event is not for this handler, or not of this app.
            Fenced: the event is of a user who was erased since.
            StoreError, JobsUnavailable: the event has to come again.
        """
        handler, pattern = self._handlers.get(name, (None, None))
        if handler is None or pattern is None:
            raise Ignored("there is no such handler")
        if not event.type.startswith(_TYPES[handler.source]):
            raise Ignored(f"it is a {event.type[:100]!r}")
        names = pattern.match(event.resource)
        if names is None:
            raise ForOthers("its resource is none that this handler is for")
        check_home(event.home, self._services.settings)
        scope, payload, key = self._scope(names), self._payload(event, names), _key(event)
        # A removal that is part of the user's erasure counts as begun when the document was created, so that it makes
        # no job for a user of whom nothing is to be left.
        removed = event.data.created if isinstance(event.data, Change) and event.data.after is None else None
        part = consumed(self._services.tracer, f"event {name}", event.trace)
        with begun_at(removed or event.time or BEGAN.get()), part:
            return self._services.jobs.enqueue(scope, handler.kind, payload, key=key)

    def watches(self, path: str) -> bool:
        """Return whether a handler is for documents like this."""
        return any(True for _ in self._matches("write", path))

    def writes(self, changes: Sequence[DocumentChange]) -> Sequence[Write]:
        """Return the writes that store the jobs for these changes."""
        return [
            self._services.jobs.prepare(
                self._scope(names),
                handler.kind,
                self._written(change.path, names, change.before, change.after),
            ).write
            for change in changes
            for handler, names in self._matches("write", change.path)
        ]

    def uploaded(self, path: str) -> None:
        """Enqueue the jobs for a file that was put into the app's folder on this machine."""
        for handler, names in self._matches("upload", path):
            scope = self._scope(names)
            with self._services.documents.files(scope).open(path) as file:
                size = file.seek(0, 2)
            event = FileEvent(path=path, names=_own(names), size=size, content_type=guess_type(path)[0] or "")
            self._services.jobs.enqueue(scope, handler.kind, event)

    def _matches(self, source: str, path: str) -> Iterator[tuple[EventHandler, dict[str, str]]]:
        for handler, pattern in self._handlers.values():
            if handler.source == source and (names := pattern.match(path)) is not None:
                yield handler, names

    def _payload(self, event: Received, names: Mapping[str, str]) -> BaseModel:
        if isinstance(event.data, StorageObject):
            stored = event.data
            return FileEvent(
                path=event.resource,
                names=_own(names),
                generation=stored.generation,
                size=stored.size,
                content_type=stored.content_type,
            )
        return self._written(event.resource, names, event.data.before, event.data.after)

    def _written(
        self, path: str, names: Mapping[str, str], before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
    ) -> WrittenDocument:
        # A job of the app outlives its users, so the fields of a document that names some stay out of it.
        withheld = path.split("/")[-2] in {each.collection for each in self._services.store.user_fields}
        return written_document(path, _own(names), before, after, withheld=withheld)

    def _scope(self, names: Mapping[str, str]) -> Scope:
        app = self._services.store.scope
        if "gid" in names:
            return app.of_group(names["gid"])
        return app.of(names["uid"]) if "uid" in names else app


def _below_app(handler: EventHandler, owners: Mapping[str, str]) -> str:
    """Return a handler's pattern below the app's document."""
    from ..store.reserved_paths import kept_names  # for an app that has handlers

    segments, declared = handler.pattern.segments, f"@on_{handler.source}({'/'.join(handler.pattern.segments)!r})"
    fits = len(segments) == 2 and len(handler.pattern.variables) == 1 and segments[1].startswith("{")
    if not fits or handler.pattern.variables[0] in _BOUND:
        example = "meals/{meal}" if handler.source == "write" else "pictures/{name}"
        raise SettingsError(f"{declared}: write a name and a variable, as in {example!r}.")
    name = segments[0]
    if name in kept_names():
        raise SettingsError(f"{declared}: firelaunch keeps {name!r} for its own data. Name one of your own.")
    if handler.source == "upload":
        return f"users/{{uid}}/{'/'.join(segments)}"
    if name not in owners:
        known = ", ".join(sorted(owners)) or "none"
        raise SettingsError(f"{declared}: {name!r} is none of App(collections=[...]), which are: {known}.")
    return {"app": "", "user": "users/{uid}/", "group": "groups/{gid}/"}[owners[name]] + "/".join(segments)


def _key(event: Received) -> str:
    """Return the same key for each delivery of an event. Cloud Storage may tell of a file in several messages."""
    return f"{event.resource}#{event.data.generation}" if isinstance(event.data, StorageObject) else event.id


def _own(names: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in names.items() if name not in _BOUND}
