"""The app's ceiling: no process spends what it has not leased, and what a dead process left comes back exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import pytest
from firelaunch.errors import AppBudgetExceeded, StoreError
from firelaunch.metering.ceiling import Ceiling, Draw, Notice
from firelaunch.metering.pool import Pool, Pot, ceilings_of, resets_at
from firelaunch.scope import Scope
from firelaunch.settings.plans import Budget
from firelaunch.store import sqlite
from firelaunch.store.base import DocumentStore, Write
from firelaunch.store.sqlite import SQLiteStore
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

APP = Scope("demo")
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = "2026-03-01"
LONGEST = 60.0
OVER = timedelta(seconds=300 + LONGEST + 70)
"""The time after which nothing can be spent from a slice any more."""


class Time:
    """The time of the machines and of the database, in which only a test moves on."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def seconds(self) -> float:
        return (self.now - NOON).total_seconds()

    def passes(self, by: timedelta) -> None:
        self.now += by


def keep_time(monkeypatch: pytest.MonkeyPatch, time: Time) -> None:
    """Have SQLite stamp its commits with ``time``."""

    class Stamp(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:  # noqa: ARG003 - the signature of the real one
            return time.now

    monkeypatch.setattr(sqlite, "datetime", Stamp)


class Faulty:
    """A process's way to the database: the next commit may be refused, or its acknowledgement lost."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store
        self.fate = ""
        self.commits = 0

    def commit(self, writes: Sequence[Write]) -> datetime:
        fate, self.fate = self.fate, ""
        self.commits += 1
        if fate == "refused":
            raise StoreError(reason="refused by chance")
        at = self._store.commit(writes)
        if fate == "unheard":
            raise StoreError(reason="unheard by chance")
        return at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    keep_time(monkeypatch, made)
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    made = SQLiteStore(tmp_path / "data.sqlite3")
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "firestore"])
def either_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DocumentStore]:
    if request.param == "firestore":
        yield request.getfixturevalue("emulator_store")
        return
    made = SQLiteStore(tmp_path / "either.sqlite3")
    yield made
    made.close()


def budget(**dollars: str) -> Budget:
    return Budget(**dollars)  # type: ignore[arg-type]


def process(store: Any, time: Time, given: Budget | None = None, **options: Any) -> Ceiling:
    return Ceiling(store, APP, given or budget(daily_usd="0.01"), time, LONGEST, monotonic=time.seconds, **options)


def admit(store: Any, ceiling: Ceiling, name: str, micro: int, *, guests: bool = False, cheap: int = 0) -> Draw:
    draw = ceiling.draw(name, DAY, guests=guests, dear=micro, cheap=cheap or micro)
    with draw.committing():
        store.commit(draw.writes)
    return draw


def settle(store: Any, draw: Draw, spent: int) -> None:
    store.commit([draw.settle(spent, 0)])


def until_refused(request: Callable[[int], None]) -> int:
    """Make requests until one is refused, and return how many were not."""
    number = 0
    with suppress(AppBudgetExceeded):
        while number < 100_000:
            request(number)
            number += 1
    return number


def figures(pool: Pool, pot: Pot = "day") -> tuple[int, int, int]:
    return pool.spent(pot, DAY), pool.given_up(pot, DAY), pool.leased(pot, DAY)


def test_requests_of_a_process_draw_from_its_slice_and_touch_the_pool_no_more(store: SQLiteStore, time: Time) -> None:
    watched = Faulty(store)
    ceiling = process(watched, time, budget(daily_usd="1"))
    long = admit(store, ceiling, "r1", 100)
    before = watched.commits
    for number in range(100):
        settle(store, admit(store, ceiling, f"r2-{number}", 100), 40)
    assert watched.commits == before
    ceiling.close()
    assert figures(ceiling.pool(DAY)) == (0, 0, 100 * 40 + 100), "what is not drawn is back"
    settle(store, long, 70)
    ceiling.close()
    assert figures(ceiling.pool(DAY)) == (100 * 40 + 70, 0, 0)


def test_a_request_that_the_rest_does_not_cover_is_refused_until_midnight(store: SQLiteStore, time: Time) -> None:
    ceiling = process(store, time)
    settle(store, admit(store, ceiling, "r1", 9_000), 9_000)
    with pytest.raises(AppBudgetExceeded) as caught:
        admit(store, ceiling, "r2", 1_001)
    assert caught.value.retry_after == 12 * 3600
    assert "12 h 0 min" in caught.value.message
    admit(store, ceiling, "r3", 1_000)


def test_a_month_that_is_used_up_says_when_the_next_one_begins(store: SQLiteStore, time: Time) -> None:
    ceiling = process(store, time, budget(monthly_usd="0.01"))
    with pytest.raises(AppBudgetExceeded) as caught:
        admit(store, ceiling, "r1", 10_001)
    assert "2026-04-01" in caught.value.message
    assert caught.value.retry_after == (30 * 24 + 12) * 3600


def test_a_new_day_has_its_own_budget_and_the_month_counts_both(store: SQLiteStore, time: Time) -> None:
    given = budget(daily_usd="0.01", monthly_usd="0.015")
    ceiling = process(store, time, given)
    settle(store, admit(store, ceiling, "r1", 10_000), 10_000)
    time.passes(timedelta(days=1))
    draw = ceiling.draw("r2", "2026-03-02", guests=False, dear=5_000, cheap=5_000)
    assert draw.held == 5_000
    with pytest.raises(AppBudgetExceeded, match="month"):
        ceiling.draw("r3", "2026-03-02", guests=False, dear=1, cheap=1)


def test_guests_draw_on_their_own_budget_and_on_the_apps(store: SQLiteStore, time: Time) -> None:
    given = budget(daily_usd="0.01", guests_daily_usd="0.002")
    ceiling = process(store, time, given)
    settle(store, admit(store, ceiling, "g1", 1_900, guests=True), 1_900)
    with pytest.raises(AppBudgetExceeded, match="for guests"):
        admit(store, ceiling, "g2", 101, guests=True)
    settle(store, admit(store, ceiling, "r1", 8_100), 8_100)
    with pytest.raises(AppBudgetExceeded) as caught:
        admit(store, ceiling, "g3", 100, guests=True)
    assert "guests" not in caught.value.message, "the app's own budget is what is used up"
    ceiling.close()
    assert figures(ceiling.pool(DAY), "guests") == (1_900, 0, 0)
    assert figures(ceiling.pool(DAY)) == (10_000, 0, 0)


def test_users_are_not_bounded_by_the_budget_of_guests(store: SQLiteStore, time: Time) -> None:
    ceiling = process(store, time, budget(guests_daily_usd="0.002"))
    assert (ceiling.bounds(guests=False), ceiling.bounds(guests=True)) == (False, True)


def test_near_the_ceiling_the_cheap_model_answers(store: SQLiteStore, time: Time) -> None:
    ceiling = process(store, time, budget(daily_usd="0.1"))
    settle(store, admit(store, ceiling, "r1", 79_000), 79_000)
    time.passes(timedelta(seconds=301))
    assert not admit(store, ceiling, "r2", 500, cheap=10).cheap
    settle(store, admit(store, ceiling, "r3", 3_000), 3_000)
    time.passes(timedelta(seconds=301))
    draw = admit(store, ceiling, "r4", 500, cheap=10)
    assert (draw.cheap, draw.held) == (True, 10)


def test_the_cheap_model_answers_where_the_rest_covers_no_other(store: SQLiteStore, time: Time) -> None:
    ceiling = process(store, time)
    draw = admit(store, ceiling, "r1", 20_000, cheap=300)
    assert (draw.cheap, draw.held) == (True, 300)


def test_slices_leave_little_unused_when_the_first_request_is_refused(store: SQLiteStore, time: Time) -> None:
    given, quote = budget(daily_usd="1"), 300
    processes = [process(store, time, given) for _ in range(8)]
    charged = until_refused(lambda number: settle(store, admit(store, processes[number % 8], f"r{number}", quote), 150))
    assert charged * 150 >= 950_000
    assert sum(figures(processes[0].pool(DAY))) <= 1_000_000


def test_the_slice_of_a_dead_process_comes_back_when_its_last_request_is_over(store: SQLiteStore, time: Time) -> None:
    dead, other = process(store, time), process(store, time)
    settle(store, admit(store, dead, "r1", 4_000), 1_500)
    admit(store, dead, "r2", 1_000)
    refused = pytest.raises(AppBudgetExceeded)
    time.passes(OVER - timedelta(seconds=11))
    with refused:
        admit(store, other, "r3", 7_500)
    time.passes(timedelta(seconds=12))
    admit(store, other, "r4", 7_500)
    assert figures(other.pool(DAY))[:2] == (1_500, 1_000), "what was held may have been spent"


def test_a_process_draws_from_no_slice_that_others_may_take_back(store: SQLiteStore, time: Time) -> None:
    frozen, other = process(store, time), process(store, time)
    late = admit(store, frozen, "r1", 100)
    time.passes(OVER)
    assert other.reclaim(DAY) == 1
    settle(store, late, 60)
    admit(store, frozen, "r2", 100)
    frozen.close()
    assert figures(other.pool(DAY)) == (0, 100, 100), "the late one was given up, and is counted once"


def test_a_clock_that_jumps_takes_nothing_from_a_live_process(store: SQLiteStore, time: Time) -> None:
    alive = process(store, time)
    admit(store, alive, "r1", 100)

    def ahead() -> datetime:
        return time() + timedelta(hours=5)

    jumped = Ceiling(store, APP, budget(daily_usd="0.01"), ahead, LONGEST, monotonic=time.seconds)
    assert jumped.reclaim(DAY) == 0
    assert figures(jumped.pool(DAY))[1] == 0


def test_admins_are_told_once_at_50_80_and_100_percent(store: SQLiteStore, time: Time) -> None:
    told: list[Notice] = []

    def announce(notice: Notice) -> tuple[Write, Callable[[], object]]:
        from firelaunch.store.base import Create

        write = Create(f"apps/demo/jobs/j-{notice.pot}-{notice.percent}", {"kind": "notice"})
        return write, lambda: told.append(notice)

    processes = [process(store, time, budget(daily_usd="0.1"), announce=announce) for _ in range(3)]
    until_refused(lambda number: settle(store, admit(store, processes[number % 3], f"r{number}", 700), 700))
    for each in processes:
        with suppress(AppBudgetExceeded):
            admit(store, each, f"again-{id(each)}", 5_000)
    assert [notice.percent for notice in told] == [50, 80, 100]
    assert told[0].resets_at == datetime(2026, 3, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("pot", "at", "expected"),
    [
        ("day", "2026-12-31T23:59:59", "2027-01-01T00:00:00"),
        ("month", "2026-12-31T23:59:59", "2027-01-01T00:00:00"),
        ("month", "2028-02-29T00:00:00", "2028-03-01T00:00:00"),
        ("guests", "2026-03-01T00:00:00", "2026-03-02T00:00:00"),
    ],
)
def test_pots_are_full_again_at_midnight_and_on_the_first(pot: Pot, at: str, expected: str) -> None:
    found = resets_at(pot, datetime.fromisoformat(at).replace(tzinfo=UTC))
    assert found == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@dataclass
class Open:
    """A request that was admitted, and what its provider will charge."""

    owner: int
    draw: Draw
    day: str
    guests: bool
    began: datetime
    percent: int
    charged: int | None = None
    stored: tuple[int, int] = (0, 0)
    over: bool = False


FATES = st.sampled_from(["", "", "", "", "refused", "unheard"])
MONEY = st.one_of(st.integers(1, 40), st.integers(1, 900))


class Processes(RuleBasedStateMachine):
    """Processes that come and go, against a provider that keeps its own books."""

    GIVEN: ClassVar = {"daily_usd": "0.006", "monthly_usd": "0.009", "guests_daily_usd": "0.002"}

    @initialize()
    def begin(self) -> None:
        self.time = Time()
        self.patch = pytest.MonkeyPatch()
        keep_time(self.patch, self.time)
        self.patch.setattr("time.sleep", lambda _: None)
        self.folder = TemporaryDirectory()
        self.store = SQLiteStore(Path(self.folder.name) / "data.sqlite3")
        self.given = budget(**self.GIVEN)
        self.skews = [timedelta()] * 3
        self.ways = [Faulty(self.store) for _ in range(3)]
        self.processes = [self.start(number) for number in range(3)]
        self.open: list[Open] = []
        self.books: list[tuple[str, bool, int]] = []
        self.taken_back = False

    def start(self, number: int) -> Ceiling:
        self.skews[number] = timedelta()
        return Ceiling(
            self.ways[number],
            APP,
            self.given,
            lambda: self.time() + self.skews[number],
            LONGEST,
            monotonic=self.time.seconds,
        )

    @property
    def day(self) -> str:
        return self.time.now.date().isoformat()

    @rule(number=st.integers(0, 2), guests=st.booleans(), dear=MONEY, cheap=MONEY, percent=st.integers(0, 100),
          fate=FATES, between=st.sampled_from([None, None, 0, 1, 2]), lease=FATES)  # fmt: skip
    def request(
        self,
        number: int,
        guests: bool,
        dear: int,
        cheap: int,
        percent: int,
        fate: str,
        between: int | None,
        lease: str,
    ) -> None:
        ceiling, way = self.processes[number], self.ways[number]
        with suppress(AppBudgetExceeded, StoreError), ceiling.chance(self.day) as chance:
            if chance.path is not None:
                chance.found(way.get(chance.path))
            if between is not None and between != number:  # another process leases in between
                with suppress(AppBudgetExceeded):
                    self.admit(between, self.processes[between].draw("b", self.day, guests=False, dear=50, cheap=50), 0)
            way.fate = lease if chance.pool is None else ""
            draw = ceiling.draw(f"r{len(self.books)}-{len(self.open)}", self.day, guests=guests, dear=dear, cheap=cheap)
            way.fate = fate
            self.admit(number, draw, percent, guests=guests)
        way.fate = ""

    def admit(self, number: int, draw: Draw, percent: int, *, guests: bool = False) -> None:
        draw.id = f"{draw.id}-{len(self.open)}-{self.time.seconds():.0f}-{id(draw)}"
        draw.writes[0] = draw.write()
        with draw.committing():
            self.ways[number].commit(draw.writes)
        self.open.append(Open(number, draw, self.day, guests, self.time(), percent, stored=(draw.held, 0)))

    @precondition(lambda self: any(not each.over for each in self.open))
    @rule(data=st.data(), more=MONEY, fate=FATES, lease=FATES)
    def extend(self, data: st.DataObject, more: int, fate: str, lease: str) -> None:
        one = data.draw(st.sampled_from([each for each in self.open if not each.over]), label="request")
        if one.charged is not None:
            return
        way, before = self.ways[one.owner], one.draw.held
        way.fate = lease
        with suppress(AppBudgetExceeded, StoreError), one.draw.raised_to(before + more, before):
            way.fate = fate
            way.commit([one.draw.write()])
            one.stored = (one.draw.held, 0)
        way.fate = ""

    @precondition(lambda self: bool(self.open))
    @rule(data=st.data(), fate=FATES)
    def end(self, data: st.DataObject, fate: str) -> None:
        one = data.draw(st.sampled_from(self.open), label="request")
        self.charge(one)
        assert one.charged is not None
        way = self.ways[one.owner]
        way.fate = fate
        write = one.draw.settle(one.charged, 0)
        with suppress(StoreError):
            way.commit([write])
        way.fate = ""
        self.open.remove(one)

    def charge(self, one: Open) -> None:
        if one.charged is None:
            one.charged = one.draw.held * one.percent // 100
            self.books.append((one.day, one.guests, one.charged))

    @rule(number=st.integers(0, 2))
    def kill(self, number: int) -> None:
        for one in [each for each in self.open if each.owner == number]:
            self.charge(one)
            self.open.remove(one)
        self.taken_back = True
        self.processes[number] = self.start(number)

    @rule(number=st.integers(0, 2))
    def close(self, number: int) -> None:
        self.processes[number].close()

    @rule(number=st.integers(0, 2), hours=st.sampled_from([-30, -1, 1, 30]))
    def clock_jumps(self, number: int, hours: int) -> None:
        self.skews[number] += timedelta(hours=hours)

    @rule(number=st.integers(0, 2))
    def reclaim(self, number: int) -> None:
        self.processes[number].reclaim(self.day)

    @rule(seconds=st.sampled_from([5, 120, 301, 430, 3_600, 43_200]))
    def time_passes(self, seconds: int) -> None:
        self.time.passes(timedelta(seconds=seconds))
        self.taken_back |= self.time.now - NOON >= OVER - timedelta(seconds=11)
        for one in self.open:
            if self.time() - one.began > timedelta(seconds=LONGEST):
                self.charge(one)  # the provider is not called any more, and the settlement may come at any time
                one.over = True

    @invariant()
    def nothing_passes_a_ceiling(self) -> None:
        if not hasattr(self, "store"):
            return
        pool = self.processes[0].pool(self.day)
        for pot, ceiling in ceilings_of(self.given, guests=True).items():
            used = pool.used(pot, self.day)
            assert used <= ceiling, (pot, used)
            assert self.charged(pot) + self.at_risk(pot) <= used, (pot, used)

    def charged(self, pot: Pot) -> int:
        days = (self.day,) if pot != "month" else {day for day, _, _ in self.books if day[:7] == self.day[:7]}
        return sum(paid for day, guests, paid in self.books if day in days and (guests or pot != "guests"))

    def at_risk(self, pot: Pot) -> int:
        return sum(
            one.draw.held
            for one in self.open
            if one.charged is None
            and one.day[:7] == self.day[:7]
            and (pot == "month" or one.day == self.day)
            and (one.guests or pot != "guests")
        )

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        for one in list(self.open):
            self.charge(one)
            self.store.commit([one.draw.settle(one.charged or 0, 0)])
        days = {NOON.date().isoformat()[:7]: NOON.date().isoformat(), self.day[:7]: self.day}
        for each in self.processes:
            each.close()
        self.time.passes(OVER)
        fresh = self.start(0)
        for day in days.values():
            fresh.reclaim(day)
            pool = fresh.pool(day)
            assert pool.leases == {}, "every slice is settled in the end"
            charged = sum(paid for at, _, paid in self.books if at[:7] == day[:7])
            spent, given_up = pool.spent("month", day), pool.given_up("month", day)
            assert spent <= charged <= spent + given_up
            assert self.taken_back or (spent, given_up) == (charged, 0)
        self.store.close()
        self.folder.cleanup()
        self.patch.undo()


TestProcesses = Processes.TestCase
TestProcesses.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_both_databases_lease_report_and_take_back_alike(either_store: DocumentStore) -> None:
    """With real times: a slice ends after a moment, and its requests with it."""
    given = budget(daily_usd="0.01", monthly_usd="1")
    clock = lambda: datetime.now(UTC)  # noqa: E731
    ceilings = [Ceiling(either_store, APP, given, clock, -59.9, seconds=0.1) for _ in range(2)]
    day = clock().date().isoformat()

    def drawn(ceiling: Ceiling, name: str, micro: int) -> Draw:
        draw = ceiling.draw(name, day, guests=False, dear=micro, cheap=micro)
        with draw.committing():
            either_store.commit(draw.writes)
        return draw

    dead, alive = ceilings
    either_store.commit([drawn(dead, "r1", 400).settle(150, 0)])
    drawn(dead, "r2", 300)
    kept = drawn(alive, "r3", 200)
    until = clock() + timedelta(seconds=20)
    while alive.reclaim(day) < 2 and clock() < until:  # its own slice is over too, with a request that never settles
        alive._touched = float("-inf")
    pool = alive.pool(day)
    assert (pool.spent("day", day), pool.given_up("day", day), pool.leases) == (150, 500, {})
    either_store.commit([kept.settle(90, 0)])
    drawn(alive, "r4", 9_000)
    with pytest.raises(AppBudgetExceeded):
        drawn(alive, "r5", 351)
    alive.close()


def test_processes_that_lease_at_the_same_moment_share_what_there_is(either_store: DocumentStore) -> None:
    given = budget(daily_usd="0.01")
    day = datetime.now(UTC).date().isoformat()
    ceilings = [Ceiling(either_store, APP, given, lambda: datetime.now(UTC), LONGEST) for _ in range(4)]

    def spend(number: int) -> int:
        count = 0
        with suppress(AppBudgetExceeded):
            while True:
                draw = ceilings[number % 4].draw(f"r{number}-{count}", day, guests=False, dear=400, cheap=400)
                with draw.committing():
                    either_store.commit(draw.writes)
                either_store.commit([draw.settle(400, 0)])
                count += 1
        return count

    with ThreadPoolExecutor(8) as pool:
        admitted = sum(pool.map(spend, range(8)))
    for each in ceilings:
        each.close()
    assert admitted == 25
    assert ceilings[0].pool(day).spent("day", day) == 10_000
