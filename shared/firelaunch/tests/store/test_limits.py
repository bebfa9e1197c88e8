"""SQLite refuses what Firestore refuses, and takes what Firestore takes: tried on both, with the real emulator."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from firelaunch.errors import FirelaunchError, StoreError
from firelaunch.store.base import Create, DocumentStore, Filter, Increment, Op, Order, Query, Set, Update
from firelaunch.store.firestore import FirestoreStore
from firelaunch.store.limits import MAX_DOCUMENT_BYTES, size_of
from firelaunch.store.sqlite import SQLiteStore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SQLiteStore]:
    made = SQLiteStore(tmp_path / "data" / "store.sqlite3")
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "firestore"])
def store(request: pytest.FixtureRequest) -> DocumentStore:
    made: DocumentStore = request.getfixturevalue("sqlite" if request.param == "sqlite" else "emulator_store")
    return made


def nested(depth: int, leaf: Any = 1) -> dict[str, Any]:
    data: Any = leaf
    for _ in range(depth):
        data = {"a": data}
    return {"a": data}


@pytest.mark.parametrize("bad", [".", "..", "__x__", "x" * 1501, "é" * 751, "", "a//b"])
def test_an_id_that_firestore_does_not_take_is_refused(store: DocumentStore, bad: str) -> None:
    for path in (f"c/{bad}", f"{bad}/a") if bad else (f"c/{bad}",):
        with pytest.raises((FirelaunchError, ValueError)):
            store.commit([Set(path, {"n": 1})])


@pytest.mark.parametrize("good", ["...", "_x_", "__x", "x" * 1500, "é" * 750, "a b", "a.b", "*", "~", "{x}", "é"])
def test_an_id_that_firestore_takes_is_taken(store: DocumentStore, good: str) -> None:
    store.commit([Set(f"c/{good}", {"n": 1})])
    assert [found.id for found in store.query(Query("c"))] == [good]


@pytest.mark.parametrize("bad", ["", "__x__", "x" * 1501, "é" * 751])
@pytest.mark.parametrize("inside", [False, True])
def test_a_field_name_that_firestore_does_not_take_is_refused(store: DocumentStore, bad: str, inside: bool) -> None:
    with pytest.raises((FirelaunchError, ValueError)):
        store.commit([Set("c/a", {"map": {bad: 1}} if inside else {bad: 1})])
    assert store.get("c/a") is None


@pytest.mark.parametrize("good", ["_", "__x", "x" * 1500, "a b", "é", "a.b", "`", "\\", "'\""])
def test_a_field_name_that_firestore_takes_is_taken(store: DocumentStore, good: str) -> None:
    store.commit([Set("c/a", {good: 1, "map": {good[:1496]: 2}})])
    found = store.get("c/a")
    assert found is not None
    assert found.data == {good: 1, "map": {good[:1496]: 2}}


@pytest.mark.parametrize("outer", ["m", "m" * 700, "é" * 350])
def test_a_fields_name_and_those_of_the_maps_around_it_have_1500_bytes_together(
    store: DocumentStore, outer: str
) -> None:
    room = 1500 - len(outer.encode()) - 1
    store.commit([Set("c/a", {outer: {"x" * room: 1}}), Set("c/b", {outer: [{"x" * room: 1}]})])
    for longer in ({outer: {"x" * (room + 1): 1}}, {outer: {"x" * room: {"y": 1}}}):
        with pytest.raises(FirelaunchError):
            store.commit([Set("c/c", longer)])


def test_maps_and_lists_are_nested_twenty_deep_and_no_deeper(store: DocumentStore) -> None:
    store.commit([Set("c/a", nested(20)), Set("c/b", nested(19, [1])), Set("c/c", nested(18, [{"a": 1}]))])
    for deeper in (nested(21), nested(20, [1]), nested(19, [{"a": 1}])):
        with pytest.raises(FirelaunchError):
            store.commit([Set("c/d", deeper)])


@pytest.mark.parametrize(
    "data",
    [
        {"text": "Grüße" * 100_000},
        {"bytes": b"x" * 900_000, "times": [NOON] * 100, "empty": [{}] * 100, "nothing": [None, True, 0.5, [], ""][:3]},
        {"many": [7] * 100_000},
        {"map": {f"key{n}": n for n in range(40_000)}},
    ],
    ids=["text", "bytes", "numbers", "map"],
)
def test_a_document_of_a_mebibyte_is_taken_and_a_larger_one_is_not(store: DocumentStore, data: dict[str, Any]) -> None:
    room = MAX_DOCUMENT_BYTES - size_of("c/a", {**data, "rest": ""})
    assert room > 0
    store.commit([Set("c/a", {**data, "rest": "x" * room})])
    with pytest.raises(StoreError):
        store.commit([Set("c/b", {**data, "rest": "x" * (room + 1)})])
    assert store.get("c/b") is None


def test_one_text_is_a_little_shorter_than_a_mebibyte(store: DocumentStore) -> None:
    store.commit([Set("c/a", {"text": "x" * 1_048_487})])
    with pytest.raises(StoreError):
        store.commit([Set("c/b", {"text": "x" * 1_048_488})])


def test_the_size_is_computed_as_the_documentation_computes_its_example() -> None:
    path = "users/jeff/tasks/my_task_id"
    data = {"type": "Personal", "done": False, "priority": 1, "description": "Learn Cloud Firestore"}
    assert size_of(path, data) == 44 + 14 + 6 + 17 + 34 + 32


def test_a_commit_has_ten_mebibytes_at_most(store: DocumentStore) -> None:
    with pytest.raises(FirelaunchError):
        store.commit([Set(f"c/d{n}", {"v": "x" * 1_000_000}) for n in range(11)])
    assert store.count(Query("c")) == 0


def test_an_increment_stops_at_the_greatest_and_the_least_number(store: DocumentStore) -> None:
    store.commit([Create("c/a", {"up": 2**63 - 2, "down": -(2**63) + 1})])
    store.commit([Update("c/a", {"up": Increment(5), "down": Increment(-5)})])
    found = store.get("c/a")
    assert found is not None
    assert found.data == {"up": 2**63 - 1, "down": -(2**63)}


@pytest.mark.parametrize(
    "where",
    [
        [Filter("n", "in", [])],
        [Filter("n", "in", list(range(31)))],
        [Filter("n", "in", list(range(6))), Filter("m", "in", list(range(6)))],
        [Filter("n", "<", None)],
        [Filter("n", ">=", None)],
    ],
    ids=["none", "31", "36 together", "< null", ">= null"],
)
def test_a_query_that_firestore_does_not_run_is_refused(store: DocumentStore, where: list[Filter]) -> None:
    with pytest.raises((FirelaunchError, ValueError)):
        store.query(Query("c", where))


def test_thirty_values_are_compared(store: DocumentStore) -> None:
    store.commit([Set(f"c/d{n}", {"n": n, "m": n}) for n in range(40)])
    assert len(store.query(Query("c", [Filter("n", "in", list(range(30)))]))) == 30
    both = [Filter("n", "in", list(range(6))), Filter("m", "in", list(range(5)))]
    assert len(store.query(Query("c", both))) == 5


def test_a_query_without_its_composite_index_is_refused_and_names_it(sqlite: SQLiteStore) -> None:
    where, order = [Filter("kind", "==", "x")], [Order("at", descending=True)]
    with pytest.raises(StoreError, match=r"'meals'.*\('kind', '-at'\)"):
        sqlite.query(Query("apps/demo/users/ada/meals", where, order))
    with pytest.raises(StoreError, match="index"):
        sqlite.query(Query("apps/demo/users/ada/meals", where, order, indexes=[("kind", "at")]))
    sqlite.query(Query("apps/demo/users/ada/meals", where, order, indexes=[("kind", "-at")]))
    sqlite.query(Query("apps/demo/jobs", [Filter("uid", "==", "x")], [Order("created_at", descending=True)]))


KINDS = (
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.sampled_from(["a", "b", "ab"])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5).filter(
        lambda text: not text.startswith(("\x01", "\U0010ffff"))
    ),
    st.binary(max_size=3),
    st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - the zone is beside
)
SCALARS = st.none() | st.one_of(*KINDS)
NAMES = st.text(max_size=4) | st.sampled_from(["__x__", "_", "", "a.b", "n"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)
TOGETHER = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcome(store: DocumentStore, path: str, data: dict[str, Any]) -> Any:
    try:
        store.commit([Set(path, data)])
    except (FirelaunchError, ValueError):
        return "refused"
    found = store.get(path)
    return None if found is None else found.data


@TOGETHER
@given(data=st.dictionaries(NAMES, VALUES, max_size=4))
def test_both_stores_take_or_refuse_the_same_documents(
    sqlite: SQLiteStore, emulator_store: FirestoreStore, data: dict[str, Any]
) -> None:
    assert outcome(sqlite, "c/a", data) == outcome(emulator_store, "c/a", data)


OPS: list[Op] = ["==", "!=", "<", "<=", ">", ">=", "in"]
FILTERS = st.builds(
    lambda op, value, more: Filter("n", op, [value, *more] if op == "in" else value),
    st.sampled_from(OPS),
    SCALARS,
    st.lists(SCALARS, max_size=3),
)


def page_through(store: DocumentStore, query: Query, size: int) -> Any:
    try:
        seen: list[str] = []
        after = None
        fields = [order.field for order in query.order]
        while page := store.query(Query(query.collection, query.where, query.order, size, after, query.indexes)):
            seen += [found.id for found in page]
            after = [*(page[-1].data[field] for field in fields), page[-1].id]
        return seen, store.count(query)
    except (FirelaunchError, ValueError):
        return "refused"


@TOGETHER
@given(
    values=st.one_of(*(st.lists(st.none() | kind, min_size=1, max_size=8) for kind in KINDS)),
    where=st.lists(FILTERS, max_size=1),
    descending=st.none() | st.booleans(),
    size=st.integers(1, 4),
)
def test_both_stores_find_the_same_documents_in_the_same_order_page_by_page(
    sqlite: SQLiteStore,
    emulator_store: FirestoreStore,
    values: list[Any],
    where: list[Filter],
    descending: bool | None,
    size: int,
) -> None:
    for store in (sqlite, emulator_store):
        store.delete_tree("c")
        store.commit([Set(f"c/d{number}", {"n": value}) for number, value in enumerate(values)])
    unequal = [item for item in where if item.op not in {"==", "in"}]
    order = [Order("n", descending=bool(descending))] if descending is not None or unequal else []
    query = Query("c", where, order)
    assert page_through(sqlite, query, size) == page_through(emulator_store, query, size)


PLAIN = st.one_of(*KINDS)
LISTS = st.lists(st.none() | PLAIN, max_size=4) | PLAIN | st.none() | st.dictionaries(st.just("x"), PLAIN, max_size=1)


@TOGETHER
@given(
    values=st.lists(LISTS, min_size=1, max_size=6),
    other=PLAIN | st.none(),
    pick=st.none() | st.integers(0, 20),
    size=st.integers(1, 4),
)
def test_both_stores_find_the_same_documents_by_an_item_of_a_list(
    sqlite: SQLiteStore, emulator_store: FirestoreStore, values: list[Any], other: Any, pick: int | None, size: int
) -> None:
    """Asked for is an item of one of the lists, or another value."""
    for store in (sqlite, emulator_store):
        store.delete_tree("c")
        store.commit(
            [Set(f"c/d{number}", {"n": value, "even": number % 2 == 0}) for number, value in enumerate(values)]
        )
    items = [item for value in values if isinstance(value, list) for item in value]
    wanted = other if pick is None or not items else items[pick % len(items)]
    contains = Filter("n", "array_contains", wanted)
    for where in ([contains], [contains, Filter("even", "==", True)], [contains, Filter("even", "in", [True, 1])]):
        query = Query("c", where)
        found = page_through(sqlite, query, size)
        assert found == page_through(emulator_store, query, size)
        assert found == "refused" or wanted is not None
    for refused in (Query("c", [contains, contains]), Query("c", [contains], [Order("even")])):
        with pytest.raises(StoreError):
            sqlite.query(refused)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(st.sampled_from(["a", "b"]), st.none() | st.integers(0, 3)), min_size=1, max_size=8),
    kind=st.sampled_from(
        [Filter("kind", "==", "a"), Filter("kind", "in", ["a", "b"]), Filter("kind", "in", ["b", "x"])]
    ),
    bounds=st.sampled_from(
        [[], [Filter("n", ">", 0)], [Filter("n", ">=", 1), Filter("n", "<", 3)], [Filter("n", "!=", 1)]]
    ),
    descending=st.booleans(),
    size=st.integers(1, 4),
)
def test_both_stores_page_alike_through_a_query_of_two_fields(
    sqlite: SQLiteStore,
    emulator_store: FirestoreStore,
    rows: list[tuple[str, int | None]],
    kind: Filter,
    bounds: list[Filter],
    descending: bool,
    size: int,
) -> None:
    for store in (sqlite, emulator_store):
        store.delete_tree("c")
        store.commit([Set(f"c/d{at}", {"kind": value, "n": number}) for at, (value, number) in enumerate(rows)])
    indexes = [("kind", "-n" if descending else "n")]
    query = Query("c", [kind, *bounds], [Order("n", descending)], indexes=indexes)
    assert page_through(sqlite, query, size) == page_through(emulator_store, query, size)
