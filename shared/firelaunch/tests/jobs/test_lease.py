"""A job is held by one worker at a time; who lost it changes nothing. On both stores, with a clock of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from firelaunch.errors import StoreError
from firelaunch.jobs import Job, Jobs, Kind
from firelaunch.jobs.base import KEPT_EVENTS, Delivery
from firelaunch.jobs.lease import Later, Lease, LeaseLost, take
from firelaunch.scope import Scope
from firelaunch.settings.app import JobSettings as Policy
from firelaunch.store.base import DocumentStore, Increment, Set
from firelaunch.store.scoped import ScopedStore
from firelaunch.store.sqlite import SQLiteStore
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

ADA = Scope("demo", "ada")
EFFECT = "apps/demo/users/ada/things/counter"
LEASE = timedelta(seconds=60)


class Note(BaseModel):
    text: str = ""


NOTE = Kind("note", Note, max_attempts=4)


@dataclass
class Clock:
    now: datetime = field(default_factory=lambda: datetime(2026, 3, 1, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def go(self, by: timedelta) -> None:
        self.now += by


class Nobody:
    """A backend that only notes what it was given."""

    def __init__(self) -> None:
        self.given: list[Delivery] = []

    def deliver(self, delivery: Delivery) -> None:
        self.given.append(delivery)

    def start(self, due: Any, run: Any) -> None: ...

    def stop(self) -> None: ...


class LossyStore:
    """A store whose next ``losses`` commits land, and whose acknowledgement is lost."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store
        self.losses = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, writes: Any) -> datetime:
        at = self._store.commit(writes)
        if self.losses:
            self.losses -= 1
            raise StoreError(reason="the connection broke")
        return at


