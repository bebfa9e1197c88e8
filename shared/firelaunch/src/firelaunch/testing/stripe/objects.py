"""Number the objects of a Stripe account, and keep the events of their changes."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

__all__ = ["VERSION", "Objects"]

VERSION = "2026-10-28.endive"


class Objects:
    """The objects and the events of an account.

    Args:
        clock: returns the seconds since 1970.

    Attributes:
        sessions: the checkout sessions by id.
        events: the events, oldest first.
        heard: called with each event.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self.sessions: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.heard: Callable[[dict[str, Any]], object] = lambda _: None
        self._numbers = count(1)

    def happen(self, kind: str, about: Mapping[str, Any]) -> dict[str, Any]:
        """Add an event of any type about any object, and return it."""
        return self.emit(kind, dict(about))

    def new_object(self, kind: str, prefix: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return a new object of the account, with an id and a time."""
        base = {"id": f"{prefix}_{next(self._numbers):014d}", "object": kind, "created": int(self.clock())}
        return {**base, "livemode": False, **fields}

    def emit(self, kind: str, about: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Add the event of a change, and return it."""
        shown = {key: value for key, value in about.items() if not key.startswith("_")}
        data: dict[str, Any] = {"object": copy.deepcopy(shown)}
        if before is not None:
            data["previous_attributes"] = dict(before)
        event = self.new_object(
            "event", "evt", {"type": kind, "api_version": VERSION, "data": data, "pending_webhooks": 1}
        )
        event["request"] = {"id": None, "idempotency_key": None}
        with self.lock:
            self.events.append(event)
            self.heard(event)
        return event
