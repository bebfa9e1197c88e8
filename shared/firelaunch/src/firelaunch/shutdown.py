"""Shut a process down: running answers may go on for a while, and are then settled rather than lost."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Shutdown"]


class Shutdown:
    """The state of this process's shutdown: whether it has begun, and whether running answers should end now.

    Args:
        grace: the seconds that a running answer may go on. Cloud Run kills a process ten seconds after the signal to
            end (https://cloud.google.com/run/docs/container-contract), and settling takes some of them.
        monotonic: the clock, in seconds.
    """

    def __init__(self, grace: float = 5.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._grace = grace
        self._monotonic = monotonic
        self._end_by: float | None = None

    def begin(self) -> None:
        """Begin the shutdown. A signal handler calls this, so it takes no lock."""
        if self._end_by is None:
            self._end_by = self._monotonic() + self._grace

    @property
    def begun(self) -> bool:
        """Whether the process was told to end. New work should then wait for the next process."""
        return self._end_by is not None

    @property
    def due(self) -> bool:
        """Whether a running answer should end now."""
        return self._end_by is not None and self._monotonic() >= self._end_by
