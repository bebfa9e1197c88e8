"""A store whose commits fail, whose acknowledgements get lost, and whose process dies, just when it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal

from firelaunch.errors import StoreError
from firelaunch.store.base import Increment, Update, Write
from firelaunch.store.sqlite import SQLiteStore

__all__ = ["ChaosStore", "Fate", "Killed"]

Fate = Literal["refused", "unheard", "killed before", "killed after"]


class Killed(BaseException):
    """The process has died: nothing after it happens."""


class ChaosStore:
    """A store for many requests, each on a thread of its own. What a thread's request is in for is told to ``fate``."""

    def __init__(self, store: SQLiteStore) -> None:
        self._store = store
        self._thread = threading.local()
        self._lock = threading.Lock()
        self.settled: dict[str, int] = {}
        """Micro-dollars that were committed as cost, by request."""

    def fate(self, fate: Fate | None, commit: int) -> None:
        """Of this thread's next request: what happens at its commit of that number, counted from 1."""
        self._thread.fate, self._thread.left, self._thread.dead = fate, commit, False

    def die(self) -> None:
        """This thread's process dies here and now."""
        self._thread.dead = True
        raise Killed

    def commit(self, writes: Sequence[Write]) -> datetime:
        self._alive()
        self._thread.left = getattr(self._thread, "left", 0) - 1
        fate = getattr(self._thread, "fate", None) if self._thread.left == 0 else None
        if fate == "refused":
            raise StoreError(reason="refused by chance")
        if fate == "killed before":
            self.die()
        at = self._store.commit(writes)
        self._take_down(writes)
        if fate == "killed after":
            self.die()
        if fate == "unheard":
            raise StoreError(reason="unheard by chance")
        return at

    def _take_down(self, writes: Sequence[Write]) -> None:
        for write in writes:
            cost = write.data.get("cost_micro_usd") if isinstance(write, Update) else None
            if isinstance(cost, Increment):
                request = next(key for key in write.data if key.startswith("reservations.")).partition(".")[2]
                with self._lock:
                    self.settled[request] = self.settled.get(request, 0) + cost.by

    def _alive(self) -> None:
        if getattr(self._thread, "dead", False):
            raise Killed

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._store, name)

        def call(*args: Any, **options: Any) -> Any:
            self._alive()
            return method(*args, **options)

        return call
