"""What a request draws on the app's budget is held for it, and comes back if its commit fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from firelaunch.errors import AppBudgetExceeded, StoreError
from firelaunch.metering.ceiling import Ceiling, Draw
from firelaunch.scope import Scope
from firelaunch.settings.plans import Budget
from firelaunch.store.sqlite import SQLiteStore

APP, DAY, NOON = Scope("demo"), "2026-03-01", datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BUDGET = 10_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    made = SQLiteStore(tmp_path / "data.sqlite3")
    yield made
    made.close()


@pytest.fixture
def ceiling(store: SQLiteStore) -> Ceiling:
    return Ceiling(store, APP, Budget(daily_usd="0.01"), lambda: NOON, 60.0, monotonic=lambda: 0.0)  # type: ignore[arg-type]


def admit(store: SQLiteStore, ceiling: Ceiling, name: str, micro: int) -> Draw:
    draw = ceiling.draw(name, DAY, guests=False, dear=micro, cheap=micro)
    with draw.committing():
        store.commit(draw.writes)
    return draw


def raise_to(store: SQLiteStore, draw: Draw, micro: int) -> None:
    with draw.raised_to(micro, draw.held):
        store.commit([draw.write()])


def fails_after(begin: Callable[[], object]) -> None:
    with pytest.raises(StoreError):
        begin()


def held_until_refused(store: SQLiteStore, ceiling: Ceiling, first: int, then: int) -> int:
    """Hold money for requests until one is refused, and return the micro-dollars that they hold in all."""
    total = 0
    for number in range(5_000):
        try:
            draw = admit(store, ceiling, f"r{number}", first)
            total += first
            raise_to(store, draw, then)
            total += then - first
        except AppBudgetExceeded:
            return total
        assert draw.held == then
    return total


@pytest.mark.parametrize(("first", "then"), [(100, 100), (50, 80), (100, 101), (5, 700)])
def test_requests_hold_what_they_are_raised_to_and_never_more_than_the_budget_in_all(
    store: SQLiteStore, ceiling: Ceiling, first: int, then: int
) -> None:
    total = held_until_refused(store, ceiling, first, then)
    assert BUDGET - 2 * then - BUDGET * 3 // 100 <= total <= BUDGET


def test_a_request_that_holds_enough_is_not_raised_and_loses_nothing(store: SQLiteStore, ceiling: Ceiling) -> None:
    draw = admit(store, ceiling, "r1", 100)
    for micro in (100, 50):
        raise_to(store, draw, micro)
        assert draw.held == 100


def test_what_a_request_was_to_be_raised_to_comes_back_if_the_commit_fails(
    store: SQLiteStore, ceiling: Ceiling
) -> None:
    draw = admit(store, ceiling, "first", 100)

    def begin() -> None:
        with draw.raised_to(6_000, 100):
            raise StoreError(reason="by chance")

    fails_after(begin)
    assert draw.held == 100
    assert held_until_refused(store, ceiling, 50, 80) >= BUDGET - 1_000


def test_what_a_request_drew_comes_back_if_it_is_not_admitted(store: SQLiteStore, ceiling: Ceiling) -> None:
    admit(store, ceiling, "first", 10)

    for number in range(40):
        draw = ceiling.draw(f"failed{number}", DAY, guests=False, dear=60, cheap=60)

        def begin(draw: Draw = draw) -> None:
            with draw.committing():
                store.commit(draw.writes)  # the commit went through, and nobody heard of it
                raise StoreError(reason="by chance")

        fails_after(begin)
        assert draw.held == 0
