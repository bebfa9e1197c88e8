"""An app's documents, out of one database and into another: whole, in any interruption, and no others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from firelaunch.errors import StoreError
from firelaunch.store.base import Document, GeoPoint, Reference, Set, TreeStore, Vector, Write
from firelaunch.store.firestore import FirestoreStore
from firelaunch.store.json_values import decoded, encoded
from firelaunch.store.sqlite import SQLiteStore
from firelaunch_cli.transfer import file as transfer
from firelaunch_cli.transfer.file import TransferError, export, load
from hypothesis import given
from hypothesis import strategies as st

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
VALUES = {
    "nothing": None,
    "yes": True,
    "small": -5,
    "big": 2**63 - 1,
    "half": 0.5,
    "whole": 2.0,
    "text": "Grüße\x01 \U0001f525 \u2028",
    "bytes": b"\x00\xff",
    "time": NOON,
    "list": [1, "two", {"three": [3]}],
    "map": {"a.b": {"c": None}},
}
SPECIAL = {"vector": Vector((0.5, -1.0)), "place": GeoPoint(1.5, -2.5), "friend": Reference("apps/demo/users/ada")}


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "from.sqlite3")
    yield store
    store.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "to.sqlite3")
    yield store
    store.close()


def fill(store: TreeStore, count: int = 30) -> None:
    store.commit([Set("apps/demo", {"name": "Demo"}), Set("apps/demo-2/users/eve", {}), Set("apps/other", {})])
    store.commit([Set(f"apps/demo/users/ada/chats/c{n:02}", {**VALUES, "n": n}) for n in range(count)])


def all_of(store: TreeStore, path: str = "apps/demo") -> dict[str, Any]:
    return {document.path: document.data for document in store.walk(path)}


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.just(UTC))
    | st.builds(GeoPoint, st.floats(-90, 90), st.floats(-180, 180))
    | st.builds(Reference, st.text(min_size=1))
    | st.builds(lambda items: Vector(tuple(items)), st.lists(st.floats(allow_nan=False), min_size=1)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text().filter(lambda key: key != "__type__"), inner),
)


@given(plain)
def test_every_value_comes_back_from_json_as_it_was_and_of_its_type(value: Any) -> None:
    back = decoded(json.loads(json.dumps(encoded(value), allow_nan=False)))
    assert back == value
    assert type(back) is type(value)


def test_numbers_that_json_has_no_form_for_come_back() -> None:
    assert encoded(float("inf")) == {"doubleValue": "Infinity"}
    assert decoded({"doubleValue": "-Infinity"}) == float("-inf")
    assert str(decoded(json.loads(json.dumps(encoded(float("nan")))))) == "nan"


@pytest.mark.parametrize(
    "value", [{}, {"stringValue": 1}, {"x": 1}, {"integerValue": "1.5"}, {"a": 1, "b": 2}, {"timestampValue": "noon"}]
)
def test_what_is_no_value_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not in the form|is no|invalid|could not|Invalid|unpack"):
        decoded(value)


def test_an_apps_documents_and_no_others_come_into_another_database(
    sqlite: SQLiteStore, other: SQLiteStore, tmp_path: Path
) -> None:
    fill(sqlite)
    other.commit([Set("apps/demo/users/bob", {"was": "there"})])
    done = export(sqlite, "demo", tmp_path / "data.jsonl")
    assert done.documents == 31
    assert load(other, "demo", tmp_path / "data.jsonl", "other").documents == 31
    assert all_of(other) == all_of(sqlite) | {"apps/demo/users/bob": {"was": "there"}}
    assert all_of(other, "apps/demo-2") == {}
    assert (tmp_path / "data.jsonl").stat().st_mode & 0o077 == 0, "only for who exported it"


def test_firestore_to_firestore_keeps_its_own_types(
    emulator_store: FirestoreStore, sqlite: SQLiteStore, tmp_path: Path
) -> None:
    emulator_store.commit([Set("apps/demo/users/ada/notes/n1", {**VALUES, **SPECIAL, "list": [SPECIAL["place"]]})])
    before = all_of(emulator_store)
    export(emulator_store, "demo", tmp_path / "data.jsonl")
    emulator_store.delete_tree("apps/demo")
    assert all_of(emulator_store) == {}
    load(emulator_store, "demo", tmp_path / "data.jsonl", "emulator")
    assert all_of(emulator_store) == before
    found = before["apps/demo/users/ada/notes/n1"]
    assert {key: found[key] for key in SPECIAL} == SPECIAL
    with pytest.raises(TransferError, match="apps/demo/users/ada/notes/n1"):
        load(sqlite, "demo", tmp_path / "data.jsonl", "sqlite")  # which has no such types: said, not dropped


def test_firestore_to_a_laptop_and_back(emulator_store: FirestoreStore, sqlite: SQLiteStore, tmp_path: Path) -> None:
    fill(emulator_store, 130)
    export(emulator_store, "demo", tmp_path / "down.jsonl")
    load(sqlite, "demo", tmp_path / "down.jsonl", "laptop")
    before = all_of(emulator_store)
    assert all_of(sqlite) == before
    emulator_store.delete_tree("apps/demo")
    export(sqlite, "demo", tmp_path / "up.jsonl")
    load(emulator_store, "demo", tmp_path / "up.jsonl", "cloud")
    assert all_of(emulator_store) == before


def test_an_export_that_was_cut_anywhere_goes_on_and_ends_the_same(sqlite: SQLiteStore, tmp_path: Path) -> None:
    fill(sqlite, 4)
    export(sqlite, "demo", tmp_path / "whole.jsonl")
    whole = (tmp_path / "whole.jsonl").read_bytes()
    for cut in range(0, len(whole), 7):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(whole[:cut])
        assert export(sqlite, "demo", path).documents == 5
        assert path.read_bytes() == whole, cut


def test_a_whole_export_is_let_be(sqlite: SQLiteStore, tmp_path: Path) -> None:
    fill(sqlite)
    export(sqlite, "demo", tmp_path / "data.jsonl")
    whole = (tmp_path / "data.jsonl").read_bytes()
    sqlite.commit([Set("apps/demo/zoo/new", {})])
    assert export(sqlite, "demo", tmp_path / "data.jsonl").before == 31
    assert (tmp_path / "data.jsonl").read_bytes() == whole


class Failing(SQLiteStore):
    """Takes so many commits, and is then gone."""

    def __init__(self, path: Path, commits: int) -> None:
        super().__init__(path)
        self.left = commits
        self.taken: list[str] = []

    def commit(self, writes: Sequence[Write]) -> datetime:
        if self.left == 0:
            raise StoreError(reason="gone")
        self.left -= 1
        self.taken += [write.path for write in writes]
        return super().commit(writes)


def test_an_import_goes_on_where_it_was_interrupted(
    sqlite: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_BATCH_WRITES", 10)
    fill(sqlite, 44)
    path = tmp_path / "data.jsonl"
    export(sqlite, "demo", path)
    with pytest.raises(TransferError, match="after 20 documents"):
        load(Failing(tmp_path / "to.sqlite3", 2), "demo", path, "there")
    store = Failing(tmp_path / "to.sqlite3", 99)
    done = load(store, "demo", path, "there")
    assert (done.documents, done.before) == (25, 20)
    assert len(store.taken) == 25
    assert all_of(store) == all_of(sqlite)
    elsewhere = Failing(tmp_path / "elsewhere.sqlite3", 99)
    assert load(elsewhere, "demo", path, "elsewhere").documents == 45, "another database begins anew"
    path.unlink()
    sqlite.commit([Set("apps/demo/zoo/new", {})])
    export(sqlite, "demo", path)
    assert load(elsewhere, "demo", path, "elsewhere").documents == 46, "so does another file"


def test_batches_stay_below_what_a_commit_may_hold(sqlite: SQLiteStore, tmp_path: Path) -> None:
    big = {"text": "x" * 900_000}
    for n in range(12):
        sqlite.commit([Set(f"apps/demo/big/b{n}", big)])
    export(sqlite, "demo", tmp_path / "data.jsonl")
    store = Failing(tmp_path / "to.sqlite3", 3)
    assert load(store, "demo", tmp_path / "data.jsonl", "there").documents == 12


@pytest.mark.parametrize(
    "line",
    [
        {"path": "apps/other/users/eve", "fields": {}},
        {"path": "apps/demo-2", "fields": {}},
        {"path": "apps/demo/../other/x", "fields": {}},
        {"path": "apps/demo/users", "fields": {}},
        {"path": "membership_locks/x", "fields": {}},
        {"path": 7, "fields": {}},
        {"path": "apps/demo/users/ada"},
        {"path": "apps/demo/users/ada", "fields": {"a": {"stringValue": 1}}},
    ],
    ids=str,
)
def test_a_line_that_leads_out_of_the_app_or_is_none_ends_the_import(
    sqlite: SQLiteStore, other: SQLiteStore, tmp_path: Path, line: dict[str, Any]
) -> None:
    fill(sqlite, 1)
    path = tmp_path / "data.jsonl"
    export(sqlite, "demo", path)
    header, *lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([header, json.dumps(line).encode() + b"\n", *lines]))
    with pytest.raises(TransferError, match="cannot be imported"):
        load(other, "demo", path, "there")
    assert all_of(other, "apps/other") == {}


def test_a_file_that_is_not_whole_or_anothers_is_refused(
    sqlite: SQLiteStore, other: SQLiteStore, tmp_path: Path
) -> None:
    fill(sqlite)
    path = tmp_path / "data.jsonl"
    export(sqlite, "demo", path)
    for app in ("demo-2", "dem"):
        with pytest.raises(TransferError, match="no export of"):
            load(other, app, path, "there")
        with pytest.raises(TransferError, match="no export of"):
            export(sqlite, app, path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(TransferError, match="not whole"):
        load(other, "demo", path, "there")
    path.write_bytes(b"my shopping list\n")
    with pytest.raises(TransferError, match="line 1"):
        export(sqlite, "demo", path)
    assert path.read_bytes() == b"my shopping list\n"


def test_documents_are_streamed_and_not_gathered(tmp_path: Path) -> None:
    """A walk that never ends is written down as it goes."""

    class Endless(SQLiteStore):
        def walk(self, path: str, after: str | None = None) -> Iterator[Document]:
            assert after is None
            for n in range(10**9):
                if n == 1000:
                    raise StoreError(reason="gone")
                yield Document(f"{path}/a/{n:09}", {}, NOON, NOON)

    path = tmp_path / "data.jsonl"
    with pytest.raises(StoreError):
        export(Endless(tmp_path / "x.sqlite3"), "demo", path)
    assert path.read_bytes().count(b"\n") == 1001
