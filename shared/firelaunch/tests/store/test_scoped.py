"""The wall lets one owner's documents through, as they were checked, and of the audit log only what is added to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from firelaunch.errors import (
    AlreadyExists,
    Fenced,
    Forbidden,
    NotFound,
    OutsideTransaction,
    PreconditionFailed,
    ScopeViolation,
)
from firelaunch.scope import Scope
from firelaunch.store.base import Create, Delete, Document, Query, Set, Update, Verify, Write
from firelaunch.store.fence import UserField
from firelaunch.store.guard import Guard
from firelaunch.store.observers import DocumentChange
from firelaunch.store.scoped import ScopedStore
from firelaunch.store.sqlite import SQLiteStore

APP, ADA, BOB = Scope("demo"), Scope("demo", "ada"), Scope("demo", "bob")
TEAM = APP.of_group("g1")
ENTRY = "apps/demo/audit/e1"
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def raw(tmp_path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "data.sqlite3")
    store.commit([Create(f"{each.root}/notes/n1", {"n": 1}) for each in (ADA, BOB, TEAM)])
    yield store
    store.close()


@pytest.fixture
def store(raw: SQLiteStore) -> ScopedStore:
    return ScopedStore(raw, APP)


@pytest.mark.parametrize(
    "path", [BOB.root, "apps/demo/users/ada2", f"{BOB.root}/notes/n1", APP.root, f"{TEAM.root}/notes/n1"]
)
def test_a_users_store_reaches_no_other_owner(store: ScopedStore, path: str) -> None:
    own = store.within(ADA)
    attempts = (own.get, own.delete_tree, lambda path: list(own.tree(path)), lambda path: list(own.collections(path)))
    for attempt in (*attempts, lambda path: own.commit([Set(path, {})]), lambda path: own.check([Delete(path)])):
        with pytest.raises(ScopeViolation):
            attempt(path)
    for of_collection in (lambda path: own.count(Query(path)), lambda path: list(own.ids(path))):
        with pytest.raises(ScopeViolation):
            of_collection(f"{path}/notes")
    with pytest.raises(ScopeViolation):
        own.within(BOB)


def test_a_store_reads_lists_and_counts_what_is_its_owners(store: ScopedStore) -> None:
    own = store.within(ADA)
    note, notes = f"{ADA.root}/notes/n1", Query(f"{ADA.root}/notes")
    assert own.get(note) == own.get_many([note])[0] == own.query(notes)[0] == own.read([note], [notes])[1][0][0]
    assert (own.count(notes), list(own.ids(notes.collection))) == (1, ["n1"])
    assert list(own.collections(ADA.root)) == ["notes"]
    assert list(own.tree(ADA.root)) == list(own.tree(notes.collection)) == [note]
    assert own.delete_tree(notes.collection) == 1


def test_the_record_of_an_erasure_is_read_by_its_own_user_with_other_documents_and_by_nobody_else(
    raw: SQLiteStore, store: ScopedStore
) -> None:
    raw.commit([Create(ADA.erasure(), {}), Create(BOB.erasure(), {})])
    own = store.within(ADA)
    assert own.get_many([ADA.erasure()])[0] is not None
    assert own.read([ADA.erasure()], [])[0][0] is not None
    for attempt in (lambda: own.get(ADA.erasure()), lambda: own.get_many([BOB.erasure()])):
        with pytest.raises(ScopeViolation):
            attempt()
    with pytest.raises(ScopeViolation):
        own.commit([Delete(ADA.erasure())])


def test_a_query_or_a_write_of_another_class_may_lead_anywhere_and_is_refused(store: ScopedStore) -> None:
    class Elsewhere(Query):
        pass

    @dataclass(frozen=True)
    class Other(Set):
        pass

    for read in (store.query, store.count, lambda query: store.read([], [query])):
        with pytest.raises(ScopeViolation):
            read(Elsewhere("apps/demo/users"))
    for write in (Other(f"{ADA.root}/notes/n2", {}), "a text"):
        with pytest.raises(ScopeViolation):
            store.commit([write])  # type: ignore[list-item]


def test_the_audit_log_is_only_added_to(raw: SQLiteStore, store: ScopedStore) -> None:
    store.commit([Create(ENTRY, {"n": 1})])
    writes: list[Write] = [Set(ENTRY, {}), Set(ENTRY, {"n": 2}, merge=True), Update(ENTRY, {"n": 2}), Delete(ENTRY)]
    for write in writes:
        with pytest.raises(ScopeViolation):
            store.commit([write])
        with pytest.raises(ScopeViolation):
            store.transaction(lambda transaction, write=write: transaction.write(write))
    for tree in ("apps/demo", "apps/demo/audit", ENTRY, f"{ENTRY}/more"):
        with pytest.raises(ScopeViolation):
            store.delete_tree(tree)
    kept = raw.get(ENTRY)
    assert kept is not None
    assert kept.data == {"n": 1}
    assert store.delete_tree("apps/demo/users") == 2


def test_inside_a_transactions_work_the_store_itself_changes_nothing(store: ScopedStore) -> None:
    note = f"{ADA.root}/notes/n1"
    attempts = (
        lambda: store.commit([Set(note, {"n": 2})]),
        lambda: store.delete_tree(note),
        lambda: store.transaction(lambda _: None),
    )
    for attempt in attempts:
        with pytest.raises(OutsideTransaction):
            store.transaction(lambda _, attempt=attempt: attempt())
    assert store.commit([Set(note, {"n": 3})]) is not None


@dataclass
class Copies:
    """Keeps a copy of each user's notes in the app's part."""

    seen: list[DocumentChange] = field(default_factory=list)

    def watches(self, path: str) -> bool:
        return "/notes/" in path

    def writes(self, changes: Sequence[DocumentChange]) -> Sequence[Write]:
        self.seen += changes
        return [Set(f"{APP.root}/copies/{each.path.split('/')[3]}", dict(each.after or {})) for each in changes]


def test_an_observer_adds_its_writes_to_each_commit_of_the_app_and_of_its_owners(
    raw: SQLiteStore, store: ScopedStore
) -> None:
    copies = Copies()
    store.observe(copies)
    store.within(ADA).commit([Set(f"{ADA.root}/notes/n1", {"n": 2})])
    store.within(BOB).transaction(lambda transaction: transaction.write(Set(f"{BOB.root}/notes/n1", {"n": 3})))
    stored = raw.get_many([f"{APP.root}/copies/{uid}" for uid in ("ada", "bob")])
    assert [None if each is None else each.data for each in stored] == [{"n": 2}, {"n": 3}]
    store.commit([Set(f"{APP.root}/boards/b1", {}), Set(f"{ADA.root}/notes/n1", {"n": 2})])
    assert len(copies.seen) == 2, "of what stays as it is nobody hears"


def test_of_a_user_whose_documents_move_no_observer_hears(store: ScopedStore) -> None:
    copies = Copies()
    store.observe(copies)
    store.commit([Delete(f"{ADA.root}/notes/n1"), Set(f"{BOB.root}/notes/n2", {"n": 1})], leaving=ADA)
    assert [change.path for change in copies.seen] == [f"{BOB.root}/notes/n2"]


def test_only_the_whole_apps_store_has_observers_and_fields_of_users(store: ScopedStore) -> None:
    fields = [UserField("boards", "owner", "delete")]
    store.declare_users(fields)
    own = store.within(ADA)
    assert list(own.user_fields) == list(store.user_fields) == fields
    with pytest.raises(ScopeViolation):
        own.observe(Copies())
    with pytest.raises(ScopeViolation):
        own.declare_users([])
    assert list(store.user_fields) == fields


MEMBER = TEAM.group_member("ada")


def may(member: Document | None, writes: bool) -> None:
    if member is None:
        raise NotFound
    if writes and member.data["role"] == "viewer":
        raise Forbidden


@pytest.fixture
def team(raw: SQLiteStore, store: ScopedStore) -> Iterator[ScopedStore]:
    """The group's store, as a member has it for one request."""
    raw.commit([Create(MEMBER, {"role": "editor"})])
    return store.within(TEAM, Guard(MEMBER, TEAM.erasure(), may))


