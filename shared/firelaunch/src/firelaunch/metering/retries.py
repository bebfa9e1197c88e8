"""Retry a request's commit when another request of the same user came first.

:func:`admit` reserves for work that a user's day pays for. A chat turn reads more documents in the same round trip, so
:mod:`firelaunch.turns.admit` has steps of its own. What a budget allows is decided in :mod:`.reservations`.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from ..errors import AlreadyExists, Contention, NotFound, PreconditionFailed
from ..scope import Scope
from ..store.base import Write
from .reservations import Day, Metering, Quote, Reservation

__all__ = ["Retries", "admit"]

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


def admit(
    metering: Metering,
    retries: Retries,
    scope: Scope,
    request_id: str,
    quotes: tuple[Quote, Quote],
    *,
    counted: bool = True,
    also: Callable[[Reservation], Sequence[Write]] = lambda _: (),
) -> tuple[Reservation, datetime]:
    """Reserve the most that the work can cost, in one commit with the work's other writes.

    Args:
        scope: the user whose day pays.
        quotes: the quotes of the usual model and of the cheap one.
        counted: whether the work counts toward the requests of the minute and of the day.
        also: returns the writes that go into the same commit: records of requests and calls. It is called again for
            each try. Its errors pass through.

    Returns:
        the reservation, and the time of the commit.

    Raises:
        RateLimited, BudgetExceeded: the user's plan, or the app's own budget, does not admit the work.
        Contention: other requests of the same user kept changing the day for too long.
    """

    def attempt() -> tuple[Reservation, datetime]:
        day = metering.today()
        user, document, erasure = metering.store.get_many([scope.root, scope.usage(day), scope.erasure()])
        usage = Day.of(document, erasure, day)
        reservation, reserve = metering.reserve(scope, day, usage, user, request_id, *quotes, counted=counted)
        try:
            with reservation.admission():
                return reservation, metering.log.commit(scope, [*reserve, *also(reservation)])
        except NotFound as error:
            # The user's documents were deleted between read and commit: the next try creates the day's document.
            raise PreconditionFailed(reason="the day's usage went while it was read") from error

    return retries.run(scope.root, attempt)
