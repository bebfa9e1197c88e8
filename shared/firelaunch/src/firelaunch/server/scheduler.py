"""Call the ticks of schedules on a laptop, where there is no Cloud Scheduler.

A tick that passed while the laptop was asleep or the app did not run is called late, and once: if there were several,
the last of them. The others are counted as missed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

from ..jobs.schedules import Schedules
from ..shutdown import Shutdown

__all__ = ["Scheduler"]

log = logging.getLogger(__name__)

_LOOK_SECONDS = 5.0
"""Seconds between two looks. A sleeping laptop's timers stand still, so the thread does not sleep until a tick."""


class Scheduler:
    """Looks for due ticks in a thread of its own, which ends with the process.

    Args:
        names: the names of the schedules.
    """

    def __init__(
        self, schedules: Schedules, names: Iterable[str], shutdown: Shutdown, look_seconds: float = _LOOK_SECONDS
    ) -> None:
        self._schedules = schedules
        self._names = tuple(names)
        self._shutdown = shutdown
        self._look_seconds = look_seconds
        self._pause = threading.Event()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="scheduler", daemon=True).start()

    def look(self) -> None:
        """Call each tick that is due."""
        for name in self._names:
            try:
                self._schedules.begin(name)
            except Exception:
                # Whatever the error was, the tick is still due at the next look.
                log.exception("the schedule %s could not be looked at", name)

    def _run(self) -> None:
        while not self._shutdown.begun:
            self.look()
            self._pause.wait(self._look_seconds)
