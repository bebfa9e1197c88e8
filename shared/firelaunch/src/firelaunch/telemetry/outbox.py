"""Send spans in the background, with bounded memory. What cannot be sent is lost, and nothing else suffers."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from .options import Sampler
from .spans import Parent, Span

__all__ = ["Outbox", "RareLog"]

log = logging.getLogger(__name__)

_LOG_SECONDS = 60.0
_LAST_SECONDS = 2.0
"""Seconds that the end of the process waits for what is left."""


class RareLog:
    """Logs what goes wrong, a line a minute at most, which says how many others there were."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = 0.0
        self._silent = 0
        self._lock = threading.Lock()

    def say(self, what: str) -> None:
        """Log ``what``, unless a line was logged in the last minute."""
        with self._lock:
            now = self._clock()
            if now < self._next:
                self._silent += 1
                return
            silent, self._silent, self._next = self._silent, 0, now + _LOG_SECONDS
        log.warning("telemetry is lost: %s (%d more times in the minute before)", what[:300], silent)


class Outbox:
    """A :class:`.spans.Sink` that sends from a thread of its own. The thread starts with the first span.

    Args:
        send: sends spans; returns whether they were taken. It may take seconds.
        measure: counts a span for the metrics, sampled or not.
        report: sends the metrics if they are due, or if its argument is true.
        queue, batch, delay: as in :class:`.options.Options`.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Span]], bool] | None,
        sampler: Sampler,
        *,
        content: bool = False,
        measure: Callable[[Span], None] | None = None,
        report: Callable[[bool], None] | None = None,
        queue: int = 2048,
        batch: int = 512,
        delay: float = 5.0,
        problems: RareLog | None = None,
    ) -> None:
        self.content = content
        self._send, self._measure, self._report = send, measure, report
        self._sampler = sampler
        self._most, self._batch, self._delay = queue, min(batch, queue), delay
        self._problems = problems or RareLog()
        self._queue: deque[Span] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._urgent = self._closing = self._failing = self._busy = False
        self._dropped = 0
        self._rounds = 0

    def samples(self, trace_id: int, parent: Parent | None) -> bool:
        """Return whether a trace is sent. See :class:`.spans.Sink`."""
        return self._send is not None and self._sampler.samples(trace_id, parent)

    def take(self, span: Span) -> None:
        """Take a span that has ended. If the queue is full, drop the oldest, which the metrics count all the same."""
        if not span.sampled and self._measure is None:
            return
        oldest: Span | None = None
        with self._changed:
            if len(self._queue) >= self._most:
                oldest = self._queue.popleft()
                self._dropped += oldest.sampled
            self._queue.append(span)
            if self._thread is None:
                self._start()
            elif len(self._queue) in {1, self._batch}:
                self._changed.notify_all()
        if oldest is not None:
            self._count([oldest])

    def flush(self, seconds: float) -> None:
        """Have all that was taken sent now, and wait for that. Don't wait if the last try failed."""
        end = time.monotonic() + seconds
        with self._changed:
            if self._thread is None or not (self._queue or self._busy):
                return
            self._urgent = True
            self._changed.notify_all()
            # A round that is under way may have begun before the last spans came.
            wanted = self._rounds + (2 if self._busy and self._queue else 1)
            while not self._failing and self._rounds < wanted and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)

    def close(self, seconds: float = _LAST_SECONDS) -> None:
        """Send what is left, and end the thread. Give up after ``seconds``."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def _run(self) -> None:
        while not self._closing or self._queue:
            self._wait()
            self._round()
            if self._closing and self._failing:
                return
        self._try_report(last=True)

    def _wait(self) -> None:
        """Wait for a first span, and then for others to go with it."""
        with self._changed:
            while not (self._queue or self._urgent or self._closing):
                self._changed.wait()
            end = time.monotonic() + self._delay
            while not (self._urgent or self._closing or len(self._queue) >= self._batch):
                if (left := end - time.monotonic()) <= 0:
                    break
                self._changed.wait(left)
            self._urgent, self._busy = False, True

    def _round(self) -> None:
        """Send all that is there."""
        while batch := self._take_batch():
            # Counted here and not in the request's thread: many in a row cost a tenth of as many one by one.
            self._count(batch)
            sampled = [span for span in batch if span.sampled]
            if sampled:
                sent = self._try_send(sampled)
                with self._changed:
                    self._failing = not sent
        self._try_report()
        with self._changed:
            dropped, self._dropped = self._dropped, 0
            self._busy = False
            self._rounds += 1
            self._changed.notify_all()
        if dropped:
            self._problems.say(f"{dropped} spans were dropped, as their receiver is slower than they come")

    def _take_batch(self) -> list[Span]:
        with self._changed:
            return [self._queue.popleft() for _ in range(min(self._batch, len(self._queue)))]

    def _count(self, spans: Iterable[Span]) -> None:
        if self._measure is not None:
            for span in spans:
                self._measure(span)

    def _try_send(self, batch: Sequence[Span]) -> bool:
        try:
            return self._send is None or self._send(batch)
        except Exception as error:
            self._problems.say(f"{type(error).__name__}: {error}")
            return False

    def _try_report(self, *, last: bool = False) -> None:
        try:
            if self._report is not None:
                self._report(last)
        except Exception as error:
            self._problems.say(f"{type(error).__name__}: {error}")
