"""Admit work that is paid by a user's day: read, reserve and commit, until no other request is in the way.

A chat turn reads more in the same round trip, and so does these steps itself (:mod:`firelaunch.turns.admit`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from ..errors import NotFound, PreconditionFailed
from ..scope import Scope
from ..store.base import DocumentStore, Write
from .contention import Retries
from .reservations import Day, Metering, Quote, Reservation

__all__ = ["admit"]


def admit(
    store: DocumentStore,
    metering: Metering,
    retries: Retries,
    scope: Scope,
    request_id: str,
    quotes: tuple[Quote, Quote],
    *,
    counted: bool = True,
    also: Callable[[Reservation], Sequence[Write]] = lambda _: (),
) -> tuple[Reservation, datetime]:
    """Reserve what work costs at most, in one commit with what else it stores.

    Args:
        scope: whose day pays.
        quotes: of the usual model and of the cheap one.
        counted: whether it is one of the minute's and the day's requests.
        also: the writes that go into the same commit; called anew for each try. What it raises passes through.

    Returns:
        the reservation, and the time of the commit.

    Raises:
        RateLimited, BudgetExceeded: the user's plan does not admit it.
        Contention: the same user's other requests were in the way for too long.
    """

    def attempt() -> tuple[Reservation, datetime]:
        day = metering.today()
        user, usage = store.get_many([scope.root, scope.usage(day)])
        plan = metering.plan_of(user)
        reservation, reserve = metering.reserve(scope, day, Day.of(usage), plan, request_id, *quotes, counted=counted)
        try:
            return reservation, store.commit([reserve, *also(reservation)])
        except NotFound as gone:
            raise PreconditionFailed(reason="the day's usage went while it was read") from gone

    return retries.run(scope.root, attempt)
