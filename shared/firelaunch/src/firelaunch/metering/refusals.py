"""Count refused requests in the app's sums, by the code of their error.

A refused request has no record, and nothing is committed for it. So a process counts in memory, and writes at most once
a minute, with a request that it refuses, and when it ends. A process that is killed loses the counts of that minute.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Final

from ..errors import FirelaunchError
from ..scope import Scope
from ..store.base import DocumentStore
from .sums import hour_of, hour_write

__all__ = ["Refusals"]

log = logging.getLogger(__name__)

_SECONDS: Final = 60.0
"""The least time between two writes, so that a flood of refused requests costs an instance one write a minute."""


class Refusals:
    """The refused requests of one process.

    Args:
        app: the app whose sums they are added to.
        clock: returns the current time, with its time zone.
        monotonic: returns seconds that only go forward.
    """

    def __init__(
        self,
        store: DocumentStore,
        app: Scope,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._app, self._clock, self._monotonic = store, app, clock, monotonic
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._written_at = monotonic()

    def add(self, code: str) -> None:
        """Count a request that was refused with an error of this code."""
        with self._lock:
            self._counts[code] += 1
            now = self._monotonic()
            if now - self._written_at < _SECONDS:
                return
            self._written_at = now
        self.write()

    def write(self) -> None:
        """Add what was counted to the sums of the current hour. If the database fails, the counts are lost."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        if not counts:
            return
        now = self._clock()
        tree = {"refusals": {code: {"requests": number} for code, number in counts.items()}}
        try:
            self._store.commit([hour_write(self._app, hour_of(now, now.date().isoformat()), tree)])
        except FirelaunchError as error:
            log.warning("%d refused requests are missing in the sums: %s", counts.total(), error)
