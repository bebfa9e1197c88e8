"""A request that another one overtook is tried again, for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from firelaunch.billing.entitlements import Entitlements
from firelaunch.errors import BudgetExceeded, Contention, PreconditionFailed
from firelaunch.metering import retries as module
from firelaunch.metering.reservations import Metering, Quote, Reservation
from firelaunch.metering.retries import Retries, admit
from firelaunch.scope import Scope
from firelaunch.settings.plans import Plan
from firelaunch.store.base import Delete, Write
from firelaunch.store.sqlite import SQLiteStore

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ADA = Scope("demo", "ada")
PLAN = Plan(requests_per_minute=5, daily_usd="0.001")  # type: ignore[arg-type]


def overtaken(times: int) -> Callable[[], str]:
    left = [PreconditionFailed(reason="another came first")] * times

    def attempt() -> str:
        if left:
            raise left.pop()
        return "done"

    return attempt


def test_an_attempt_is_made_again_until_no_other_request_comes_first() -> None:
    assert Retries().run("ada", overtaken(3)) == "done"


def test_after_too_many_conflicts_the_client_is_told_to_try_again_in_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.2)
    with pytest.raises(Contention) as caught:
        Retries().run("ada", overtaken(10_000))
    assert caught.value.retry_after == 1


def test_an_error_that_is_no_conflict_ends_the_attempts() -> None:
    tries: list[int] = []

    def refused() -> None:
        tries.append(1)
        raise BudgetExceeded

    with pytest.raises(BudgetExceeded):
        Retries().run("ada", refused)
    assert len(tries) == 1


def test_the_tries_of_one_user_after_a_conflict_are_made_one_at_a_time() -> None:
    retries, running, most = Retries(), [], []
    first = threading.Barrier(4)

    def attempt() -> None:
        if threading.current_thread() not in met:
            met.add(threading.current_thread())
            first.wait(30)
            raise PreconditionFailed(reason="another came first")
        running.append(1)
        most.append(len(running))
        running.pop()

    met: set[threading.Thread] = set()
    threads = [threading.Thread(target=retries.run, args=("ada", attempt)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_a_day_that_an_erasure_removes_between_read_and_commit_is_begun_anew(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "data.sqlite3")
    metering = Metering(store, Entitlements({"free": PLAN}, "free"), lambda: NOON, 60.0)
    day = ADA.usage(metering.today())
    quotes = Quote("big", 10), Quote("small", 1)
    admit(metering, Retries(), ADA, "first", quotes)
    tries: list[int] = []

    def erased(_: Reservation) -> Sequence[Write]:
        tries.append(1)
        if len(tries) == 1:
            store.commit([Delete(day)])
        return []

    reservation, _ = admit(metering, Retries(), ADA, "second", quotes, also=erased)
    assert len(tries) == 2
    stored = store.get(day)
    assert stored is not None
    assert (set(stored.data["reservations"]), stored.data["requests"]) == ({"second"}, 1)
    assert reservation.reserved == 10
    store.close()
