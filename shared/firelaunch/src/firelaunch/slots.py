"""Limit the work of this process: how much runs at a time, and how much begins in a minute.

A slot is for work that holds a thread or memory. There is a number of slots in all, and a few for each user.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from .errors import FirelaunchError

__all__ = ["Pace", "Room", "Slots"]

T = TypeVar("T")

_REMEMBERED = 100
"""The users whose pace is remembered at least. When there are twice as many as used something of late, the others are
forgotten, for whom it makes no difference."""

_MINUTE = 60.0
"""Seconds of a minute."""


class Slots:
    """The slots for one kind of work in this process.

    Args:
        most: the number of slots.
        of_a_user: the most slots that one user may hold.
        user_full: returns the error for a user who holds that many slots.
        all_full: returns the error for everybody while no slot is left.
    """

    def __init__(
        self,
        most: int,
        of_a_user: int,
        user_full: Callable[[], FirelaunchError],
        all_full: Callable[[], FirelaunchError],
    ) -> None:
        self._most, self._of_a_user = most, min(of_a_user, most)
        self._user_full, self._all_full = user_full, all_full
        self._taken: Counter[str] = Counter()
        # A slot may be released by the garbage collector, which runs in any thread, also in one that holds this lock.
        self._lock = threading.RLock()

    def take(self, user: str, holder: object) -> weakref.finalize[Any, Any]:
        """Take a slot for ``holder``, and return the function that releases it.

        The slot is also released when the holder is garbage-collected, even if its work never began.

        Raises:
            FirelaunchError: the error from ``user_full`` or ``all_full``.
        """
        with self._lock:
            if self._taken[user] >= self._of_a_user:
                raise self._user_full()
            if self._taken.total() >= self._most:
                raise self._all_full()
            self._taken[user] += 1
        return weakref.finalize(holder, self._release, user)

    @contextmanager
    def held(self, user: str) -> Iterator[None]:
        """Hold a slot while the block runs. It raises as :meth:`take` does."""
        holder = _Holder()  # the slot is held as long as this name refers to it
        release = self.take(user, holder)
        try:
            yield
        finally:
            release()

    def _release(self, user: str) -> None:
        with self._lock:
            self._taken[user] -= 1
            if not self._taken[user]:
                del self._taken[user]


class Pace:
    """A rate limit, which spaces units of work so that no more than a number of them begin in a minute.

    Args:
        per_minute: units a minute; 0 for no limit.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = 60 / per_minute if per_minute else 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at: dict[str, float] = {}
        self._most = _REMEMBERED

    def take(self, units: int) -> float:
        """Take units, and return the seconds to wait before using them."""
        with self._lock:
            now = self._clock()
            start = max(now, self._free_at.get("", 0.0))
            self._free_at[""] = start + units * self._seconds
            return start - now

    def admit(self, user: str = "") -> float:
        """Take a unit to use at once, and return 0. While a minute's units are used up, return the seconds to wait.

        Units that were not used for a minute may all be used at once.

        Args:
            user: whose units they are. Each user has as many; "" is everybody together.
        """
        with self._lock:
            now = self._clock()
            if len(self._free_at) >= self._most:
                self._free_at = {name: free_at for name, free_at in self._free_at.items() if free_at > now}
                self._most = max(_REMEMBERED, 2 * len(self._free_at))
            used = max(now, self._free_at.get(user, 0.0)) + self._seconds - now
            if used > _MINUTE:
                return used - _MINUTE
            self._free_at[user] = now + used
            return 0.0


class _Holder:
    """The holder of a block's slot."""


class Room:
    """The bytes that one kind of object may take in this process's memory.

    Args:
        most: the bytes in all.
        full: returns the error for whoever finds no room.
    """

    def __init__(self, most: int, full: Callable[[], FirelaunchError]) -> None:
        self._most = most
        self._full = full
        self._taken = 0
        self._lock = threading.RLock()  # a garbage collection may give room back in any thread

    def made(self, size: int, make: Callable[[], T]) -> T:
        """Return what ``make`` returns. It takes room until it is gone.

        Raises:
            FirelaunchError: the error from ``full``; nothing was made. Errors of ``make`` pass through.
        """
        self._take(size)
        try:
            holder = make()
        except BaseException:
            self._give_back(size)
            raise
        weakref.finalize(holder, self._give_back, size).atexit = False
        return holder

    @contextmanager
    def held(self, size: int) -> Iterator[None]:
        """Take room for the time of a ``with`` statement.

        Raises:
            FirelaunchError: the error from ``full``.
        """
        self._take(size)
        try:
            yield
        finally:
            self._give_back(size)

    def _take(self, size: int) -> None:
        with self._lock:
            if self._taken + size > self._most:
                raise self._full()
            self._taken += size

    def _give_back(self, size: int) -> None:
        with self._lock:
            self._taken -= size
