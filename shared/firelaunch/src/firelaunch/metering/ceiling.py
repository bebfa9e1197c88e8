"""The app's ceiling: money is leased from the pool in slices, and requests draw from their process's slice in memory.

So requests of a process share no document with each other, nor with those of other processes, until a slice is used
up. Then the process leases another one, in a commit that also reports what it has spent of the old ones.

A process that is killed reports nothing. Nobody touches its slice until the longest of its requests is surely over.
Then whoever needs money takes it back: what requests drew is in documents of their own, which are written in the
commits that admit and settle them. What was drawn and never settled may have been spent, so it does not come back.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

from ..errors import AlreadyExists, AppBudgetExceeded, Contention, NotFound, PreconditionFailed
from ..paging import iso_time
from ..scope import Scope
from ..settings.plans import Budget
from ..store.base import SERVER_TIME, Document, DocumentStore, Filter, Query, Set, Update, Write
from .pool import LeasedSlice, Pool, Pot, ceilings_of, resets_at

__all__ = ["SLICE_SECONDS", "Ceiling", "Chance", "Draw", "Notice"]

log = logging.getLogger(__name__)

T = TypeVar("T")

SLICE_SECONDS: Final = 300.0
"""Seconds for which a process draws from a slice. Then it leases another one."""

_CLOCK_SECONDS = 60.0
"""Seconds for which a slice stays out after its last request must be over."""

_DRAW_DAYS = 32
"""Days that draws are kept. A slice of a month matters until the month is over."""

_CHEAPER_AT_PERCENT = 80
"""The percent of a ceiling from which the cheap model answers."""

_TRIES = 40
_TOUCH_SECONDS = 5.0
_PAGE = 300

_OTHERS_FIRST = (AlreadyExists, PreconditionFailed, NotFound, Contention)
"""The errors of a commit when another process changed the pool first."""


@dataclass(frozen=True, slots=True)
class Notice:
    """News for the app's admins: a ceiling is used up to a percent of it."""

    pot: Pot
    percent: int
    ceiling_micro_usd: int
    resets_at: datetime


Announce = Callable[[Notice], tuple[Write, Callable[[], object]] | None]
"""Returns the write that stores a notice for delivery, and the function that delivers it once that is committed."""


@dataclass(slots=True)
class Chance:
    """The chance to lease a slice with a commit that is made anyway.

    If ``path`` is set, read that document beside your own, and put it here by :meth:`found`.
    """

    path: str | None = None
    pool: Pool | None = None

    def found(self, document: Document | None) -> None:
        """Take the document at ``path``, or None if there is none."""
        if self.path is not None:
            self.pool = Pool.of(self.path, document)


@dataclass(slots=True)
class _Slice:
    """A slice as its process knows it. ``granted`` is what the pool has as leased; the pool may have less spent."""

    id: str
    day: str
    guests: bool
    granted: int
    ends: float
    ends_at: datetime
    spent: int = 0
    held: int = 0
    pending: bool = True
    usable: bool = False
    closing: bool = False

    @property
    def free(self) -> int:
        return 0 if self.pending or self.closing else self.granted - self.spent - self.held


@dataclass(frozen=True, slots=True)
class _Want:
    """The need of a request: ``dear`` micro-dollars for the usual model, or ``cheap`` ones for the cheap one."""

    id: str
    day: str
    guests: bool
    dear: int
    cheap: int


class _Dry(Exception):
    """The pool does not cover what a request needs."""

    def __init__(self, pool: Pool, pots: Sequence[Pot]) -> None:
        super().__init__(pots)
        self.pool = pool
        self.pots = pots


