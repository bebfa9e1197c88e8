"""Retry a request's commit when another request of the same user came first."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from ..errors import AlreadyExists, Contention, PreconditionFailed

__all__ = ["Retries"]

T = TypeVar("T")
_SECONDS = 10.0
"""Seconds for which admission keeps trying while other requests of the same user change the same day."""

_CONFLICTS = (AlreadyExists, PreconditionFailed, Contention)
"""The errors of a commit when another request came first. The next try reads what that request wrote."""


class Retries:
    """Retries attempts that read and commit, until no other request comes first. Each process shares one instance."""

    def __init__(self) -> None:
        # Requests of one user change one document. A request of this process that had a conflict takes its user's lock
        # for its next tries, so that the process's own requests stop conflicting with each other. Users whose hashes
        # meet share a lock, which costs them some waiting and nothing else.
        self._queues = [threading.Lock() for _ in range(64)]

    def run(self, user: str, attempt: Callable[[], T]) -> T:
        """Call ``attempt`` until no other request of ``user`` comes first, and return its result.

        Args:
            attempt: reads, and commits under the precondition that nothing it read has changed.

        Raises:
            Contention: other requests came first for ten seconds.
        """
        try:
            return attempt()
        except _CONFLICTS:
            with self._queues[hash(user) % len(self._queues)]:
                return _retry(attempt)


def _retry(attempt: Callable[[], T]) -> T:
    give_up = time.monotonic() + _SECONDS
    while time.monotonic() < give_up:
        try:
            return attempt()
        except _CONFLICTS:
            time.sleep(random.uniform(0.0, 0.05))  # noqa: S311 - spreads retries, keeps no secret
    raise Contention(retry_after=1)
