"""What an app's code declares that a deploy sets up; the start check asks the app itself (:mod:`.rehearsal`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["NOTHING", "Declarations", "EventSource"]


@dataclass(frozen=True, slots=True)
class EventSource:
    """The events that one handler of the app is for.

    Args:
        handler: its name. The events go to ``/internal/events/{handler}``.
        source: "write" for documents of Firestore, "upload" for files of Cloud Storage.
        pattern: the paths of the documents or files, with variables in braces.
    """

    handler: str
    source: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Declarations:
    """What the app declares.

    Args:
        indexes: the composite indexes of its collections, as ``firestore.indexes.json`` has them.
        triggers: the events that its handlers are for.
        public_routes: the routes that need no token, as in "GET /api/menu".
    """

    indexes: tuple[Mapping[str, Any], ...] = ()
    triggers: tuple[EventSource, ...] = ()
    public_routes: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Declarations:
        """Read what ``firelaunch.server.declarations`` says."""
        return cls(
            tuple(data["indexes"]),
            tuple(EventSource(**trigger) for trigger in data["triggers"]),
            tuple(data["public_routes"]),
        )

    def sources(self, source: str) -> tuple[EventSource, ...]:
        """Return the events of one source, "write" or "upload"."""
        return tuple(trigger for trigger in self.triggers if trigger.source == source)


NOTHING = Declarations()
"""Of an app that declares nothing of its own, and of none."""
