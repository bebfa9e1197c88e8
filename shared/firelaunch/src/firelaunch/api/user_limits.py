"""Limit each user's requests to this process: how many are answered at a time, and how many begin in a minute.

What is limited here is memory and time, and counted in memory, so it costs no round trip. Money is counted exactly,
across instances, by :mod:`firelaunch.metering`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import get_args

from ..errors import RateLimited
from ..identity import Caller
from ..settings.app import Settings
from ..settings.plans import Plan
from ..settings.sections import RateName
from ..slots import Pace, Slots

__all__ = ["UserLimits", "no_place"]

_FEWEST = 8
"""Requests that a user may always have answered at a time: a page sends some when it opens."""

_PLACE_SECONDS = 1
"""Seconds after which a client that found all places taken may try again."""


def no_place() -> RateLimited:
    """Return the error for a caller who has as many requests answered as they may."""
    return RateLimited("Too many requests at a time.", retry_after=_PLACE_SECONDS)


class UserLimits:
    """The limits of users' requests in one process.

    Args:
        last_plan: returns the plan that the user with this root had last; None if it is not known.
    """

    def __init__(self, settings: Settings, last_plan: Callable[[str], Plan | None]) -> None:
        self._rates = settings.rates
        self._last_plan = last_plan
        most = settings.limits.requests_at_a_time or max(_FEWEST, settings.cloud.concurrency // 2)
        # In all, requests are limited by the instance's concurrency, and by how long they wait for a thread.
        self._slots = Slots(sys.maxsize, most, no_place, no_place)
        self._paces: dict[tuple[RateName, int], Pace] = {}
        # Until a user's plan is known, the most generous one is taken for theirs.
        names: tuple[RateName, ...] = get_args(RateName)
        self._highest = {name: self._highest_of(name, settings) for name in names}

    def _highest_of(self, name: RateName, settings: Settings) -> int:
        rates = [plan.rates.get(name, getattr(self._rates, name)) for plan in settings.plans.values()]
        return 0 if 0 in rates else max(rates)

    @contextmanager
    def held(self, user: Caller, rate: RateName | None) -> Iterator[None]:
        """Count a request of a user, and hold a place for it while the block runs.

        Args:
            rate: under what it is counted, beside "requests".

        Raises:
            RateLimited: all of the user's places are taken, or the requests of this minute are used up.
        """
        with self._slots.held(user.uid):
            plan = self._last_plan(user.scope.root)
            if rate is not None and rate != "requests":
                self._count(user, rate, plan)
            self._count(user, "requests", plan)
            yield

    def _count(self, user: Caller, rate: RateName, plan: Plan | None) -> None:
        per_minute = self._per_minute(plan, rate)
        # Each number has a pace of its own, in which users of plans with that number are counted.
        pace = self._paces.get((rate, per_minute)) or self._paces.setdefault((rate, per_minute), Pace(per_minute))
        seconds = pace.admit(user.uid)
        if seconds:
            raise RateLimited(retry_after=seconds)

    def _per_minute(self, plan: Plan | None, rate: RateName) -> int:
        if plan is None:
            return self._highest[rate]
        found: int = plan.rates.get(rate, getattr(self._rates, rate))
        return found
