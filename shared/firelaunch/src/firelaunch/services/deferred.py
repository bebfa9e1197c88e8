"""Adapters that are made by their first use, or beside the first requests.

A cloud's client takes part of a second to import, and an instance starts while somebody waits. So a start makes none.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar, cast

__all__ = ["Warming", "deferred"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_MAKING = threading.RLock()
"""Adapters are made one at a time: threads that import the same modules in another order see them half-made."""


class _Deferred(Generic[T]):
    """Stands for what ``make`` returns, and has its attributes."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> T:
        with _MAKING:
            # Another thread may have made it while this one waited for the lock.
            return cast("T", self.__dict__["_made"]) if "_made" in self.__dict__ else self._make()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)


def deferred(make: Callable[[], T]) -> T:
    """Return what stands for ``make()``, which is called when one of its attributes is first asked for."""
    return cast("T", _Deferred(make))


class Warming:
    """What the first requests of an instance need, made once, in a thread of its own."""

    def __init__(self, steps: Sequence[Callable[[], object]]) -> None:
        self._steps = steps
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Begin, unless it has begun."""
        if not self._steps:
            return
        with self._lock:
            steps, self._steps = self._steps, ()
        if steps:
            threading.Thread(target=_run, args=(steps,), name="warm", daemon=True).start()


def _run(steps: Sequence[Callable[[], object]]) -> None:
    for step in steps:
        try:
            step()
        except Exception as error:  # the request that needs it meets the error again
            log.info("a client could not be prepared: %s", type(error).__name__)
