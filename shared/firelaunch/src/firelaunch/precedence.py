"""Let requests go first: background work of the same process gives way to them, step by step.

A thread that answers somebody claims precedence for a moment. Threads that work in the background pause at their next
step while anybody claims it. They still go on at a tenth of their speed, however busy the app is.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["background", "claim", "give_way", "release", "renew"]

CLAIM_SECONDS: Final = 0.1
"""Seconds for which a claim counts. A thread that works for longer, or waits for a model, holds nobody up."""

_PAUSE_FOR_WORK: Final = 9.0
"""Seconds that background work pauses, at most, for each second of processor time that it has used."""

_MOST_SAVED: Final = 0.25
"""The most seconds of pauses that work saves up while nobody claims precedence."""

_SWITCH_SECONDS: Final = 0.0005
"""How long a background thread may hold the interpreter lock while another thread wants it. Python's own 5 ms would
make a request wait as long after each call of the database."""


class _Background(threading.local):
    """The state of a thread that works in the background: None for all others."""

    pauses: _Pauses | None = None


class _Pauses:
    """How long one thread may still pause."""

    def __init__(self) -> None:
        self._saved = 0.0
        self._used = time.thread_time()

    def take(self) -> float:
        """Return the seconds for which the thread may pause now."""
        used = time.thread_time()
        self._saved = min(_MOST_SAVED, self._saved + _PAUSE_FOR_WORK * (used - self._used))
        self._used = used
        return self._saved

    def spend(self, seconds: float) -> None:
        """Note that the thread has paused."""
        self._saved = max(0.0, self._saved - seconds)


_claims: dict[int, float] = {}
"""When each thread's claim ends, by ``time.monotonic``."""

_changed = threading.Condition()
_thread = _Background()
_background_threads = 0
_usual_switch_seconds = sys.getswitchinterval()


def claim() -> None:
    """Have background work give way to this thread for a moment, or until :func:`release`."""
    _claims[threading.get_ident()] = time.monotonic() + CLAIM_SECONDS


def renew() -> None:
    """Have background work give way once more, if this thread has claimed that: its model has answered, say."""
    if threading.get_ident() in _claims:
        claim()


def release() -> None:
    """End this thread's claim, if there is one."""
    if _claims.pop(threading.get_ident(), None) is not None and not _claims:
        with _changed:
            _changed.notify_all()


@contextmanager
def background() -> Iterator[None]:
    """Make this thread give way while the block runs; it gives up a claim that it has."""
    global _background_threads, _usual_switch_seconds
    release()
    outer, _thread.pauses = _thread.pauses, _Pauses()
    with _changed:
        if not _background_threads:
            _usual_switch_seconds = sys.getswitchinterval()
            sys.setswitchinterval(min(_SWITCH_SECONDS, _usual_switch_seconds))
        _background_threads += 1
    try:
        yield
    finally:
        _thread.pauses = outer
        with _changed:
            _background_threads -= 1
            if not _background_threads:
                sys.setswitchinterval(_usual_switch_seconds)


def give_way() -> None:
    """Pause while others claim precedence. Background work calls this between its steps; other threads go on."""
    pauses = _thread.pauses
    if pauses is None or not _claims:
        return
    began = time.monotonic()
    end = began + pauses.take()
    with _changed:
        while (now := time.monotonic()) < end and any(until > now for until in list(_claims.values())):
            _changed.wait(min(end, max(list(_claims.values()), default=now)) - now)
    pauses.spend(time.monotonic() - began)
