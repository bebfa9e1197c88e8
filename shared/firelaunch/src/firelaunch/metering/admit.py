"""Admit work that a user's day pays for: read, reserve and commit, and try again if another request came first.

A chat turn reads more documents in the same round trip, so :mod:`firelaunch.turns.admit` has steps of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from ..errors import NotFound, PreconditionFailed
from ..scope import Scope
from ..store.base import Write
from .contention import Retries
from .reservations import Day, Metering, Quote, Reservation

__all__ = ["admit"]


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
        user, usage = metering.store.get_many([scope.root, scope.usage(day)])
        reservation, reserve = metering.reserve(scope, day, Day.of(usage), user, request_id, *quotes, counted=counted)
        try:
            with reservation.admission():
                return reservation, metering.log.commit(scope, [*reserve, *also(reservation)])
        except NotFound as error:
            # The user's documents were deleted between read and commit: the next try creates the day's document.
            raise PreconditionFailed(reason="the day's usage went while it was read") from error

    return retries.run(scope.root, attempt)
