"""Refused requests are in the app's sums by their code, and a flood of them costs one write a minute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from firelaunch.errors import StoreError
from firelaunch.metering.refusals import Refusals
from firelaunch.metering.sum_repair import recount
from firelaunch.metering.sum_reports import SumReader
from firelaunch.scope import Scope
from firelaunch.store.base import Write
from firelaunch.store.sqlite import SQLiteStore

APP = Scope("demo")
NOON = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


class CountingStore(SQLiteStore):
    """A database that counts its commits, and can be out of order."""

    commits = 0
    fails = False

    def commit(self, writes: Sequence[Write]) -> datetime:
        self.commits += 1
        if self.fails:
            raise StoreError(reason="out of order")
        return super().commit(writes)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CountingStore]:
    store = CountingStore(tmp_path / "data.sqlite3")
    yield store
    store.close()


def refused(store: SQLiteStore) -> dict[str, int]:
    report = SumReader(store, APP, NOON).report(NOON - timedelta(hours=1), NOON)
    return {row["code"]: row["requests"] for row in report.refusals()}


def test_a_flood_from_many_threads_costs_one_write_a_minute_and_all_is_counted_at_the_end(store: CountingStore) -> None:
    seconds = [0.0]
    refusals = Refusals(store, APP, lambda: NOON, lambda: seconds[0])
    with ThreadPoolExecutor(8) as threads:
        for minute in range(3):
            seconds[0] = minute * 60.0
            list(threads.map(refusals.add, ["rate_limited", "unauthenticated"] * 50))
    assert store.commits == 2, "one after each whole minute"
    refusals.write()
    assert refused(store) == {"rate_limited": 150, "unauthenticated": 150}
    refusals.write()
    assert store.commits == 3, "nothing was left to write"


def test_a_database_out_of_order_loses_counts_and_fails_no_request(store: CountingStore) -> None:
    seconds = iter([0.0, 60.0, 61.0])
    refusals = Refusals(store, APP, lambda: NOON, lambda: next(seconds))
    store.fails = True
    refusals.add("rate_limited")
    store.fails = False
    refusals.add("not_found")
    refusals.write()
    assert refused(store) == {"not_found": 1}


def test_a_recount_leaves_what_was_refused_as_it_is(store: CountingStore) -> None:
    refusals = Refusals(store, APP, lambda: NOON)
    refusals.add("rate_limited")
    refusals.write()
    assert not recount(store, APP, ["2026-03-01T12"])
    assert refused(store) == {"rate_limited": 1}
