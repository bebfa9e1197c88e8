"""The end of a process: answers that are being given may go on for a while, and are then settled rather than lost."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Shutdown"]


class Shutdown:
    """Whether this process was told to end, and whether its answers should by now.

    Args:
        grace: seconds that a running answer may go on. Cloud Run kills a process ten seconds after it was told to end
            (https://cloud.google.com/run/docs/container-contract), and settling takes some of them.
        monotonic: the clock, in seconds.
    """

    def __init__(self, grace: float = 5.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._grace = grace
        self._monotonic = monotonic
        self._end_by: float | None = None

    def begin(self) -> None:
        """The process was told to end. Called from a signal handler, so it takes no lock."""
        if self._end_by is None:
            self._end_by = self._monotonic() + self._grace

    @property
    def begun(self) -> bool:
        """Whether the process was told to end: what has not been begun yet should wait for the next one."""
        return self._end_by is not None

    @property
    def due(self) -> bool:
        """Whether a running answer should end now."""
        return self._end_by is not None and self._monotonic() >= self._end_by
