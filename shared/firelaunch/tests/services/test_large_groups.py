"""A group of a thousand members: what its members ask costs as much as in a group of ten."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from firelaunch.billing.entitlements import Entitlements
from firelaunch.identity import Caller
from firelaunch.scope import Scope
from firelaunch.services.groups import Groups, guard_of
from firelaunch.settings.plans import Plan
from firelaunch.store.base import Document, Query, Set, Write
from firelaunch.store.scoped import ScopedStore
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.worker.tasks.erase import Erasure

APP = Scope("demo")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
T = TypeVar("T")


@dataclass
class Cost:
    """Round trips, documents that were read, and writes: what Firestore takes time and money for."""

    trips: int = 0
    reads: int = 0
    writes: int = 0


class CountingStore(SQLiteStore):
    """Counts what Firestore would be asked."""

    cost = Cost()
    _inside = False

    def _counted(self, ask: Callable[[], T], number: Callable[[T], int]) -> T:
        if self._inside:  # SQLite's own reads by its other methods
            return ask()
        self._inside = True
        try:
            found = ask()
        finally:
            self._inside = False
        self.cost.trips += 1
        self.cost.reads += max(1, number(found))
        return found

    def get(self, path: str) -> Document | None:
        return self._counted(partial(super().get, path), lambda _: 1)

    def get_many(self, paths: Sequence[str]) -> list[Document | None]:
        return self._counted(partial(super().get_many, paths), len)

    def query(self, query: Query) -> list[Document]:
        return self._counted(partial(super().query, query), len)

    def read(self, paths: Sequence[str], queries: Sequence[Query]) -> Any:
        return self._counted(
            partial(super().read, paths, queries), lambda found: len(found[0]) + sum(map(len, found[1]))
        )

    def commit(self, writes: Sequence[Write]) -> datetime:
        self.cost.trips += 1
        self.cost.writes += len(writes)
        return super().commit(writes)

    def transaction(self, work: Callable[[Any], T]) -> T:
        def counted(transaction: Any) -> T:
            return work(_Counting(transaction, self.cost))

        self.cost.trips += 2  # its begin, and its commit
        return super().transaction(counted)


class _Counting:
    def __init__(self, transaction: Any, cost: Cost) -> None:
        self._transaction, self._cost = transaction, cost

    def get(self, path: str) -> Any:
        self._cost.trips += 1
        self._cost.reads += 1
        return self._transaction.get(path)

    def query(self, query: Query) -> Any:
        found = self._transaction.query(query)
        self._cost.trips += 1
        self._cost.reads += max(1, len(found))
        return found

    def write(self, *writes: Write) -> None:
        self._cost.writes += len(writes)
        self._transaction.write(*writes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transaction, name)


def person(uid: str) -> Caller:
    return Caller("demo", uid, "member", None)


@dataclass
class World:
    raw: CountingStore

    def __post_init__(self) -> None:
        plan = {"requests_per_minute": 100, "daily_usd": "1", "groups": 9, "group_members": 10_000}
        self.store = ScopedStore(self.raw, APP)
        entitlements = Entitlements({"free": Plan.model_validate(plan)}, "free")
        self.groups = Groups(self.store, entitlements, lambda: NOW)

    def group_of(self, size: int) -> str:
        """Make a group of so many members. Most are stored at once, as joining them one by one takes long."""
        group = self.groups.make(person("ada"), "Many", (), "viewer", "Ada").id
        place = APP.of_group(group)
        for begin in range(1, size, 200):
            writes: list[Write] = []
            for number in range(begin, min(begin + 200, size)):
                own = {"role": "viewer", "joined_at": NOW + timedelta(seconds=number)}
                uid = f"user-{number:04}"
                writes.append(Set(place.group_member(uid), {"uid": uid, "name": uid, **own}))
                writes.append(Set(APP.of(uid).membership(group), own))
            self.store.commit(writes)
        self.store.commit([Set(place.root, {"members": size}, merge=True)])
        return group

    def cost(self, work: Callable[[], Any]) -> Cost:
        counted = self.raw.cost = Cost()
        work()
        self.raw.cost = Cost()
        return counted


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    raw = CountingStore(tmp_path / "data.sqlite3")
    yield World(raw)
    raw.close()


def costs(world: World, size: int) -> dict[str, Cost]:
    """Return what each kind of request costs in a group of ``size`` members."""
    group, ada, new = world.group_of(size), person("ada"), person(f"new-{size}")
    place = APP.of_group(group)
    code = world.groups.invite(ada, group, "editor", uses=9, valid_for=timedelta(days=1)).code
    store = world.store.within(APP, guard_of(place, "user-0001"))
    return {
        "read the group": world.cost(lambda: world.groups.get(person("user-0001").scope, group)),
        "list a page of members": world.cost(lambda: world.groups.members(ada.scope, group, 5, None)),
        "read a record": world.cost(lambda: store.get_many([place.record("meals", "m1")])),
        "join": world.cost(lambda: world.groups.join(new, group, code, "New")),
        "rename oneself": world.cost(lambda: world.groups.rename_member(new, group, new.uid, "Newer")),
        "give a role": world.cost(lambda: world.groups.set_role(ada, group, "user-0002", "editor")),
        "remove a member": world.cost(lambda: world.groups.remove(ada, group, "user-0003")),
        "leave": world.cost(lambda: world.groups.remove(new, group, new.uid)),
        "delete the group": world.cost(lambda: world.groups.close(ada, group, [])),
    }


def test_a_request_costs_as_much_in_a_group_of_a_thousand_as_of_ten(world: World) -> None:
    small, large = costs(world, 10), costs(world, 1_000)
    assert large == small
    assert [large[name].trips for name in ("read the group", "list a page of members", "read a record")] == [1, 1, 1]
    assert max(cost.reads for cost in large.values()) <= 10


def test_a_members_erasure_reads_no_other_member(world: World) -> None:
    small, large = world.group_of(10), world.group_of(1_000)
    erasure = Erasure(world.store)
    few = world.cost(lambda: erasure.run("user-0004"))
    world.store.commit([Set(APP.of("user-0999").membership(small), {"role": "viewer", "joined_at": NOW})])
    many = world.cost(lambda: erasure.run("user-0998"))
    assert many.trips <= few.trips
    assert world.groups.get(person("ada").scope, large).members == 998


def test_the_erasure_of_a_thousand_members_group_takes_a_commit_for_three_hundred_and_leaves_nothing(
    world: World,
) -> None:
    group = world.group_of(1_000)
    place = APP.of_group(group)
    world.groups.close(person("ada"), group, [])
    cost = world.cost(lambda: Erasure(world.store).run(str(place.uid)))
    assert list(world.store.tree(place.root)) == []
    assert not [path for path in world.store.tree(APP.users()) if group in path]
    assert cost.trips < 100, cost


def test_pages_lead_through_all_members_once(world: World) -> None:
    group = world.group_of(1_000)
    seen, cursor = [], None
    while True:
        page = world.groups.members(person("ada").scope, group, 300, cursor)
        seen += [member.uid for member in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 1_000