NOTE = f"{TEAM.root}/notes/n1"
READS: dict[str, Any] = {
    "get": lambda team: team.get(NOTE).data["n"],
    "get_many": lambda team: team.get_many([NOTE])[0].data["n"],
    "query": lambda team: team.query(Query(f"{TEAM.root}/notes"))[0].data["n"],
    "read": lambda team: team.read([NOTE], [Query(f"{TEAM.root}/notes")])[1][0][0].data["n"],
    "count": lambda team: team.count(Query(f"{TEAM.root}/notes")),
    "ids": lambda team: len(list(team.ids(f"{TEAM.root}/notes"))),
    "collections": lambda team: list(team.collections(TEAM.root)).count("notes"),
    "tree": lambda team: len(list(team.tree(NOTE))),
    "transaction": lambda team: team.transaction(lambda transaction: transaction.get(NOTE).data["n"]),
}
WRITES: dict[str, Any] = {
    "commit": lambda team: team.commit([Set(NOTE, {"n": 2})]),
    "transaction": lambda team: team.transaction(lambda transaction: transaction.write(Set(NOTE, {"n": 2}))),
}


@pytest.mark.parametrize("name", READS)
def test_a_member_reads_also_who_may_not_write_and_who_is_none_reads_nothing(
    raw: SQLiteStore, team: ScopedStore, name: str
) -> None:
    raw.commit([Set(MEMBER, {"role": "viewer"})])
    assert READS[name](team) == 1
    raw.commit([Delete(MEMBER)])
    other = team.within(TEAM, Guard(MEMBER, TEAM.erasure(), may))
    with pytest.raises(NotFound):
        READS[name](other)


