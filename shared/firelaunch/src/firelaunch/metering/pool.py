"""The pool of an app's money in one month (UTC): what was spent, and the slices that are leased to processes.

One document a month holds all of it, so that one precondition covers the day's, the month's and the guests' ceilings.
This module only computes. :mod:`firelaunch.metering.ceiling` reads and commits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from ..settings.plans import Budget
from ..store.base import SERVER_TIME, Create, Document, Update, Write

__all__ = ["POTS", "WARN_AT", "LeasedSlice", "Pool", "Pot", "ceilings_of", "resets_at"]

Pot = Literal["day", "month", "guests"]
"""The parts of the budget with a ceiling of their own: the app's day, the app's month, and the guests' day."""

POTS: Final[tuple[Pot, ...]] = ("day", "month", "guests")

WARN_AT: Final = (50, 80, 100)
"""The percents of a ceiling at which admins are told, once each."""

_OUT_PERCENT = 3
"""The share of a ceiling that all leased slices should be together. With what a refused request would have taken, it
bounds what is unused when the first request is refused."""


@dataclass(frozen=True, slots=True)
class LeasedSlice:
    """A slice as the pool has it: money of one day that one process may spend, or has spent and not reported yet.

    Attributes:
        owner: the process.
        leased_at: the time of the commit, by the database's clock.
        seconds: the time after ``leased_at`` at which nothing can be spent from it any more, whatever the process does.
    """

    micro_usd: int
    day: str
    guests: bool
    owner: str
    seconds: float
    leased_at: datetime | None = None

    def is_over(self, now: datetime) -> bool:
        """Return whether nothing can be spent from it any more. ``now`` is a time by the database's clock."""
        return self.leased_at is not None and now - self.leased_at >= timedelta(seconds=self.seconds)

    def as_data(self) -> dict[str, Any]:
        """Return the fields to store."""
        return {
            "micro_usd": self.micro_usd,
            "day": self.day,
            "guests": self.guests,
            "owner": self.owner,
            "seconds": self.seconds,
            "leased_at": SERVER_TIME if self.leased_at is None else self.leased_at,
        }


@dataclass(frozen=True, slots=True)
class Pool:
    """One month's money. Methods return changed copies.

    Attributes:
        days: the sums of each day by the day of the month ("d29"): ``spent`` and ``given_up`` of all users, and
            ``guests_spent`` and ``guests_given_up`` of guests. What was given up may have been spent: its process died
            before it could tell.
        leases: the slices that are out, by id.
        told: the ceilings and percents that admins were told of.
    """

    path: str
    days: Mapping[str, Mapping[str, int]]
    leases: Mapping[str, LeasedSlice]
    told: frozenset[str] = frozenset()
    update_time: datetime | None = None

    @classmethod
    def of(cls, path: str, document: Document | None) -> Pool:
        """Return the pool that a document holds, or an empty one."""
        if document is None:
            return cls(path, {}, {})
        data = document.data
        leases = {key: LeasedSlice(**fields) for key, fields in data.get("slices", {}).items()}
        return cls(path, data.get("days", {}), leases, frozenset(data.get("told", ())), document.update_time)

    def write(self) -> Write:
        """Return the write that stores this pool, on condition that nobody changed it since it was read."""
        data = {
            "days": {key: dict(sums) for key, sums in self.days.items()},
            "slices": {key: lease.as_data() for key, lease in self.leases.items()},
            "told": sorted(self.told),
            "updated_at": SERVER_TIME,
        }
        if self.update_time is None:
            return Create(self.path, data)
        return Update(self.path, data, if_updated_at=self.update_time)

    def spent(self, pot: Pot, day: str) -> int:
        """Return the micro-dollars that closed slices have spent."""
        return self._sum(pot, day, "spent")

    def given_up(self, pot: Pot, day: str) -> int:
        """Return the micro-dollars that may have been spent by requests whose process died."""
        return self._sum(pot, day, "given_up")

    def _sum(self, pot: Pot, day: str, name: str) -> int:
        days = self.days.values() if pot == "month" else [self.days.get(_key(day), {})]
        field = f"guests_{name}" if pot == "guests" else name
        return sum(int(sums.get(field, 0)) for sums in days)

    def leased(self, pot: Pot, day: str) -> int:
        """Return the micro-dollars of the slices that are out."""
        return sum(lease.micro_usd for lease in self.leases.values() if _is_of(lease, pot, day))

    def used(self, pot: Pot, day: str) -> int:
        """Return the micro-dollars that are spent, given up or leased."""
        return self.spent(pot, day) + self.given_up(pot, day) + self.leased(pot, day)

    def share(self, pot: Pot, day: str, ceiling: int, owner: str) -> int:
        """Return the size of the next slice of ``owner``: less where more is out, and less as the pool empties."""
        left = ceiling - self.used(pot, day)
        envelope = ceiling * _OUT_PERCENT // 100
        owners = len({lease.owner for lease in self.leases.values()} | {owner})
        return max(0, min(envelope // owners, left // (2 * owners), (envelope - self.leased(pot, day)) // 2))

    def with_lease(self, key: str, lease: LeasedSlice) -> Pool:
        """Return the pool with a slice that is new, or has another amount."""
        return replace(self, leases={**self.leases, key: lease})

    def closed(self, key: str, spent: int, given_up: int = 0) -> Pool:
        """Return the pool without a slice. What was neither spent nor given up of it is there to lease again."""
        lease = self.leases[key]
        sums = dict(self.days.get(_key(lease.day), {}))
        for prefix in ("", "guests_") if lease.guests else ("",):
            for name, micro_usd in (("spent", spent), ("given_up", given_up)):
                sums[prefix + name] = int(sums.get(prefix + name, 0)) + micro_usd
        leases = {other: each for other, each in self.leases.items() if other != key}
        return replace(self, days={**self.days, _key(lease.day): sums}, leases=leases)

    def warned(
        self, ceilings: Mapping[Pot, int], day: str, dry: Iterable[Pot] = ()
    ) -> tuple[Pool, list[tuple[Pot, int]]]:
        """Return the pool after admins were told what they have to be told now, and what that is.

        Args:
            dry: the ceilings that a request was just refused for.
        """
        news: list[tuple[Pot, int]] = []
        for pot, ceiling in ceilings.items():
            used = ceiling if pot in dry else self.used(pot, day)
            reached = [percent for percent in WARN_AT if used * 100 >= percent * ceiling]
            news += [(pot, percent) for percent in reached if _told(pot, day, percent) not in self.told]
        told = self.told | {_told(pot, day, percent) for pot, percent in news}
        return replace(self, told=told), news


def ceilings_of(budget: Budget, *, guests: bool) -> dict[Pot, int]:
    """Return the ceilings, in micro-dollars, that bound a request of a guest, or of another user."""
    of_pots = {"day": budget.daily_usd, "month": budget.monthly_usd, "guests": budget.guests_daily_usd}
    return {pot: amount for pot in POTS if (amount := of_pots[pot]) is not None and (guests or pot != "guests")}


def resets_at(pot: Pot, now: datetime) -> datetime:
    """Return when the pot is full again: the next midnight, or the first of the next month (UTC)."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if pot == "month":
        return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
    return midnight + timedelta(days=1)


def _key(day: str) -> str:
    return f"d{day[8:]}"


def _is_of(lease: LeasedSlice, pot: Pot, day: str) -> bool:
    return pot == "month" or (lease.day == day and (pot == "day" or lease.guests))


def _told(pot: Pot, day: str, percent: int) -> str:
    return f"{pot} {percent}" if pot == "month" else f"{pot} {day} {percent}"
