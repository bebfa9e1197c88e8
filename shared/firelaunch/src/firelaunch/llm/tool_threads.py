"""Threads for tools. A thread cannot be stopped from outside, so slow tools are left behind, up to a limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

__all__ = ["RunningTool", "ToolThreads"]

_TICK = 0.25
"""Seconds between two checks of whether to go on waiting."""

_HEARTBEAT = 15.0
"""Seconds of silence after which a stream sends its client a sign of life."""


class RunningTool:
    """A function that runs on a thread of its own."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None

    @property
    def done(self) -> bool:
        """Whether the function has ended, in whatever way."""
        return self._ended.is_set()

    def result(self) -> Any:
        """Return what the function returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._result

    def wait(self, seconds: float, tick: Callable[[], None]) -> Iterator[None]:
        """Wait until the function has ended or has run for ``seconds``; yield after each 15 seconds of waiting.

        Args:
            tick: called several times a second; raises what should end the wait.
        """
        silent_since = time.monotonic()
        while (left := self._began + seconds - time.monotonic()) > 0 and not self._ended.wait(min(_TICK, left)):
            tick()
            if time.monotonic() - silent_since >= _HEARTBEAT:
                silent_since = time.monotonic()
                yield

    def run(self, work: Callable[[], Any]) -> None:
        """Run ``work`` on the calling thread, and keep its result or error."""
        try:
            self._result = work()
        except BaseException as error:
            self._error = error
        self._ended.set()


class ToolThreads:
    """Threads that run functions, at most ``most`` at a time. Create one for each process.

    A function that was left behind counts until it has ended. The threads are daemons, so they do not delay the end of
    the process.
    """

    def __init__(self, most: int = 64) -> None:
        self._free = threading.BoundedSemaphore(most)

    def start(self, work: Callable[[], Any]) -> RunningTool | None:
        """Run ``work`` on a thread, in the caller's context; return None if too many are running."""
        if not self._free.acquire(blocking=False):
            return None
        running, context = RunningTool(), copy_context()

        def run() -> None:
            try:
                context.run(running.run, work)
            finally:
                self._free.release()

        threading.Thread(target=run, name="tool", daemon=True).start()
        return running
