"""A bounded number of places for work that holds a thread or memory of this process; of one user a few of them."""

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
    """Places for one kind of work in this process.

    Args:
        most: how many there are.
        of_a_user: how many one user may hold.
        user_full: makes what a user who holds that many is refused with.
        all_full: makes what everybody is refused with while none is left.
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
        # What gives a place back may run where garbage is collected: in any thread, in the middle of anything.
        self._lock = threading.RLock()

    def take(self, user: str, holder: object) -> weakref.finalize[Any, Any]:
        """A place for ``holder``, until what is returned is called, or the holder is gone, begun or not.

        Raises:
            FirelaunchError: what ``user_full`` or ``all_full`` makes.
        """
        with self._lock:
            if self._taken[user] >= self._of_a_user:
                raise self._user_full()
            if self._taken.total() >= self._most:
                raise self._all_full()
            self._taken[user] += 1
        return weakref.finalize(holder, self._leave, user)

    @contextmanager
    def held(self, user: str) -> Iterator[None]:
        """A place for as long as the block runs; raises as :meth:`take` does."""
        holder = _Holder()  # as long as there is a name for it, its place is its own
        leave = self.take(user, holder)
        try:
            yield
        finally:
            leave()

    def _leave(self, user: str) -> None:
        with self._lock:
            self._taken[user] -= 1
            if not self._taken[user]:
                del self._taken[user]


class _Holder:
    """Whom a block's place belongs to."""