@pytest.fixture(params=["sqlite", "firestore"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DocumentStore]:
    if request.param == "firestore":
        yield request.getfixturevalue("emulator_store")
        return
    made = SQLiteStore(tmp_path / "data.sqlite3")
    yield made
    made.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lossy(store: DocumentStore) -> LossyStore:
    return LossyStore(store)


@pytest.fixture
def jobs(lossy: Any, clock: Clock) -> Jobs:
    return Jobs(ScopedStore(lossy, Scope("demo")), Nobody(), Policy(lease_seconds=60), clock)


def taken(jobs: Jobs, job: Job) -> Lease:
    lease = take(jobs, job.id, "note")
    assert isinstance(lease, Lease)
    return lease


def effect(jobs: Jobs) -> int:
    found = jobs.store.get(EFFECT)
    return 0 if found is None else int(found.data["n"])


ADD_ONE = Set(EFFECT, {"n": Increment(1)}, merge=True)


def test_a_job_that_is_held_is_not_taken_again_before_its_lease_ends(jobs: Jobs, clock: Clock) -> None:
    job = jobs.enqueue(ADA, NOTE, Note())
    taken(jobs, job)
    clock.go(LEASE - timedelta(seconds=1))
    second = take(jobs, job.id, "note")
    assert isinstance(second, Later)
    assert second.at == clock.now + timedelta(seconds=1)


def test_a_worker_whose_lease_was_taken_back_can_neither_write_nor_end_the_job(jobs: Jobs, clock: Clock) -> None:
    job = jobs.enqueue(ADA, NOTE, Note())
    slow = taken(jobs, job)
    slow.commit([ADD_ONE], checkpoint=1)
    clock.go(LEASE)
    quick = taken(jobs, job)
    assert (quick.attempt, quick.checkpoint) == (2, 1)
    for late in (
        lambda: slow.commit([ADD_ONE], checkpoint=2),
        slow.renew,
        lambda: slow.finish("succeeded", {"by": "slow"}, [ADD_ONE]),
        lambda: slow.fail({"code": "x", "message": "x"}, again_at=None),
        slow.release,
    ):
        with pytest.raises(LeaseLost):
            late()
    assert slow.lost
    quick.finish("succeeded", {"by": "quick"}, [ADD_ONE])
    with pytest.raises(LeaseLost):
        slow.finish("succeeded", {"by": "slow"}, [ADD_ONE])
    ended = jobs.get(ADA, job.id)
    assert (ended.state, ended.result, effect(jobs)) == ("succeeded", '{"by":"quick"}', 2)
    assert [entry["event"] for entry in ended.history] == ["queued", "started", "worker_lost", "started", "succeeded"]


def test_a_worker_that_was_slow_but_not_replaced_may_go_on(jobs: Jobs, clock: Clock) -> None:
    job = jobs.enqueue(ADA, NOTE, Note())
    lease = taken(jobs, job)
    clock.go(LEASE * 2)
    lease.finish("succeeded", None, [ADD_ONE])
    assert (jobs.get(ADA, job.id).state, effect(jobs)) == ("succeeded", 1)


def test_a_renewed_lease_holds_from_then_on(jobs: Jobs, clock: Clock) -> None:
    job = jobs.enqueue(ADA, NOTE, Note())
    lease = taken(jobs, job)
    clock.go(LEASE / 2)
    lease.renew()
    clock.go(LEASE / 2)
    assert isinstance(take(jobs, job.id, "note"), Later)
    lease.finish("succeeded")


@pytest.mark.parametrize("end", ["finish", "fail", "release"])
def test_a_lease_that_was_given_up_writes_nothing_more(jobs: Jobs, end: str) -> None:
    """Its own heartbeat may come a moment late."""
    job = jobs.enqueue(ADA, NOTE, Note())
    lease = taken(jobs, job)
    given_up = {
        "finish": lambda: lease.finish("succeeded"),
        "fail": lambda: lease.fail({"code": "x", "message": "x"}, again_at=None),
        "release": lease.release,
    }
    given_up[end]()
    left = jobs.store.get(ADA.job(job.id))
    for late in (lease.renew, lambda: lease.commit([ADD_ONE])):
        with pytest.raises(LeaseLost):
            late()
    assert jobs.store.get(ADA.job(job.id)) == left
    assert effect(jobs) == 0


def test_of_many_workers_at_once_one_takes_the_job(jobs: Jobs) -> None:
    job = jobs.enqueue(ADA, NOTE, Note())
    got: list[Any] = []
    threads = [threading.Thread(target=lambda: got.append(take(jobs, job.id, "note"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(one) for one in got].count(Lease) == 1
    assert len(got) == 8
    assert jobs.get(ADA, job.id).attempts == 1


def test_a_job_whose_workers_all_go_silent_is_dead_in_the_end(jobs: Jobs, clock: Clock) -> None:
    job = jobs.enqueue(ADA, NOTE, Note())
    for _ in range(4):
        taken(jobs, job)
        clock.go(LEASE)
    assert take(jobs, job.id, "note") is None
    ended = jobs.get(ADA, job.id)
    assert (ended.state, ended.attempts) == ("dead", 4)
    assert ended.error is not None
    assert ended.error["code"] == "worker_lost"


def test_a_job_that_was_cancelled_while_its_worker_died_is_not_tried_again(jobs: Jobs, clock: Clock) -> None:
    job = jobs.enqueue(ADA, NOTE, Note())
    taken(jobs, job)
    jobs.cancel(ADA, job.id)
    clock.go(LEASE)
    assert take(jobs, job.id, "note") is None
    assert jobs.get(ADA, job.id).state == "cancelled"


def test_a_cancelling_owner_does_not_cost_the_worker_its_lease(jobs: Jobs) -> None:
    job = jobs.enqueue(ADA, NOTE, Note())
    lease = taken(jobs, job)
    jobs.cancel(ADA, job.id)
    lease.commit([ADD_ONE])
    assert lease.cancel_requested
    assert effect(jobs) == 1


@pytest.mark.parametrize("losses", [1, 2])
def test_a_write_that_landed_unacknowledged_is_not_applied_twice(jobs: Jobs, lossy: LossyStore, losses: int) -> None:
    job = jobs.enqueue(ADA, NOTE, Note())
    lease = taken(jobs, job)
    lossy.losses = losses
    lease.commit([ADD_ONE], checkpoint=1)
    lossy.losses = losses
    lease.finish("succeeded", None, [ADD_ONE])
    assert (jobs.get(ADA, job.id).state, effect(jobs)) == ("succeeded", 2)


def test_a_job_is_not_taken_by_a_delivery_of_another_kind(jobs: Jobs) -> None:
    job = jobs.enqueue(ADA, NOTE, Note())
    assert take(jobs, job.id, "other") is None
    assert take(jobs, "j" + "0" * 32, "note") is None
    assert jobs.get(ADA, job.id).attempts == 0


def test_progress_is_written_at_most_once_a_second_and_the_last_of_it_with_the_end(jobs: Jobs) -> None:
    job = jobs.enqueue(ADA, NOTE, Note())
    now = [0.0]
    held = taken(jobs, job)
    lease = Lease(jobs, held.job, held._updated_at, held.held().history, monotonic=lambda: now[0])
    seen = set()
    for done in range(1, 101):
        now[0] = done * 0.03
        lease.progress(done, 100, "")
        seen.add((jobs.get(ADA, job.id).progress or {}).get("done"))
    assert len(seen) == 3
    lease.finish("succeeded")
    assert jobs.get(ADA, job.id).progress == {"done": 100, "total": 100, "note": ""}


def test_the_history_stays_short(jobs: Jobs, clock: Clock) -> None:
    job = jobs.enqueue(ADA, NOTE, Note())
    for _ in range(KEPT_EVENTS):
        taken(jobs, job).release()
    kept = jobs.get(ADA, job.id)
    assert (len(kept.history), kept.attempts, kept.state) == (KEPT_EVENTS, 0, "queued")


MOVES = st.sampled_from(["take", "take", "wait", "commit", "commit", "finish", "fail", "renew", "cancel"])
STEPS = st.lists(st.tuples(MOVES, st.integers(0, 1)), min_size=8, max_size=30)


@settings(max_examples=150)
@given(steps=STEPS)
def test_in_any_order_of_events_one_worker_holds_a_job_and_it_ends_once(
    steps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = SQLiteStore(tmp_path_factory.mktemp("lease") / "data.sqlite3")
    clock = Clock()
    jobs = Jobs(ScopedStore(store, Scope("demo")), Nobody(), Policy(lease_seconds=60), clock)
    job = jobs.enqueue(ADA, Kind("note", Note, max_attempts=50), Note())
    held: dict[int, Lease] = {}
    landed = ends = 0
    for step, worker in steps:
        lease = held.get(worker)
        newest = max((one.fence for one in held.values()), default=0)
        with suppress(LeaseLost):
            if step == "take":
                got = take(jobs, job.id, "note")
                if isinstance(got, Lease):
                    assert got.fence > newest
                    held[worker] = got
            elif step == "wait":
                clock.go(LEASE)
            elif step == "cancel" and not jobs.get(ADA, job.id).finished:
                jobs.cancel(ADA, job.id)
            elif lease is not None and step != "cancel":
                moves[step](lease, clock)
                assert lease.fence == newest
                landed += step in {"commit", "finish"}
                ends += step == "finish"
    assert effect(jobs) == landed
    assert ends <= 1
    assert (jobs.get(ADA, job.id).state == "succeeded") == (ends == 1)
    store.close()


moves: dict[str, Any] = {
    "commit": lambda lease, _: lease.commit([ADD_ONE]),
    "finish": lambda lease, _: lease.finish("succeeded", None, [ADD_ONE]),
    "fail": lambda lease, clock: lease.fail({"code": "x", "message": "x"}, again_at=clock.now),
    "renew": lambda lease, _: lease.renew(),
}
