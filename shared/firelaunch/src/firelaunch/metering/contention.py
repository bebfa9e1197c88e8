"""Requests of one user that meet: each is tried again until none is in its way."""

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
"""How long admission keeps trying while other requests of the same user change the same day."""

_IN_THE_WAY = (AlreadyExists, PreconditionFailed, Contention)
"""What a commit fails with when another request came first; the next try reads what that one left."""


class Retries:
    """One per process."""

    def __init__(self) -> None:
        # Requests of one user meet on one document. Those of this process that met once queue here before the next try.
        self._queues = [threading.Lock() for _ in range(64)]

    def run(self, user: str, attempt: Callable[[], T]) -> T:
        """What ``attempt`` returns, once no other request of ``user`` is in its way.

        Args:
            attempt: reads, and commits under the precondition that nothing read has changed.

        Raises:
            Contention: other requests were in the way for ten seconds.
        """
        try:
            return attempt()
        except _IN_THE_WAY:
            with self._queues[hash(user) % len(self._queues)]:
                return _again(attempt)


def _again(attempt: Callable[[], T]) -> T:
    give_up = time.monotonic() + _SECONDS
    while time.monotonic() < give_up:
        try:
            return attempt()
        except _IN_THE_WAY:
            time.sleep(random.uniform(0.0, 0.05))  # noqa: S311 - spreads retries, keeps no secret
    raise Contention(retry_after=1)
