"""Limit work that holds a thread or memory of this process: a number of slots in all, and a few for each user."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .errors import FirelaunchError

__all__ = ["Slots"]


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


class _Holder:
    """The holder of a block's slot."""
