"""Threads for tools. A thread cannot be ended from outside: what takes too long is left behind, within a bound."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

__all__ = ["RunningTool", "ToolThreads"]

_TICK = 0.25
"""Seconds between two looks at whether to wait on."""

_HEARTBEAT = 15.0
"""Seconds of silence after which a stream's client is sent a sign of life."""


class RunningTool:
    """A function on a thread of its own."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None

    @property
    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._ended.is_set()

    def result(self) -> Any:
        """What it returned; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._result

    def waited(self, seconds: float, tick: Callable[[], None]) -> Iterator[None]:
        """Wait until it has ended, or began ``seconds`` ago; gives something after each 15 seconds of that.

        Args:
            tick: called several times a second; raises what is to end the wait.
        """
        silent_since = time.monotonic()
        while (left := self._began + seconds - time.monotonic()) > 0 and not self._ended.wait(min(_TICK, left)):
            tick()
            if time.monotonic() - silent_since >= _HEARTBEAT:
                silent_since = time.monotonic()
                yield

    def run(self, work: Callable[[], Any]) -> None:
        """Run ``work`` here and now, and keep what comes of it."""
        try:
            self._result = work()
        except BaseException as error:
            self._error = error
        self._ended.set()


class ToolThreads:
    """Runs functions, ``most`` of them at a time; one that is left behind counts until it has ended. One per process.

    Its threads are daemons, so a process that ends does not wait for them.
    """

    def __init__(self, most: int = 64) -> None:
        self._free = threading.BoundedSemaphore(most)

    def start(self, work: Callable[[], Any]) -> RunningTool | None:
        """``work`` on a thread, in the caller's context; None where too many are running."""
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
