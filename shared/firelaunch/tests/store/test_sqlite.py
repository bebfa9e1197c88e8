"""What is SQLite's own: the file, crashes, several processes; and that it never differs from the emulator."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from firelaunch.errors import FirelaunchError, StoreError
from firelaunch.store.base import (
    DELETE_FIELD,
    Create,
    Delete,
    Filter,
    Increment,
    Order,
    Query,
    Set,
    Transaction,
    Update,
)
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.store.sqlite_queries import select
from firelaunch.testing.emulator import Emulator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_the_file_is_its_owners_alone_and_survives_closing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "data.sqlite3"
    store = SQLiteStore(path)
    store.commit([Create("c/a", {"n": 1})])
    store.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    again = SQLiteStore(path)
    found = again.get("c/a")
    assert found is not None
    assert found.data == {"n": 1}
    again.close()
    with pytest.raises(StoreError):
        again.get("c/a")


def test_nothing_of_it_is_written_outside_its_folder_not_even_for_a_moment(tmp_path: Path) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        from firelaunch.store.base import Set
        from firelaunch.store.sqlite import SQLiteStore
        store = SQLiteStore(Path(sys.argv[1]))
        for number in range(3):
            store.commit([Set(f"apps/a/things/{each}", {"text": f"{number}" * 20_000}) for each in range(20)])
    """
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    before = temporary.stat().st_mtime_ns
    command = [sys.executable, "-c", code, str(tmp_path / "data.sqlite3")]
    subprocess.run(command, check=True, env={**os.environ, "SQLITE_TMPDIR": str(temporary)})
    assert temporary.stat().st_mtime_ns == before


def test_a_page_of_a_long_collection_is_read_through_an_index(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "data.sqlite3")
    store.commit(
        [
            Create(f"c/d{n}", {"created_at": NOON + timedelta(seconds=n), "updated_at": NOON, "due_at": NOON})
            for n in range(50)
        ]
    )
    connection = sqlite3.connect(tmp_path / "data.sqlite3")
    for field in ("created_at", "updated_at", "due_at"):
        for query in (
            Query("c", where=[Filter(field, "<=", NOON)], limit=5),
            Query("c", order=[Order(field, descending=True)], limit=5),
            Query("c", order=[Order(field, descending=True)], limit=5, after=[NOON, "d3"]),
        ):
            sql, values = select(query)
            plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values))
            assert f"USING INDEX with_{field}" in plan
            assert "TEMP B-TREE" not in plan
    connection.close()
    store.close()


