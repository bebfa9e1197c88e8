"""A circuit breaker: failing models get a rest, so that requests go straight to their fallback."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

__all__ = ["Breaker"]


@dataclass(slots=True)
class _State:
    failures: int = 0
    retry_at: float = 0.0
    callers: set[Hashable] = field(default_factory=set)


class Breaker:
    """A circuit breaker for each key: ``threshold`` failures in a row close the key off for ``rest`` seconds.

    After the rest, one call is let through as a probe. Its success opens the key again; its failure starts another
    rest.

    Args:
        threshold: failures in a row.
        rest: seconds.
        monotonic: the clock, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float], threshold: int = 5, rest: float = 20.0) -> None:
        self._monotonic = monotonic
        self._threshold = threshold
        self._rest = rest
        self._states: dict[str, _State] = {}
        self._lock = threading.Lock()

    def allows(self, key: str) -> bool:
        """Return whether to call now.

        The first True after a rest is the single probe; other callers wait for its outcome or the next rest.
        """
        with self._lock:
            state = self._states.get(key)
            if state is None or state.failures < self._threshold:
                return True
            if self._monotonic() < state.retry_at:
                return False
            state.retry_at = self._monotonic() + self._rest
            return True

    def succeeded(self, key: str) -> None:
        """Record that the call was answered."""
        with self._lock:
            self._states.pop(key, None)

    def failed(self, key: str, caller: Hashable = None) -> None:
        """Record that the call was not answered, and that the provider is to blame.

        Args:
            caller: whose call it was, if the failure may be about their request alone. All such failures of one caller
                in a row count once, so that nobody closes a key off for everybody. None for any other failure.
        """
        with self._lock:
            state = self._states.setdefault(key, _State())
            if caller is not None and caller in state.callers:
                return
            if caller is not None:
                state.callers.add(caller)
            state.failures += 1
            if state.failures >= self._threshold:
                state.retry_at = self._monotonic() + self._rest
