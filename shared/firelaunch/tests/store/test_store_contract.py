"""What every document store must do; run against SQLite and the real Firestore emulator."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from firelaunch.errors import AlreadyExists, FirelaunchError, NotFound, PreconditionFailed, StoreError
from firelaunch.store.base import (
    DELETE_FIELD,
    MAX_WRITES,
    SERVER_TIME,
    Create,
    Delete,
    DocumentStore,
    Filter,
    Increment,
    Order,
    Query,
    Set,
    TreeStore,
    Update,
    Verify,
)
from firelaunch.store.sqlite import SQLiteStore

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "firestore"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DocumentStore]:
    if request.param == "firestore":
        yield request.getfixturevalue("emulator_store")
        return
    made = SQLiteStore(tmp_path / "data" / "store.sqlite3")
    yield made
    made.close()


def data_of(store: DocumentStore, path: str) -> dict[str, Any] | None:
    found = store.get(path)
    return None if found is None else dict(found.data)


def ids(store: DocumentStore, query: Query) -> list[str]:
    return [found.id for found in store.query(query)]


VALUES = {
    "nothing": None,
    "yes": True,
    "no": False,
    "small": -5,
    "big": 2**63 - 1,
    "half": 0.5,
    "whole": 2.0,
    "text": "Grüße\x01, 日本 \U0001f525",
    "marked": "\u0001t2026",
    "empty": "",
    "bytes": b"\x00\xff",
    "time": NOON,
    "list": [1, "a", None, {"x": [b"b"]}],
    "map": {"a": {"b": {"c": NOON}}, "empty": {}},
}


def test_values_come_back_as_they_went_in(store: DocumentStore) -> None:
    store.commit([Create("c/a", VALUES)])
    found = data_of(store, "c/a")
    assert found == VALUES
    assert {key: type(value) for key, value in found.items() if key != "time"} == {
        key: type(value) for key, value in VALUES.items() if key != "time"
    }


def test_a_time_of_another_zone_is_the_same_moment(store: DocumentStore) -> None:
    from datetime import timezone

    there = NOON.astimezone(timezone(timedelta(hours=9)))
    store.commit([Create("c/a", {"at": there})])
    assert data_of(store, "c/a") == {"at": NOON}


def test_what_is_not_there_is_none(store: DocumentStore) -> None:
    assert store.get("c/none") is None
    store.commit([Create("c/a", {"n": 1}), Create("c/b", {"n": 2})])
    found = store.get_many(["c/b", "c/none", "c/a", "c/b"])
    assert [None if d is None else d.data["n"] for d in found] == [2, None, 1, 2]
    assert store.get_many([]) == []


def test_create_refuses_to_overwrite(store: DocumentStore) -> None:
    store.commit([Create("c/a", {"n": 1})])
    with pytest.raises(AlreadyExists):
        store.commit([Create("c/a", {"n": 2})])
    assert data_of(store, "c/a") == {"n": 1}


def test_set_replaces_the_whole_document_and_merge_only_what_is_given(store: DocumentStore) -> None:
    store.commit([Set("c/a", {"keep": {"x": 1, "y": 2}, "n": 1})])
    store.commit([Set("c/a", {"keep": {"y": 3}, "m": 2}, merge=True)])
    assert data_of(store, "c/a") == {"keep": {"x": 1, "y": 3}, "n": 1, "m": 2}
    store.commit([Set("c/a", {"m": DELETE_FIELD}, merge=True)])
    assert data_of(store, "c/a") == {"keep": {"x": 1, "y": 3}, "n": 1}
    store.commit([Set("c/a", {"only": True})])
    assert data_of(store, "c/a") == {"only": True}


def test_update_changes_only_the_fields_it_names_by_their_paths(store: DocumentStore) -> None:
    store.commit([Create("c/a", {"map": {"x": 1, "y": 2}, "n": 1})])
    store.commit([Update("c/a", {"map.x": DELETE_FIELD, "map.z": {"deep": 1}, "new.path": 5})])
    assert data_of(store, "c/a") == {"map": {"y": 2, "z": {"deep": 1}}, "n": 1, "new": {"path": 5}}
    store.commit([Update("c/a", {"map": {"only": 1}})])
    assert data_of(store, "c/a") == {"map": {"only": 1}, "n": 1, "new": {"path": 5}}


def test_update_of_what_is_not_there_fails(store: DocumentStore) -> None:
    with pytest.raises(NotFound):
        store.commit([Update("c/none", {"n": 1})])
    assert store.get("c/none") is None


def test_a_write_with_a_precondition_lands_only_on_what_was_read(store: DocumentStore) -> None:
    first = store.commit([Create("c/a", {"n": 1})])
    second = store.commit([Update("c/a", {"n": 2}, if_updated_at=first)])
    with pytest.raises(PreconditionFailed):
        store.commit([Update("c/a", {"n": 3}, if_updated_at=first)])
    with pytest.raises(PreconditionFailed):
        store.commit([Delete("c/a", if_updated_at=first)])
    assert data_of(store, "c/a") == {"n": 2}
    store.commit([Delete("c/a", if_updated_at=second)])
    assert store.get("c/a") is None


def test_a_precondition_on_what_has_gone_fails(store: DocumentStore) -> None:
    at = store.commit([Create("c/a", {"n": 1})])
    store.commit([Delete("c/a")])
    with pytest.raises((PreconditionFailed, NotFound)):
        store.commit([Update("c/a", {"n": 2}, if_updated_at=at)])
    assert store.get("c/a") is None


def test_the_time_that_commit_returns_is_the_update_time_that_a_read_shows(store: DocumentStore) -> None:
    created = store.commit([Create("c/a", {"n": 1}), Create("c/b", {"n": 1})])
    updated = store.commit([Update("c/a", {"n": 2})])
    a, b = store.get_many(["c/a", "c/b"])
    assert a is not None
    assert b is not None
    assert (a.create_time, a.update_time, b.update_time) == (created, updated, created)
    assert updated > created


def test_deleting_what_is_not_there_is_no_error(store: DocumentStore) -> None:
    store.commit([Delete("c/none")])
    assert store.get("c/none") is None


def test_a_commit_lands_whole_or_not_at_all(store: DocumentStore) -> None:
    store.commit([Create("c/there", {"n": 1})])
    writes = [Set("c/a", {"n": 1}), Update("c/there", {"n": 2}), Delete("c/x"), Create("c/there", {"n": 3})]
    with pytest.raises(FirelaunchError):
        store.commit(writes)
    assert store.get("c/a") is None
    assert data_of(store, "c/there") == {"n": 1}


def test_a_commit_of_too_many_writes_is_refused_before_it_is_sent(store: DocumentStore) -> None:
    with pytest.raises(ValueError, match="500"):
        store.commit([Set(f"c/d{n}", {"n": n}) for n in range(MAX_WRITES + 1)])
    assert store.count(Query("c")) == 0
    store.commit([Set(f"c/d{n}", {"n": n}) for n in range(MAX_WRITES)])
    assert store.count(Query("c")) == MAX_WRITES


@pytest.mark.parametrize(
    "value",
    [object(), NOON.replace(tzinfo=None), 2**63, [[1]], "\ud800"],
    ids=["object", "naive", "big", "nested", "utf8"],
)
def test_a_value_that_cannot_be_kept_is_refused(store: DocumentStore, value: Any) -> None:
    with pytest.raises(FirelaunchError):
        store.commit([Set("c/a", {"v": value})])
    assert store.get("c/a") is None


def test_a_document_over_a_mebibyte_is_refused(store: DocumentStore) -> None:
    store.commit([Set("c/large", {"v": "x" * 1_000_000})])
    with pytest.raises(StoreError):
        store.commit([Set("c/larger", {"v": "x" * 1_048_600})])


def test_increments_add_to_a_number_and_start_from_zero_elsewhere(store: DocumentStore) -> None:
    store.commit([Create("c/a", {"n": 40, "text": "x", "map": {"m": 1}})])
    store.commit(
        [Update("c/a", {"n": Increment(2), "text": Increment(3), "map.m": Increment(-1), "new": Increment(5)})]
    )
    assert data_of(store, "c/a") == {"n": 42, "text": 3, "map": {"m": 0}, "new": 5}
    store.commit([Set("c/b", {"n": Increment(7)}, merge=True)])
    store.commit([Set("c/b", {"n": Increment(7)}, merge=True)])
    assert data_of(store, "c/b") == {"n": 14}


def test_server_time_is_the_commits_own_and_near_to_now(store: DocumentStore) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    store.commit([Create("c/a", {"at": SERVER_TIME, "map": {"at": SERVER_TIME}}), Create("c/b", {"at": SERVER_TIME})])
    a, b = data_of(store, "c/a"), data_of(store, "c/b")
    assert a is not None
    assert b is not None
    assert a["at"] == a["map"]["at"] == b["at"]
    assert before < a["at"] < datetime.now(UTC) + timedelta(seconds=5)


def seed(store: DocumentStore) -> None:
    rows = {"a": 3, "b": 1, "c": 2, "d": 2, "e": 2, "z": None}
    store.commit([Create(f"c/{name}", {"n": n, "kind": name in "abc"}) for name, n in rows.items()])
    store.commit([Create("c/missing", {"kind": True}), Create("c/text", {"n": "2"}), Create("c/float", {"n": 2.5})])
    store.commit([Create("c/time", {"n": NOON}), Create("c/bytes", {"n": b"2"}), Create("c/true", {"n": True})])
    store.commit([Create("c/a/sub/x", {"n": 2}), Create("other/x", {"n": 2}), Create("c2/x", {"n": 2})])


def test_a_query_sees_the_documents_of_its_collection_alone_by_id(store: DocumentStore) -> None:
    seed(store)
    everything = ["a", "b", "bytes", "c", "d", "e", "float", "missing", "text", "time", "true", "z"]
    assert ids(store, Query("c")) == everything
    assert ids(store, Query("c/a/sub")) == ["x"]
    assert ids(store, Query("nothing/here/sub")) == []
    assert store.count(Query("c")) == len(everything)


def test_order_leaves_out_what_lacks_the_field_and_sorts_types_as_firestore_does(store: DocumentStore) -> None:
    seed(store)
    store.commit([Delete("c/true")])
    in_order = ["z", "b", "c", "d", "e", "float", "a", "time", "text", "bytes"]
    assert ids(store, Query("c", order=[Order("n")])) == in_order
    assert ids(store, Query("c", order=[Order("n", descending=True)])) == in_order[::-1]


@pytest.mark.parametrize(
    ("op", "value", "expected"),
    [
        ("==", 2, ["c", "d", "e"]),
        ("==", 2.0, ["c", "d", "e"]),
        ("==", "2", ["text"]),
        ("==", None, ["z"]),
        ("==", True, ["true"]),
        ("<", 3, ["b", "c", "d", "e", "float"]),
        ("<=", 2, ["b", "c", "d", "e"]),
        (">", 1, ["a", "c", "d", "e", "float"]),
        (">=", 2.5, ["a", "float"]),
        (">", "", ["text"]),
        ("<", "zzz", ["text"]),
        ("<=", NOON, ["time"]),
        (">", NOON, []),
        (">=", b"", ["bytes"]),
        ("in", [1, 3, "2"], ["a", "b", "text"]),
    ],
)
def test_a_filter_compares_values_of_its_own_type_alone(
    store: DocumentStore, op: Any, value: Any, expected: list[str]
) -> None:
    seed(store)
    query = Query("c", where=[Filter("n", op, value)])
    assert sorted(ids(store, query)) == expected
    assert store.count(query) == len(expected)


def test_filters_are_joined_and_reach_into_maps(store: DocumentStore) -> None:
    seed(store)
    assert ids(store, Query("c", where=[Filter("n", "==", 2), Filter("kind", "==", True)])) == ["c"]
    store.commit([Set("m/a", {"map": {"x": 1}}), Set("m/b", {"map": {"x": 2}}), Set("m/c", {"map": 1})])
    assert ids(store, Query("m", where=[Filter("map.x", ">", 1)])) == ["b"]
    assert ids(store, Query("m", order=[Order("map.x", descending=True)])) == ["b", "a"]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_pages_show_each_document_once_and_in_order(store: DocumentStore, descending: bool, size: int) -> None:
    store.commit([Create(f"p/d{n:02}", {"n": n // 3, "at": NOON + timedelta(seconds=n // 4)}) for n in range(11)])
    for field in ("n", "at"):
        order = [Order(field, descending=descending)]
        whole = ids(store, Query("p", order=order))
        seen: list[str] = []
        after = None
        while page := store.query(Query("p", order=order, limit=size, after=after)):
            seen += [found.id for found in page]
            after = [page[-1].data[field], page[-1].id]
        assert seen == whole
        assert len(set(seen)) == 11


def test_pages_by_id_need_no_order(store: DocumentStore) -> None:
    store.commit([Create(f"p/d{n}", {"n": n}) for n in range(5)])
    assert ids(store, Query("p", limit=2)) == ["d0", "d1"]
    assert ids(store, Query("p", limit=2, after=["d1"])) == ["d2", "d3"]
    assert ids(store, Query("p", after=["d4"])) == []


def test_read_gives_documents_and_queries_together(store: DocumentStore) -> None:
    seed(store)
    documents, (first, second) = store.read(["c/a", "c/none"], [Query("c", limit=2), Query("other")])
    assert [d.id if d else None for d in documents] == ["a", None]
    assert [d.id for d in first] == ["a", "b"]
    assert [d.id for d in second] == ["x"]


def test_a_transaction_commits_what_it_wrote_and_returns_what_it_returned(store: DocumentStore) -> None:
    store.commit([Create("c/a", {"n": 1})])

    def work(transaction: Any) -> str:
        found = transaction.get("c/a")
        others = transaction.query(Query("c"))
        transaction.write(Update("c/a", {"n": found.data["n"] + len(others)}), Create("c/b", {"n": 9}))
        return "done"

    assert store.transaction(work) == "done"
    assert data_of(store, "c/a") == {"n": 2}
    assert data_of(store, "c/b") == {"n": 9}


def test_an_error_inside_a_transaction_leaves_nothing(store: DocumentStore) -> None:
    def work(transaction: Any) -> None:
        transaction.get("c/a")
        transaction.write(Create("c/a", {"n": 1}))
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        store.transaction(work)
    assert store.get("c/a") is None
    store.commit([Create("c/a", {"n": 1})])


def test_a_transaction_whose_write_cannot_land_raises_that_writes_error(store: DocumentStore) -> None:
    store.commit([Create("c/a", {"n": 1})])
    with pytest.raises(AlreadyExists):
        store.transaction(lambda transaction: transaction.write(Create("c/a", {"n": 2})))


def test_a_transaction_reads_before_it_writes(store: DocumentStore) -> None:
    def work(transaction: Any) -> None:
        transaction.write(Create("c/a", {"n": 1}))
        transaction.get("c/a")

    with pytest.raises(ValueError, match="reads come before"):
        store.transaction(work)
    assert store.get("c/a") is None


def in_threads(count: int, work: Any) -> None:
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_eight_threads_that_increment_one_counter_lose_nothing(store: DocumentStore) -> None:
    store.commit([Create("c/counter", {"n": 0})])

    def work(_: int) -> None:
        for _ in range(50):
            store.commit([Update("c/counter", {"n": Increment(1)})])

    in_threads(8, work)
    assert data_of(store, "c/counter") == {"n": 400}


def test_eight_threads_that_read_and_write_in_transactions_lose_nothing(store: DocumentStore) -> None:
    store.commit([Create("c/counter", {"n": 0})])

    def add_one(transaction: Any) -> None:
        found = transaction.get("c/counter")
        transaction.write(Update("c/counter", {"n": found.data["n"] + 1}))

    in_threads(8, lambda _: [store.transaction(add_one) for _ in range(10)])
    assert data_of(store, "c/counter") == {"n": 80}


def test_of_many_that_write_under_the_same_precondition_one_wins(store: DocumentStore) -> None:
    at = store.commit([Create("c/a", {"by": -1})])
    won: list[int] = []

    def work(number: int) -> None:
        try:
            store.commit([Update("c/a", {"by": number}, if_updated_at=at)])
            won.append(number)
        except (PreconditionFailed, FirelaunchError):
            pass

    in_threads(8, work)
    assert len(won) == 1
    assert data_of(store, "c/a") == {"by": won[0]}


def test_a_verified_document_is_a_condition_of_the_commit_and_is_not_changed_by_it(store: DocumentStore) -> None:
    read_at = store.commit([Set("a/b", {"n": 1})])
    for _ in range(2):
        store.commit([Verify("a/b", read_at), Verify("a/none", None), Set("a/other", {})])
    found = store.get("a/b")
    assert found is not None
    assert (found.update_time, dict(found.data)) == (read_at, {"n": 1})
    assert store.get("a/none") is None
    store.commit([Set("a/b", {"n": 2})])
    for condition in (Verify("a/b", read_at), Verify("a/b", None), Verify("a/none", read_at)):
        with pytest.raises(PreconditionFailed):
            store.commit([condition, Set("a/fresh", {})])
        with pytest.raises(PreconditionFailed):
            store.transaction(lambda t, condition=condition: t.write(condition, Set("a/fresh", {})))  # type: ignore[misc]
    assert store.get("a/fresh") is None


def test_another_writes_failure_beside_a_verified_document_keeps_its_name(store: DocumentStore) -> None:
    read_at = store.commit([Set("a/b", {})])
    with pytest.raises(NotFound):
        store.commit([Verify("a/b", read_at), Update("a/none", {"n": 1})])
    with pytest.raises(AlreadyExists):
        store.commit([Verify("a/none", None), Create("a/b", {})])


def test_delete_tree_takes_all_below_and_nothing_beside(store: DocumentStore) -> None:
    tree = ["c/a", "c/a/s/x", "c/a/s/x/t/y", "c/a/u/z", "c/a/v/gone/t/deep"]
    beside = ["c/a0", "c/a-", "c/ab/s/x", "c/b", "cc/a/s/x"]
    store.commit([Create(path, {"n": 1}) for path in [*tree, *beside, "c/gone/only/below"]])
    assert store.delete_tree("c/a") == len(tree)
    assert [path for path in [*tree, *beside] if store.get(path)] == beside
    assert store.delete_tree("c/gone") == 1
    assert store.delete_tree("c/a") == 0
    assert store.delete_tree("c") == 4
    assert [path for path in beside if store.get(path)] == ["cc/a/s/x"]


TREE = (
    "apps/demo",
    "apps/demo/jobs/j1",
    "apps/demo/users/ada",
    "apps/demo/users/ada/chats/c1",
    "apps/demo/users/ada/chats/c1/messages/m1",
    "apps/demo/users/ada-b/chats/c1",
    "apps/demo/users/nobody/chats/c1",  # below a document that is not there
    "apps/demo/zoo/z",
)


def test_a_walk_yields_a_document_and_all_below_it_and_nothing_else(store: DocumentStore) -> None:
    outside = ("apps/demo-2", "apps/demo-2/users/ada", "apps/dem/users/ada", "other/demo/users/ada")
    store.commit([Set(path, {"path": path}) for path in (*TREE, *outside)])
    found = list(walking(store).walk("apps/demo"))
    assert sorted(document.path for document in found) == sorted(TREE)
    assert all(document.data == {"path": document.path} for document in found)
    assert list(walking(store).walk("apps/nothing")) == []


def test_a_walk_goes_on_from_any_place_also_from_one_that_has_gone(store: DocumentStore) -> None:
    store.commit([Set(path, {}) for path in TREE])
    whole = [document.path for document in walking(store).walk("apps/demo")]
    for place, path in enumerate(whole):
        rest = [document.path for document in walking(store).walk("apps/demo", after=path)]
        assert rest == whole[place + 1 :], path
    store.commit([Delete(whole[3])])
    assert [document.path for document in walking(store).walk("apps/demo", after=whole[3])] == whole[4:]


def test_a_walk_is_longer_than_one_page(store: DocumentStore) -> None:
    paths = [f"apps/demo/users/ada/chats/c{n:03}" for n in range(450)]
    store.commit([Set(path, {}) for path in paths])
    assert [document.path for document in walking(store).walk("apps/demo")] == paths


def walking(store: DocumentStore) -> TreeStore:
    return cast(TreeStore, store)


def test_ids_are_those_of_documents_that_are_there_and_of_those_that_only_have_others_below(
    store: DocumentStore,
) -> None:
    paths = ("a/x", "a/x!y/b/1", "a/x/b/1", "a/x/b/2", "a/z/b/1/c/1", "ab/w", "a0/v")
    store.commit([Set(path, {"n": 1}) for path in paths])
    assert list(store.ids("a")) == ["x", "x!y", "z"]
    assert list(store.ids("a/z/b")) == ["1"]
    assert list(store.ids("none")) == []
    assert list(store.collections("a/z")) == ["b"]
    assert list(store.collections("a/none")) == []


def test_a_tree_is_a_document_and_all_that_lies_below_it_and_nothing_beside_it(store: DocumentStore) -> None:
    paths = ("a/x", "a/x/b/1", "a/x/b/1/c/2", "a/xy", "a/w/b/1", "a/x0/b/1")
    store.commit([Set(path, {"n": 1}) for path in paths])
    assert sorted(store.tree("a/x")) == ["a/x", "a/x/b/1", "a/x/b/1/c/2"]
    assert sorted(store.tree("a/x/b")) == ["a/x/b/1", "a/x/b/1/c/2"]
    assert list(store.tree("a/w")) == ["a/w/b/1"]
    assert store.delete_tree("a/x") == 3
    assert list(store.tree("a/x")) == []