@pytest.mark.parametrize(
    "query",
    [
        Query("apps/a/jobs", where=[Filter("uid", "==", "ada")], order=[Order("created_at", descending=True)], limit=5),
        Query("apps/a/jobs", where=[Filter("uid", "==", "ada")], limit=5),
        Query("apps/a/jobs", order=[Order("rank")], limit=5),
    ],
    ids=["a filter and an order", "a filter", "an order"],
)
def test_a_query_is_answered_through_an_index_as_firestore_has_one(tmp_path: Path, query: Query) -> None:
    """Otherwise a user's list would take as long as all users together have documents."""
    store = SQLiteStore(tmp_path / "data.sqlite3")
    fields = {"created_at": NOON, "rank": 1}
    store.commit([Create(f"apps/a/jobs/j{n:02}", {**fields, "uid": ("ada", "ben")[n % 2]}) for n in range(50)])
    assert len(store.query(query)) == store.count(query) == 5
    connection = sqlite3.connect(tmp_path / "data.sqlite3")
    sql, values = select(query)
    plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values))
    assert "USING INDEX own_" in plan
    assert "TEMP B-TREE" not in plan
    connection.close()
    store.close()


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("where", [[], [Filter("kind", "==", "x")]])
@pytest.mark.parametrize("alike", [1, 3_000], ids=["one of a kind", "all alike"])
def test_a_late_page_of_an_apps_own_collection_costs_as_much_as_the_first(
    tmp_path: Path, descending: bool, where: list[Filter], alike: int
) -> None:
    """Measured in steps of SQLite's machine, not in time. All documents may have the value by which they are sorted."""
    store, count = SQLiteStore(tmp_path / "data.sqlite3"), 3_000
    for first in range(0, count, 500):
        store.commit([Create(f"c/d{n:04}", {"at": n // alike, "kind": "x"}) for n in range(first, first + 500)])

    def steps(number: int | None) -> int:
        after = None if number is None else [number // alike, f"d{number:04}"]
        query = Query("c", where, [Order("at", descending)], 20, after, [("kind", "-at" if descending else "at")])
        assert len(store.query(query)) == 20
        sql, values = select(query)
        taken = []
        connection = sqlite3.connect(tmp_path / "data.sqlite3")
        connection.set_progress_handler(lambda: taken.append(1), 1)
        connection.execute(sql, values).fetchall()
        connection.close()
        return len(taken)

    assert steps(100 if descending else count - 100) < 2 * steps(None)
    store.close()


@pytest.mark.parametrize("field", ["a'b", "a b", "a)", "", "1a", "a..b", "a;--", '$"', "ä b"])
def test_a_field_name_is_never_sql(tmp_path: Path, field: str) -> None:
    store = SQLiteStore(tmp_path / "data.sqlite3")
    for query in (Query("c", order=[Order(field)]), Query("c", where=[Filter(field, "==", 1)])):
        with pytest.raises(StoreError):
            store.query(query)
    store.close()


def test_while_one_thread_writes_the_others_read_what_was_before_and_closing_closes_all_connections(
    tmp_path: Path,
) -> None:
    store = SQLiteStore(tmp_path / "data.sqlite3")
    store.commit([Create("c/a", {"n": 0})])
    done = threading.Event()
    found: list[Any] = []

    def read() -> None:
        found.append((store.get("c/a"), store.query(Query("c")), store.count(Query("c"))))
        done.wait(30)  # its connection stays open

    def write(transaction: Transaction) -> None:
        transaction.write(Set("c/a", {"n": 1}), Create("c/b", {}))
        for thread in threads:
            thread.start()
        give_up = time.monotonic() + 30
        while len(found) < len(threads) and time.monotonic() < give_up:
            time.sleep(0.005)

    threads = [threading.Thread(target=read) for _ in range(8)]
    store.transaction(write)
    assert [(one.data, len(many), count) for one, many, count in found] == [({"n": 0}, 1, 1)] * 8
    assert store.get("c/a").data == {"n": 1}
    store.close()
    assert not (tmp_path / "data.sqlite3-wal").exists()
    done.set()
    for thread in threads:
        thread.join()


WRITER = """
import sys
from firelaunch.store.base import Increment, Set
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.store.sqlite_queries import select
store = SQLiteStore(sys.argv[1])
for n in range(int(sys.argv[2])):
    store.commit([Set("c/counter", {"n": Increment(1)}, merge=True), Set(f"c/{sys.argv[3]}-{n}", {"n": n})])
    print(n, flush=True)
"""


def writer(path: Path, count: int, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), str(count), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_that_open_a_new_file_at_once_and_write_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "data.sqlite3"
    running = [writer(path, 50, f"p{number}") for number in range(4)]
    for process in running:
        process.communicate()
        assert process.returncode == 0
    store = SQLiteStore(path)
    counter = store.get("c/counter")
    assert counter is not None
    assert counter.data == {"n": 200}
    assert store.count(Query("c")) == 201
    store.close()


def test_kill_9_in_the_middle_of_writing_loses_no_commit_and_leaves_none_half(tmp_path: Path) -> None:
    path = tmp_path / "data.sqlite3"
    process = writer(path, 100_000, "p")
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 100:
            break
    process.send_signal(signal.SIGKILL)
    said = int((process.communicate()[0].strip().splitlines() or ["100"])[-1].strip() or 100)
    store = SQLiteStore(path)
    counter = store.get("c/counter")
    assert counter is not None
    assert counter.data["n"] == store.count(Query("c")) - 1
    assert counter.data["n"] > said - 1
    store.commit([Set("c/after", {})])
    store.close()


SCALARS = (
    st.none()
    | st.integers(-5, 5)
    | st.sampled_from([0.5, 2.0, -1.5, "", "a", "b", "é", b"", b"\x00", b"a", NOON, NOON + timedelta(microseconds=1)])
)
ODD = st.sampled_from(["\u0001t", "\u0001", "\U0010ffffb", True, False])
VALUES = (
    SCALARS
    | ODD
    | st.dictionaries(st.sampled_from(["x", "y"]), SCALARS | ODD, max_size=2)
    | st.lists(SCALARS, max_size=2)
)
# "a" is what queries sort and compare by, so it holds what both stores sort the same.
DATA = st.fixed_dictionaries({}, optional={"a": SCALARS, "b": VALUES, "m": VALUES})
PATHS = st.sampled_from(["c/1", "c/2", "c/3", "c/1/s/x"])
GONE = st.just(DELETE_FIELD) | st.integers(-3, 3).map(Increment)
CHANGES = st.fixed_dictionaries({}, optional={"a": SCALARS | GONE, "b": VALUES | GONE, "m.x": VALUES | GONE}).filter(
    bool
)
WRITES = (
    st.builds(Create, PATHS, DATA)
    | st.builds(Set, PATHS, DATA)
    | st.builds(lambda path, data: Set(path, data, merge=True), PATHS, DATA)
    | st.builds(Update, PATHS, CHANGES)
    | st.builds(Delete, PATHS)
)
FILTERS = st.builds(Filter, st.just("a"), st.sampled_from(["==", "<", "<=", ">", ">="]), SCALARS).filter(
    lambda item: item.value is not None or item.op == "=="
)
QUERIES = st.builds(
    lambda where, order, limit: Query("c", where, order, limit),
    st.lists(FILTERS, max_size=1),
    st.sampled_from([[], [Order("a")], [Order("a", descending=True)]]),
    st.sampled_from([None, 1, 2]),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    commits=st.lists(st.lists(WRITES, min_size=1, max_size=3, unique_by=lambda w: w.path), max_size=6),
    queries=st.lists(QUERIES, max_size=4),
)
def test_any_writes_and_queries_give_the_same_on_sqlite_and_on_the_emulator(
    firestore_emulator: Emulator, tmp_path_factory: Any, commits: Any, queries: Any
) -> None:
    import secrets

    here = SQLiteStore(tmp_path_factory.mktemp("sqlite") / "data.sqlite3")
    there = firestore_emulator.store(f"demo-{secrets.token_hex(8)}")

    def outcome(store: Any, work: Any) -> Any:
        try:
            return work(store)
        except FirelaunchError as error:
            return type(error)

    def state(store: Any) -> Any:
        found = store.get_many(["c/1", "c/2", "c/3", "c/1/s/x"])
        return [None if document is None else dict(document.data) for document in found]

    for writes in commits:
        first, second = (outcome(store, lambda s: s.commit(writes) and "done") for store in (here, there))  # noqa: B023
        assert first == second
        assert state(here) == state(there)
    for query in queries:
        first, second = (outcome(store, lambda s: [d.id for d in s.query(query)]) for store in (here, there))  # noqa: B023
        assert first == second
    here.close()
    there.close()


def test_a_comparison_or_a_field_that_holds_sql_is_refused(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "data.sqlite3")
    store.commit([Create("apps/other", {"n": 1})])
    for item in (Filter("n", "= ?) OR 1=1 --", 1), Filter("n') OR 1=1 --", "==", 1)):  # type: ignore[arg-type]
        with pytest.raises(StoreError):
            store.query(Query("apps/demo/users", [item]))
    store.close()


def test_many_reads_at_once_beside_a_write_leave_few_connections_open(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "data.sqlite3")
    store.commit([Create("c/a", {"n": 1})])
    all_read = threading.Barrier(40, timeout=30)

    class Paths(list[str]):
        def __iter__(self) -> Iterator[str]:
            all_read.wait()  # each thread has a connection now
            return super().__iter__()

    def logs_open() -> int:
        # SQLite keeps the database's own file open for the next connection, but not its log.
        files = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return files.count(tmp_path / "data.sqlite3-wal")

    def while_it_is_written_to(_: Transaction) -> None:
        with ThreadPoolExecutor(40) as pool:
            documents = list(pool.map(lambda _: store.get_many(Paths(["c/a"])), range(40)))
        assert all(document is not None for [document] in documents)

    store.transaction(while_it_is_written_to)
    assert logs_open() <= 1 + 8
    store.close()


def test_what_was_removed_is_in_no_file_after_a_scrub(tmp_path: Path) -> None:
    """Also what a document held before it was changed, and with another connection open."""
    store, other = SQLiteStore(tmp_path / "s.sqlite3"), SQLiteStore(tmp_path / "s.sqlite3")
    for number in range(300):
        store.commit([Set(f"a/x/b/{number}", {"text": f"secret-word {number} " * 40})])
    store.commit([Set("a/x/b/1", {"text": "else"}), Set("a/y", {"text": "stays"})])
    assert other.get("a/y") is not None
    store.delete_tree("a/x")
    store.scrub()
    found = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"secret-word" not in found
    assert b"stays" in found
    store.close()
    other.close()