@pytest.mark.parametrize("name", READS)
def test_of_a_group_that_is_deleted_nobody_reads_though_memberships_outlive_it(
    raw: SQLiteStore, team: ScopedStore, name: str
) -> None:
    raw.commit([Create(TEAM.erasure(), {})])
    with pytest.raises((NotFound, Fenced)):
        READS[name](team)


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("reads_first", [False, True])
def test_who_may_no_longer_write_changes_nothing(
    raw: SQLiteStore, team: ScopedStore, name: str, reads_first: bool
) -> None:
    if reads_first:
        assert READS["get"](team) == 1
    raw.commit([Set(MEMBER, {"role": "viewer"})])
    with pytest.raises(Forbidden):
        WRITES[name](team)
    raw.commit([Delete(MEMBER)])
    with pytest.raises(NotFound):
        WRITES[name](team)
    raw.commit([Create(MEMBER, {"role": "editor"}), Create(TEAM.erasure(), {})])
    with pytest.raises((NotFound, Fenced)):
        WRITES[name](team)
    kept = raw.get(NOTE)
    assert kept is not None
    assert kept.data == {"n": 1}


@pytest.mark.parametrize("name", WRITES)
def test_who_is_still_an_editor_writes_though_the_membership_changed_since_it_was_read(
    raw: SQLiteStore, team: ScopedStore, name: str
) -> None:
    assert READS["get"](team) == 1
    raw.commit([Set(MEMBER, {"role": "editor", "name": "Ada"})])
    WRITES[name](team)
    assert READS["get"](team) == 2


def test_a_condition_of_the_commits_own_that_fails_is_told_and_not_tried_again(team: ScopedStore) -> None:
    assert READS["get"](team) == 1
    with pytest.raises(PreconditionFailed):
        team.commit([Verify(NOTE, NOON), Set(f"{TEAM.root}/notes/n2", {})])
    with pytest.raises(PreconditionFailed):
        team.transaction(lambda transaction: transaction.write(Verify(NOTE, NOON)))


def test_a_member_removes_no_tree(team: ScopedStore) -> None:
    with pytest.raises(ScopeViolation):
        team.delete_tree(f"{TEAM.root}/notes")


def test_a_request_that_is_to_write_is_refused_at_its_first_read(raw: SQLiteStore, store: ScopedStore) -> None:
    raw.commit([Create(MEMBER, {"role": "viewer"})])
    guard = Guard(MEMBER, TEAM.erasure(), may, writes=True)
    with pytest.raises(Forbidden):
        store.within(TEAM, guard).get(NOTE)
    assert guard.member is None


def test_the_membership_is_read_once_for_all_reads_of_a_request(raw: SQLiteStore, store: ScopedStore) -> None:
    raw.commit([Create(MEMBER, {"role": "viewer"})])
    guard = Guard(MEMBER, TEAM.erasure(), may)
    team = store.within(TEAM, guard)
    assert guard.member is None
    assert READS["get"](team) == 1
    assert guard.member is not None
    raw.commit([Delete(MEMBER)])
    assert READS["get"](team) == 1
    assert READS["get"](team.within(TEAM)) == 1, "a narrower store keeps the guard"


def test_a_transactions_work_is_told_when_it_is_committed_and_not_done_again_when_its_condition_fails(
    store: ScopedStore,
) -> None:
    board, told, done = f"{APP.root}/boards/b1", list[datetime](), list[int]()

    def work(transaction: Any) -> None:
        transaction.on_commit(told.append)
        transaction.write(Set(board, {}))

    store.transaction(work)
    kept = store.get(board)
    assert kept is not None
    assert told == [kept.update_time]

    def late(transaction: Any) -> None:
        done.append(1)
        transaction.write(Verify(board, NOON))

    with pytest.raises(PreconditionFailed):
        store.transaction(late)
    assert done == [1]


@pytest.mark.parametrize("is_member", [True, False])
def test_what_a_commit_itself_was_refused_for_is_told_at_once(raw: SQLiteStore, is_member: bool) -> None:
    if is_member:
        raw.commit([Create(MEMBER, {"role": "editor"})])
    guard, conditions = Guard(MEMBER, TEAM.erasure(), lambda member, writes: None), list[Any]()

    def commit(given: Any) -> None:
        conditions.append(given)
        raise AlreadyExists

    with pytest.raises(AlreadyExists):
        guard.commit(raw, commit)
    member = raw.get(MEMBER)
    assert conditions == [[Verify(MEMBER, None if member is None else member.update_time)]]


def test_a_commit_during_which_the_membership_changes_each_time_is_refused_at_last(raw: SQLiteStore) -> None:
    raw.commit([Create(MEMBER, {"role": "editor"})])
    tries: list[int] = []

    def commit(given: Any) -> None:
        tries.append(1)
        raw.commit([Set(MEMBER, {"role": "editor", "n": len(tries)})])
        raise PreconditionFailed(reason="the membership changed")

    with pytest.raises(PreconditionFailed):
        Guard(MEMBER, TEAM.erasure(), may).commit(raw, commit)
    assert 1 < len(tries) < 20