@dataclass(slots=True)
class Draw:
    """The part of its process's slice that one request holds, and the part that it has spent.

    Attributes:
        cheap: whether the ceiling is near, so that the cheap model answers.
        writes: what to commit with the request's admission, inside of :meth:`committing`.
    """

    _ceiling: Ceiling = field(repr=False)
    _slice: _Slice = field(repr=False)
    id: str
    held: int
    cheap: bool
    spent: int = 0
    writes: list[Write] = field(default_factory=list)
    _lease: _Leasing | None = None

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Commit the admission in this context. If it fails, the draw is given back."""
        try:
            yield
        except BaseException:
            self._ceiling.abandon(self)
            raise
        if self._lease is not None:
            self._lease.landed()

    @contextmanager
    def raised_to(self, micro_usd: int, before: int) -> Iterator[None]:
        """Hold ``micro_usd`` in all. Commit :meth:`write` in this context; if that fails, ``before`` is held again.

        Raises:
            AppBudgetExceeded: the app's budget does not cover it.
            Contention, StoreError: another slice was needed, and could not be leased.
        """
        if micro_usd > self.held:
            self._ceiling.extend(self, micro_usd)
        try:
            yield
        except BaseException:
            self._ceiling.book(self, self.spent, before)
            raise

    def settle(self, spent: int, held: int) -> Write:
        """Say what the request has spent so far, and what it still holds. Return the write to commit."""
        self._ceiling.book(self, spent, held)
        return self.write()

    def write(self) -> Write:
        """Return the write that stores what this request holds and has spent."""
        data = {
            "slice": self._slice.id,
            "held_micro_usd": self.held,
            "spent_micro_usd": self.spent,
            "delete_at": self._ceiling.clock() + timedelta(days=_DRAW_DAYS),
        }
        return Set(self._ceiling.scope.draw(self._slice.day, self.id), data)


@dataclass(slots=True)
class _Leasing:
    """A lease that is being committed: the new slice or the growth of one, and the old slices that it reports."""

    ceiling: Ceiling
    slice: _Slice
    reported: list[_Slice]
    writes: list[Write]
    deliver: list[Callable[[], object]]
    growing: Draw | None = None
    growth: int = 0

    def landed(self) -> None:
        """The commit was acknowledged."""
        self.ceiling.landed(self)
        for deliver in self.deliver:
            deliver()


class Ceiling:
    """The slices of one process. Each process shares one instance.

    Args:
        store: the app's store.
        longest: the most seconds after its admission for which a request may call models.
        announce: stores notices for the app's admins. If left out, they are logged alone.
        monotonic: the clock that slices end by, in seconds.
        seconds: seconds for which the process draws from a slice.
    """

    def __init__(
        self,
        store: DocumentStore,
        scope: Scope,
        budget: Budget,
        clock: Callable[[], datetime],
        longest: float,
        announce: Announce = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
        seconds: float = SLICE_SECONDS,
    ) -> None:
        self.scope = scope
        self.clock = clock
        self.ceilings: Mapping[bool, Mapping[Pot, int]] = {
            guests: ceilings_of(budget, guests=guests) for guests in (False, True)
        }
        self._store = store
        self._longest = longest
        self._announce = announce
        self._monotonic = monotonic
        self._seconds = seconds
        self._owner = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._slices: dict[str, _Slice] = {}
        self._kinds: set[bool] = set()
        self._near: dict[tuple[str, bool], bool] = {}
        self._usual = 0
        # Held from the read of the pool until the answer to the commit: the process plans one lease at a time.
        self._leasing = threading.RLock()
        self._touched = float("-inf")

    def bounds(self, *, guests: bool) -> bool:
        """Return whether a ceiling bounds requests of guests, or of other users."""
        return bool(self.ceilings[guests])

    def pool(self, day: str) -> Pool:
        """Read the pool of the month that ``day`` is in."""
        path = self.scope.budget(day)
        return Pool.of(path, self._store.get(path))

    def view(self, day: str) -> dict[str, dict[str, Any]]:
        """Return each ceiling and what is used of it, as admins see it."""
        pool = self.pool(day)
        return {
            pot: {
                "ceiling_micro_usd": ceiling,
                "spent_micro_usd": pool.spent(pot, day),
                "given_up_micro_usd": pool.given_up(pot, day),
                "leased_micro_usd": pool.leased(pot, day),
                "fraction": round(pool.used(pot, day) / ceiling, 4) if ceiling else 1.0,
                "resets_at": iso_time(resets_at(pot, self.clock())),
            }
            for pot, ceiling in self.ceilings[True].items()
        }

    @contextmanager
    def chance(self, day: str) -> Iterator[Chance]:
        """Offer the chance to lease with a commit that is made anyway, if this process has little money at hand."""
        if not self._is_low(day):
            yield Chance()
            return
        with self._leasing:
            if self._is_low(day):
                yield Chance(self.scope.budget(day))
                return
        yield Chance()

    def draw(
        self, draw_id: str, day: str, *, guests: bool, dear: int, cheap: int, chance: Chance | None = None
    ) -> Draw:
        """Draw money for a request that is about to be admitted.

        Args:
            dear, cheap: the micro-dollars that the request needs with the usual model and with the cheap one.
            chance: what :meth:`chance` offered. The draw's writes then lease a slice if need be.

        Raises:
            AppBudgetExceeded: the app's budget does not cover the request.
            Contention: other processes came first each time.
            StoreError: a slice had to be leased, and the database could not be reached.
        """
        want = _Want(draw_id, day, guests, dear, min(cheap, dear))
        if chance is not None and chance.pool is not None:
            try:
                lease, draw = self._plan(chance.pool, want)
            except _Dry as dry:
                self._reclaim_for(dry, want)
            else:
                draw.writes, draw._lease = [draw.write(), *lease.writes], lease
                return draw
        draw = self._draw_at_hand(want) or self._lease(want)
        draw.writes = [draw.write()]
        return draw

    def pay(self, draw: Draw, work: Callable[[], tuple[T, int]]) -> T:
        """Do work that nothing else admits, and pay from ``draw``. See :meth:`.Metering.pay_for_app`."""
        with draw.committing():
            self._store.commit(draw.writes)
        cost = 0
        try:
            result, cost = work()
        finally:
            self._store.commit([draw.settle(cost, 0)])
        return result

    def extend(self, draw: Draw, micro_usd: int) -> None:
        """Have ``draw`` hold ``micro_usd`` in all. See :meth:`Draw.raised_to`."""
        with self._lock:
            if draw.held and draw._slice.free >= micro_usd - draw.held:
                self._book(draw, draw.spent, micro_usd)
                return
        want = _Want(draw.id, draw._slice.day, draw._slice.guests, micro_usd - draw.held, micro_usd - draw.held)
        if draw.held:
            self._lease(want, draw)
            return
        other = self._draw_at_hand(want) or self._lease(want)  # nothing kept the slice of this one open
        draw._slice, draw.held = other._slice, other.held

    def book(self, draw: Draw, spent: int, held: int) -> None:
        """Take down what a request has spent and holds."""
        with self._lock:
            self._book(draw, spent, held)

    def abandon(self, draw: Draw) -> None:
        """Give a draw back whose admission failed. It may be stored all the same."""
        self._give_back(draw)
        if draw._lease is not None:
            self._failed(draw._lease)

    def _give_back(self, draw: Draw) -> None:
        with self._lock:
            self._book(draw, 0, 0)

    def reclaim(self, day: str) -> int:
        """Take back the slices of the month of ``day`` that nobody can spend from any more. Return how many.

        Raises:
            Contention: other processes came first each time.
        """
        taken = 0
        for _ in range(_TRIES):
            pool = self._touch(self.pool(day))
            over = self._over(pool)
            if not over:
                return taken
            for key in over:
                spent, given_up = self._drawn(key, pool.leases[key])
                pool = pool.closed(key, spent, given_up)
            try:
                self._store.commit([pool.write()])
            except _OTHERS_FIRST:
                self._pause()
                continue
            log.warning("%s: took back %d slices of the budget whose process is gone", self.scope.app_id, len(over))
            taken += len(over)  # by the time of this commit others may be over too
        raise Contention(retry_after=1)

    def close(self) -> None:
        """Report what this process has spent, as it ends, so that others can lease the rest at once."""
        with self._lock:
            days = {each.day[:7]: each.day for each in self._slices.values()}
        for day in days.values():
            with self._leasing:
                self._report_alone(day)

    def _report_alone(self, day: str) -> None:
        for _ in range(_TRIES):
            pool = self.pool(day)
            with self._lock:
                pool, reported = self._report(pool, None)
            if not reported:
                return
            lease = _Leasing(self, reported[0], reported, [pool.write()], [])
            try:
                self._store.commit(lease.writes)
            except _OTHERS_FIRST:
                self._failed(lease)
                self._pause()
                continue
            lease.landed()
            return

    def _is_low(self, day: str) -> bool:
        with self._lock:
            kinds = self._kinds or {guests for guests in (False, True) if self.ceilings[guests]}
            return any(self._free(day, guests) < 2 * self._usual or not self._current(day, guests) for guests in kinds)

    def _current(self, day: str, guests: bool) -> list[_Slice]:
        now, at = self._monotonic(), self.clock()
        return [
            each
            for each in self._slices.values()
            if each.usable and each.day == day and each.guests is guests and now < each.ends and at < each.ends_at
        ]

    def _free(self, day: str, guests: bool) -> int:
        return max((each.free for each in self._current(day, guests)), default=0)

    def _amount(self, want: _Want) -> int:
        return want.cheap if self._near.get((want.day, want.guests)) else want.dear

    def _draw_at_hand(self, want: _Want) -> Draw | None:
        with self._lock:
            amount = self._amount(want)
            for each in self._current(want.day, want.guests):
                if each.free >= amount:
                    return self._drawn_from(each, want, amount)
        return None

    def _drawn_from(self, own: _Slice, want: _Want, amount: int) -> Draw:
        draw = Draw(self, own, want.id, 0, cheap=bool(self._near.get((want.day, want.guests))) or amount < want.dear)
        self._usual = max(amount, self._usual * 9 // 10)
        self._book(draw, 0, amount)
        return draw

    def _book(self, draw: Draw, spent: int, held: int) -> None:
        own = draw._slice
        own.spent += spent - draw.spent
        own.held += held - draw.held
        draw.spent, draw.held = spent, held

    def _lease(self, want: _Want, into: Draw | None = None) -> Draw:
        """Lease a slice by a commit of its own, and return the draw; or have the slice of the draw ``into`` grow."""
        with self._leasing:
            for _ in range(_TRIES):
                at_hand = None if into is not None else self._draw_at_hand(want)
                if at_hand is not None:  # another request leased a slice meanwhile
                    return at_hand
                try:
                    lease, draw = self._plan(self.pool(want.day), want, into)
                except _Dry as dry:
                    self._reclaim_for(dry, want)
                    continue
                try:
                    self._store.commit(lease.writes)
                except BaseException as error:
                    if into is None:
                        self._give_back(draw)
                    self._failed(lease)
                    if not isinstance(error, _OTHERS_FIRST):
                        raise
                    self._pause()
                    continue
                lease.landed()
                return draw
        raise Contention(retry_after=1)

    def _plan(self, pool: Pool, want: _Want, into: Draw | None = None) -> tuple[_Leasing, Draw]:
        """Plan a lease: report the old slices, and size the new one.

        Raises:
            _Dry: the pool does not cover what is wanted.
        """
        ceilings = self.ceilings[want.guests]
        with self._lock:
            after, reported = self._report(pool, want)
            self._look(after, want.day)
            left = {pot: ceiling - after.used(pot, want.day) for pot, ceiling in ceilings.items()}
            amount = self._amount(want)
            if amount > min(left.values()):
                amount = want.cheap
            dry = [pot for pot, micro_usd in left.items() if amount > micro_usd]
            if dry or (into is not None and into._slice.id not in after.leases):
                _reopen(reported)
                raise _Dry(pool, dry)
            if into is None:
                share = min(after.share(pot, want.day, ceiling, self._owner) for pot, ceiling in ceilings.items())
                own = self._new(want, max(amount, share))
                draw = self._drawn_from(own, want, amount)
                after = after.with_lease(own.id, self._leased(own))
            else:
                own, draw = into._slice, into
                old = after.leases[own.id]
                after = after.with_lease(own.id, replace(old, micro_usd=old.micro_usd + amount))
        after, news = after.warned(ceilings, want.day)
        notices, deliver = self._notices(news, ceilings)
        return _Leasing(self, own, reported, [after.write(), *notices], deliver, into, amount), draw

    def _new(self, want: _Want, granted: int) -> _Slice:
        own = _Slice(
            f"s{secrets.token_hex(8)}",
            want.day,
            want.guests,
            granted,
            self._monotonic() + self._seconds,
            self.clock() + timedelta(seconds=self._seconds),
        )
        self._slices[own.id] = own
        self._kinds.add(want.guests)
        return own

    def _leased(self, own: _Slice) -> LeasedSlice:
        seconds = self._seconds + self._longest + _CLOCK_SECONDS
        return LeasedSlice(own.granted, own.day, own.guests, self._owner, seconds)

    def _report(self, pool: Pool, want: _Want | None) -> tuple[Pool, list[_Slice]]:
        """Close this process's slices that no request holds any more, and cut the others down to what is held.

        None of them is drawn from again, whether or not the report lands. Without ``want`` these are all slices of the
        pool, and with it all but a good one for the other kind of users.

        Returns:
            the pool after that, and the slices.
        """
        reported: list[_Slice] = []
        for own in list(self._slices.values()):
            if own.pending or self.scope.budget(own.day) != pool.path:
                continue
            lease = pool.leases.get(own.id)
            if lease is None:  # it never got there, or others took it back
                own.usable = False
                del self._slices[own.id]
                continue
            if want is not None and own.guests is not want.guests and own in self._current(want.day, own.guests):
                continue
            reported.append(own)
            own.usable, own.granted = False, own.spent + own.held
            if own.held == 0:
                own.closing = True
                pool = pool.closed(own.id, own.spent)
            else:
                pool = pool.with_lease(own.id, replace(lease, micro_usd=own.granted))
        return pool, reported

    def _look(self, pool: Pool, day: str) -> None:
        """Remember how near the ceilings are."""
        self._near |= {
            (day, guests): any(
                pool.used(pot, day) * 100 >= ceiling * _CHEAPER_AT_PERCENT for pot, ceiling in ceilings.items()
            )
            for guests, ceilings in self.ceilings.items()
        }

    def landed(self, lease: _Leasing) -> None:
        """A lease was committed: its slice may be drawn from."""
        with self._lock:
            if lease.growing is not None:
                lease.slice.granted += lease.growth
                self._book(lease.growing, lease.growing.spent, lease.growing.held + lease.growth)
            elif lease.slice.pending:
                lease.slice.pending, lease.slice.usable = False, True
            for own in lease.reported:
                if own.closing:
                    self._slices.pop(own.id, None)

    def _failed(self, lease: _Leasing) -> None:
        """Nobody knows whether a lease landed. The next report sees it, and nothing is drawn from it until then."""
        with self._lock:
            lease.slice.pending = False
            _reopen(lease.reported)

    def _notices(
        self, news: Sequence[tuple[Pot, int]], ceilings: Mapping[Pot, int]
    ) -> tuple[list[Write], list[Callable[[], object]]]:
        writes: list[Write] = []
        deliver: list[Callable[[], object]] = []
        for pot, percent in news:
            notice = Notice(pot, percent, ceilings[pot], resets_at(pot, self.clock()))
            announced = self._announce(notice)
            if announced is not None:
                writes.append(announced[0])
                deliver.append(announced[1])
            deliver.append(partial(self._log, notice))
        return writes, deliver

    def _log(self, notice: Notice) -> None:
        log.warning(
            "%s: the budget (%s, %d micro-dollars) is used up to %d %%",
            self.scope.app_id,
            notice.pot,
            notice.ceiling_micro_usd,
            notice.percent,
            extra={"budget": notice.pot, "percent": notice.percent},
        )

    def _reclaim_for(self, dry: _Dry, want: _Want) -> None:
        """Take back what dead processes have left.

        Raises:
            AppBudgetExceeded: they left nothing. Admins are told of the first refusal.
        """
        if self._over(dry.pool, self.clock()) and self.reclaim(want.day):
            return
        if not dry.pots:  # a slice is gone while a request of it goes on, as after the process was frozen
            raise AppBudgetExceeded(reason="others took this request's slice back", retry_after=1)
        ceilings = self.ceilings[want.guests]
        if dry.pool.warned(ceilings, want.day, dry.pots)[1]:
            pool, news = self.pool(want.day).warned(ceilings, want.day, dry.pots)
            writes, deliver = self._notices(news, ceilings)
            try:
                self._store.commit([pool.write(), *writes])
            except _OTHERS_FIRST:
                log.info("%s: the notice waits for the next refusal", self.scope.app_id)
            else:
                for each in deliver:
                    each()
        raise _refused(dry.pots, self.clock())

    def _over(self, pool: Pool, now: datetime | None = None) -> list[str]:
        """Return the slices that nobody can spend from any more: as the database's clock has it, or at ``now``."""
        times = [at for at in (pool.update_time, now) if at is not None]
        return [key for key, lease in pool.leases.items() if any(lease.is_over(at) for at in times)]

    def _touch(self, pool: Pool) -> Pool:
        """Learn the database's time by a commit, if that may show that slices are over."""
        with self._lock:
            late = self._monotonic() - self._touched < _TOUCH_SECONDS
            if late or self._over(pool) or not self._over(pool, self.clock()):
                return pool
            self._touched = self._monotonic()
        try:
            at = self._store.commit([Update(pool.path, {"updated_at": SERVER_TIME}, if_updated_at=pool.update_time)])
        except _OTHERS_FIRST:
            return pool
        return replace(pool, update_time=at)

    def _drawn(self, key: str, lease: LeasedSlice) -> tuple[int, int]:
        """Return what was spent of a slice whose process is gone, and what may have been spent."""
        spent = given_up = 0
        after: list[str] | None = None
        while True:
            query = Query(self.scope.draws(lease.day), where=(Filter("slice", "==", key),), limit=_PAGE, after=after)
            page = self._store.query(query)
            spent += sum(int(each.data["spent_micro_usd"]) for each in page)
            given_up += sum(int(each.data["held_micro_usd"]) for each in page)
            if len(page) < _PAGE:
                break
            after = [page[-1].id]
        # Draws whose commit was not acknowledged were given back, so others may have drawn the same money again.
        return spent, max(0, min(given_up, lease.micro_usd - spent))

    def _pause(self) -> None:
        time.sleep(random.uniform(0.0, 0.05))  # noqa: S311 - spreads retries, keeps no secret


def _reopen(reported: Sequence[_Slice]) -> None:
    for own in reported:
        own.closing = False


def _refused(pots: Sequence[Pot], now: datetime) -> AppBudgetExceeded:
    pot: Pot = "month" if "month" in pots else "guests" if "guests" in pots else "day"
    at = resets_at(pot, now)
    left = max(1, round((at - now).total_seconds()))
    hours, minutes = divmod(-(-left // 60), 60)
    if pot == "month":
        return AppBudgetExceeded(
            f"This app's budget of the month is used up. The next month begins on {at:%Y-%m-%d}, at midnight UTC.",
            retry_after=left,
        )
    wait = f"{hours} h {minutes} min" if hours else f"{minutes} min"
    whose = "for guests " if pot == "guests" else ""
    return AppBudgetExceeded(
        f"This app's budget {whose}of today is used up. The next day begins in {wait}, at midnight UTC.",
        retry_after=left,
    )
